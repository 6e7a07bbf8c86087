"""Work that goes on beside other work: what takes a processor and what takes the network, at the same time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Do `work` in a thread while the body runs, and wait for it at the end; what it raised is raised there.

    A body that is broken off waits for nobody: the thread ends with the process, and so do the programs that it
    started (`harness.base.process.run`).
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="beside", daemon=True)
    thread.start()
    yield
    thread.join()
    if raised:
        raise raised[0]
