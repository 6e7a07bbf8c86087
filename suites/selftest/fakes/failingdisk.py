"""A disk of the controller that fails when a test says so: whatever would change something below one folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

Fails = Callable[[str], int]
"""Gets what is about to be done (`mkdir`, `write`...), gives the errno it fails with, or 0."""

_BY_PATH = ("mkdir", "rename", "replace", "unlink", "chmod", "rmdir", "symlink")
_BY_HANDLE = ("write", "fsync", "ftruncate", "fchmod")
_MAKES = os.O_CREAT | os.O_WRONLY | os.O_RDWR


class FailingDisk:
    """While it is entered, the functions of `os` that change a disk ask it first."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._real: dict[str, Any] = {}
        self._fails: Fails | None = None

    def fails(self, fails: Fails | None) -> None:
        """From now on; None: it is well again."""
        self._fails = fails

    def __enter__(self) -> Self:
        for name in (*_BY_PATH, *_BY_HANDLE, "open"):
            self._real[name] = getattr(os, name)
        for name in _BY_PATH:
            setattr(os, name, self._path(name))
        for name in _BY_HANDLE:
            setattr(os, name, self._handle(name))
        setattr(os, "open", self._open)  # noqa: B010
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def _ask(self, name: str, path: object) -> None:
        if self._fails is not None and str(path).startswith(self._folder):
            number = self._fails(name)
            if number:
                raise OSError(number, os.strerror(number), str(path))

    def _path(self, name: str) -> Callable[..., Any]:
        def call(path: Any, *more: Any, **named: Any) -> Any:  # noqa: ANN401
            self._ask(name, os.fspath(path) if not isinstance(path, int) else "")
            return self._real[name](path, *more, **named)

        return call

    def _handle(self, name: str) -> Callable[..., Any]:
        def call(handle: int, *more: Any) -> Any:  # noqa: ANN401
            self._ask(name, Path(f"/proc/self/fd/{handle}").readlink())
            return self._real[name](handle, *more)

        return call

    def _open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:  # noqa: ANN401
        if flags & _MAKES:
            new = not os.path.lexists(path)
            if new or flags & (os.O_WRONLY | os.O_RDWR):
                self._ask("open", os.fspath(path))
        handle: int = self._real["open"](path, flags, *more, **named)
        return handle
