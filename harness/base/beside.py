"""Work that goes on beside other work: what takes a processor and what takes the network, at the same time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from harness.base.process import KILL_GRACE, end_all


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Do `work` in a thread while the body runs, and wait for it at the end; what it raised is raised there.

    A body that is broken off ends the programs that the work waits for, and gives it the time to clean up after them.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="beside", daemon=True)
    thread.start()
    try:
        yield
        thread.join()
    except BaseException:
        end_all()
        thread.join(KILL_GRACE)
        raise
    if raised:
        raise raised[0]
