"""Things that take long to build, kept under the user's cache directory and addressed by their recipe's digest.

An entry exists only under its final name, and only after everything in it reached the disk: a directory is built
under `building/`, gets its manifest, is synced and then renamed. Whoever builds holds a lock on the digest; the
lock dies with its holder, so whatever lies under `building/` with a free lock was left behind by a dead builder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.base.deadline import Deadline, poll
from harness.base.errors import CommandFailed, LabError, LockHeld, UsageError
from harness.base.words import beside, home
from harness.nested.manifest import CacheManifest, sync_tree

VARIABLE = "MASKALL_CACHE"
_NO_SPACE = os.strerror(errno.ENOSPC)  # as programs print it, English under LC_ALL=C
_MIB = 1024 * 1024

Notice = Callable[[str], None]


class Recipe(Protocol):
    """How to make one entry. `digest` changes with everything that influences the content."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def needs_bytes(self) -> int:
        """Free space needed while it is being built."""

    def build(self, directory: Path) -> None:
        """Fill the empty `directory`."""


@dataclass(frozen=True)
class CacheEntry:
    """A finished thing in the cache; `fresh` if this call built it."""

    path: Path
    digest: str
    fresh: bool = False


def cache_root() -> Path:
    """$MASKALL_CACHE, else $XDG_CACHE_HOME/maskall, else ~/.cache/maskall."""
    own = os.environ.get(VARIABLE)
    if own:
        return beside(Path(), Path(own))
    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification says that a relative path is to be ignored.
    return (Path(base) if base and Path(base).is_absolute() else home("XDG_CACHE_HOME") / ".cache") / "maskall"


class Cache:
    """The cache directory `root` (made when first needed)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root()

    @property
    def _building(self) -> Path:
        return self.root / "building"

    def path_of(self, recipe: Recipe) -> Path:
        """Where the entry of `recipe` is or will be."""
        return self.root / "entries" / f"{recipe.name}-{recipe.digest[:16]}"

    def obtain(self, recipe: Recipe, *, deadline: Deadline, notice: Notice) -> CacheEntry:
        """The entry of `recipe`: the one that is there if it is whole, else a newly built one.

        `notice` hears one line about everything unusual. Raises LockHeld (another run builds it longer than
        `deadline`), LabError (no space; or whatever the recipe raises), UsageError (the directory cannot be used).
        """
        self._prepare()
        if self.verify(recipe) is None:
            os.utime(self.path_of(recipe))  # when it was last used, for `trim`
            return CacheEntry(self.path_of(recipe), recipe.digest)
        with self._lock(recipe.digest, deadline, notice):
            damage = self.verify(recipe)  # again: another run may have built it while we waited
            if damage is None:
                return CacheEntry(self.path_of(recipe), recipe.digest)
            path = self.path_of(recipe)
            if path.exists():
                notice(f"{path} is damaged ({damage}); building it again")
                remove_tree(path)
            self._remove_leftovers(recipe.digest, notice)
            check_space(self.root, recipe.needs_bytes, f"to build {recipe.name}")
            self._build(recipe, path)
            return CacheEntry(path, recipe.digest, fresh=True)

    def verify(self, recipe: Recipe) -> str | None:
        """None if the entry is whole, else what is wrong with it in a few words."""
        path = self.path_of(recipe)
        if not path.is_dir():
            return "not built yet"
        return CacheManifest.damage(path, recipe.digest)

    def trim(self, prefix: str, limit: int) -> None:
        """Of the entries whose name begins with `prefix`, keep the most recently used as far as `limit` bytes go."""
        entries = (self.root / "entries").glob(f"{prefix}*")
        used = sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)
        kept = 0
        for entry in used:
            kept += _allocated(entry)
            if kept > limit and entry != used[0]:
                remove_tree(entry)

    def clean(self) -> int:
        """Remove every entry and leftover; the bytes freed. Raises LockHeld while a build is going on."""
        if not self.root.is_dir():
            return 0
        with contextlib.ExitStack() as stack:
            for lock in sorted((self.root / "locks").glob("*.lock")):
                stack.enter_context(self._lock(lock.stem, Deadline.after(0), lambda _: None))
            freed = sum(_allocated(self.root / part) for part in ("entries", "building"))
            for part in ("entries", "building", "locks"):
                remove_tree(self.root / part)
        return freed

    def _prepare(self) -> None:
        try:
            for part in ("entries", "building", "locks"):
                (self.root / part).mkdir(parents=True, exist_ok=True)
            status = self.root.stat()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _no_space(self.root, 0, "for the cache directory") from error
            hint = f"set {VARIABLE} to a directory you can write to"
            raise UsageError(f"cannot use the cache directory {self.root}: {error.strerror}", hint=hint) from error
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & stat.S_IWOTH:  # what lies there is executed
            hint = f"set {VARIABLE} to a directory of your own"
            raise UsageError(f"the cache directory {self.root} is not yours alone to write to", hint=hint)

    @contextlib.contextmanager
    def _lock(self, digest: str, deadline: Deadline, notice: Notice) -> Iterator[None]:
        path = self.root / "locks" / f"{digest}.lock"
        descriptor = _locked(path)
        if descriptor is None and not deadline.expired:
            notice("another run is building the same; waiting for it")
            descriptor = poll(lambda: _locked(path), deadline, every=0.1)
        if descriptor is None:
            raise LockHeld(f"another run is building {digest[:16]}", hint="try again when it has finished")
        try:
            yield
        finally:
            os.close(descriptor)

    def _remove_leftovers(self, own: str, notice: Notice) -> None:
        """Remove what dead builders left: ours (we hold the lock), and those whose lock nobody holds."""
        for left in self._building.iterdir():
            digest = left.name.partition(".")[0]
            with contextlib.ExitStack() as stack:
                if digest != own:
                    try:
                        stack.enter_context(self._lock(digest, Deadline.after(0), notice))
                    except LockHeld:
                        continue
                notice(f"removing what an interrupted build left behind: {left}")
                remove_tree(left)

    def _build(self, recipe: Recipe, path: Path) -> None:
        directory = Path(tempfile.mkdtemp(prefix=f"{recipe.digest}.", dir=self._building))
        try:
            recipe.build(directory)
            CacheManifest.of(directory, recipe.digest).write(directory)
            sync_tree(directory)
            directory.rename(path)
            sync_tree(path.parent, deep=False)
        except BaseException as error:
            remove_tree(directory)
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or (isinstance(error, CommandFailed) and _NO_SPACE in error.message):
                raise _no_space(self.root, recipe.needs_bytes, f"while building {recipe.name}") from error
            raise


def check_space(directory: Path, needed: int, why: str) -> None:
    """Raise LabError unless the file system of `directory` has `needed` bytes free."""
    if _free(directory) < needed:
        raise _no_space(directory, needed, why)


def _allocated(directory: Path) -> int:
    return sum(file.lstat().st_blocks * 512 for file in directory.rglob("*"))


def remove_tree(path: Path) -> None:
    """Remove a directory with read-only ones inside; nothing happens if it is not there."""
    if not path.exists():
        return
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def _locked(path: Path) -> int | None:
    """A descriptor holding the lock on `path`, None if somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # clean() may have removed the file between our open and our lock: then we hold a lock nobody else sees.
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _free(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _no_space(directory: Path, needed: int, why: str) -> LabError:
    return LabError(
        f"no space {why}: {directory} has {_free(directory) // _MIB} MiB free, {-(-needed // _MIB)} MiB are needed",
        hint=f"free some, or set {VARIABLE} to a directory on a larger disk",
    )
