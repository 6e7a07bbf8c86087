"""The cache: an entry is whole or it is not there, whoever dies, races, or runs out of space."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import CommandFailed, LabError, LockHeld, UsageError
from harness.nested.cache import Cache, cache_root
from harness.nested.manifest import SMALL
from suites.selftest.fakes.patience import soon


@dataclass
class Fake:
    """A recipe that writes two files; `error` is raised after the first."""

    digest: str = "d" * 64
    error: Exception | None = None
    needs_bytes: int = 1
    seconds: float = 0.0
    name: str = "fake"
    built: list[Path] = field(default_factory=list)

    def build(self, directory: Path) -> None:
        self.built.append(directory)
        (directory / "small").write_text("content")
        if self.error:
            raise self.error
        time.sleep(self.seconds)
        (directory / "large").write_bytes(b"x" * (SMALL + 1))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


class Notices(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def obtain(cache: Cache, recipe: Fake, notices: Notices | None = None, seconds: float = 20) -> Path:
    heard = notices if notices is not None else Notices()
    return cache.obtain(recipe, deadline=Deadline.after(seconds), notice=heard).path


def half_done(cache: Cache) -> list[Path]:
    return [path for part in ("building", "entries") for path in (cache.root / part).iterdir()]


def test_built_once_then_found(cache: Cache) -> None:
    recipe, notices = Fake(), Notices()
    path = obtain(cache, recipe, notices)
    assert (path / "small").read_text() == "content"
    assert obtain(cache, recipe, notices) == path
    assert len(recipe.built) == 1
    assert notices == []
    assert list((cache.root / "building").iterdir()) == []


def test_another_digest_is_another_entry(cache: Cache) -> None:
    assert obtain(cache, Fake()) != obtain(cache, Fake(digest="e" * 64))


def truncate(path: Path) -> None:
    os.truncate(path / "large", 5)


def change_small(path: Path) -> None:
    (path / "small").write_text("CONTENT")


def write_large(path: Path) -> None:
    with (path / "large").open("r+b") as file:
        file.write(b"y")


def remove_file(path: Path) -> None:
    (path / "large").unlink()


def remove_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def garble_manifest(path: Path) -> None:
    (path / "manifest.json").write_text('{"files": 3}')


@pytest.mark.parametrize("damage", [truncate, change_small, write_large, remove_file, remove_manifest, garble_manifest])
def test_damage_is_noticed_and_mended(cache: Cache, damage: object) -> None:
    recipe, notices = Fake(), Notices()
    path = obtain(cache, recipe)
    assert callable(damage)
    damage(path)
    assert obtain(cache, recipe, notices) == path
    assert len(recipe.built) == 2
    assert [notice for notice in notices if "damaged" in notice] == notices != []
    assert cache.verify(recipe) is None


def test_two_threads_build_once(cache: Cache) -> None:
    recipe, notices = Fake(seconds=0.5), Notices()
    threads = [threading.Thread(target=obtain, args=(cache, recipe, notices)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recipe.built) == 1
    assert any("another run" in notice for notice in notices)


BUILDER = """
import sys, time
from pathlib import Path
from harness.base.deadline import Deadline
from harness.nested.cache import Cache

class Slow:
    name, digest, needs_bytes = "fake", "d" * 64, 1
    def build(self, directory):
        (directory / "small").write_text("content")
        Path(sys.argv[2]).touch()
        time.sleep(3600)

Cache(Path(sys.argv[1])).obtain(Slow(), deadline=Deadline.after(3600), notice=print)
"""


def start_builder(cache: Cache, ready: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", BUILDER, str(cache.root), str(ready)]
    builder = subprocess.Popen(argv)  # noqa: S603 - our own interpreter
    assert poll(ready.exists, soon())
    return builder


def test_a_killed_builder_leaves_no_image(cache: Cache, tmp_path: Path) -> None:
    builder = start_builder(cache, tmp_path / "ready")
    recipe = Fake()
    with pytest.raises(LockHeld):
        obtain(cache, recipe, seconds=0.2)
    with pytest.raises(LockHeld):
        cache.clean()
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert cache.verify(recipe) == "not built yet"
    assert len(half_done(cache)) == 1
    notices = Notices()
    path = obtain(cache, recipe, notices)
    assert [entry for entry in half_done(cache) if entry != path] == []
    assert any("interrupted" in notice for notice in notices)


def test_a_living_builder_of_another_entry_is_left_alone(cache: Cache, tmp_path: Path) -> None:
    builder = start_builder(cache, tmp_path / "ready")
    try:
        obtain(cache, Fake(digest="e" * 64))
        assert len(list((cache.root / "building").iterdir())) == 1
    finally:
        builder.kill()
        builder.wait()
    obtain(cache, Fake(digest="f" * 64))
    assert list((cache.root / "building").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        CommandFailed("exit status 1: mkfs.ext4\n    mkfs.ext4: No space left on device"),
    ],
)
def test_a_full_disk_is_one_clear_error(cache: Cache, error: Exception) -> None:
    with pytest.raises(LabError, match=r"no space while building fake: .* MiB free, \d+ MiB are needed"):
        obtain(cache, Fake(error=error))
    assert half_done(cache) == []


def test_space_is_looked_at_before(cache: Cache) -> None:
    recipe = Fake(needs_bytes=1 << 60)
    with pytest.raises(LabError, match="no space to build fake"):
        obtain(cache, recipe)
    assert recipe.built == []


def test_any_other_error_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(ValueError, match="odd"):
        obtain(cache, Fake(error=ValueError("odd")))
    assert half_done(cache) == []


def test_clean_removes_all(cache: Cache) -> None:
    assert cache.clean() == 0
    obtain(cache, Fake())
    assert cache.clean() > SMALL
    assert cache.verify(Fake()) == "not built yet"
    assert obtain(cache, Fake()).is_dir()


def test_an_unusable_directory_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot use the cache directory"):
        obtain(Cache(tmp_path / "file"), Fake())


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("MASKALL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == Path("/home/someone/.cache/maskall")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "maskall"
    monkeypatch.setenv("MASKALL_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


def test_trimming_keeps_what_was_used_last(cache: Cache) -> None:
    first, second, third, other = Fake("a" * 64), Fake("b" * 64), Fake("c" * 64), Fake("d" * 64, name="other")
    paths = [obtain(cache, recipe) for recipe in (first, second, third, other)]
    for age, path in zip((100, 300, 200, 400), paths, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    obtain(cache, second)
    one = sum(file.stat().st_blocks * 512 for file in paths[0].iterdir())
    cache.trim("fake", 2 * one)
    assert [path.exists() for path in paths] == [True, True, False, True]
    cache.trim("fake", 1)
    assert [path.exists() for path in paths] == [False, True, False, True], "the last one is in use"
