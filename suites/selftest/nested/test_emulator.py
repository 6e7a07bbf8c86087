"""The emulator that is unpacked into the cache, with an mmdebstrap whose archive holds small scripts."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.errors import CommandFailed, LabError, UsageError
from harness.base.progress import Progress
from harness.nested.accelerator import Accelerator, emulated
from harness.nested.apt_sources import backports_options
from harness.nested.cache import Cache
from harness.nested.emulator import VARIABLE, Emulator, ensure_emulator, installed, known_emulator

# As ld.so: its options, the program, the program's words. As QEMU: all it can say of itself, here of two models.
LOADER = """#!/bin/sh
echo "$QEMU_MODULE_DIR: $*" >> "${0%/usr/*}/calls"
[ "$1 $2 $3" = "--argv0 qemu-system-x86_64 --library-path" ] || exit 3
shift 9
case $* in
--version) echo "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)" ;;
"-device nvme,help" | "-device e1000e,help") ;;
*) exit 1 ;;
esac
"""
OWN = LOADER.replace("11.1.3", "10.0.2").replace("shift 9\n", "").replace('[ "$1', ': [ "$1')
MMDEBSTRAP = """#!/bin/sh
echo started >> "$(dirname "$0")/started"
case $* in *"{wanted}"*) ;; *) echo "E: Unable to locate package"; exit 25 ;; esac
for word; do case $word in *.tar) target=$word ;; esac; done
tar -c -f "$target" -C "$(dirname "$0")/tree" .
"""
FILES = (
    *("usr/bin/qemu-system-x86_64", "usr/bin/qemu-img", "usr/bin/perl", "usr/lib64/ld-linux-x86-64.so.2"),
    *("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/share/qemu/pvh.bin", "usr/share/seabios/bios-256k.bin"),
)


class Told:
    """Progress that is remembered."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    @contextlib.contextmanager
    def phase(self, name: str, expected: float | None = None) -> Iterator[None]:
        self.phases.append(name)
        yield

    def note(self, text: str) -> None:
        pass


@pytest.fixture
def progress() -> Told:
    return Told()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty one, on a machine with a mirror of its own and an archive as above."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("MASKALL_MIRROR", "http://mirror.example/debian")
    archive(tmp_path / "bin", monkeypatch)
    return Cache(tmp_path / "a $HOME; cache")


def archive(folder: Path, monkeypatch: pytest.MonkeyPatch, *, wanted: str = "--variant=extract") -> None:
    for name in FILES:
        file = folder / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(LOADER if "ld-linux" in name else "x")
        file.chmod(0o755)
    (folder / "mmdebstrap").write_text(MMDEBSTRAP.format(wanted=wanted))
    (folder / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def ensured(cache: Cache, progress: Told) -> object:
    heard: Progress = progress  # type: ignore[assignment]  # phases and notes are all it needs
    return ensure_emulator(cache, heard)


def test_it_is_unpacked_once_and_asked_once(cache: Cache, progress: Told, tmp_path: Path) -> None:
    assert known_emulator(cache) is None
    first = ensured(cache, progress)
    assert ensured(cache, progress) == first == known_emulator(cache)
    assert progress.phases == ["the emulator, QEMU of trixie-backports"]
    assert (tmp_path / "bin/started").read_text() == "started\n"


def test_what_it_is_and_how_it_is_started(cache: Cache, progress: Told) -> None:
    ensured(cache, progress)
    emulator = known_emulator(cache)
    assert emulator is not None
    assert (emulator.version, emulator.release, emulator.models) == ("11.1.3", (11, 1), {"nvme", "e1000e"})
    (tree,) = (cache.root / "entries").iterdir()
    asked = subprocess.run([*emulator.qemu, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    assert "11.1.3" in asked.stdout
    libraries, data = f"{tree}/usr/lib/x86_64-linux-gnu", f"{tree}/usr/share"
    last = (tree / "calls").read_text().splitlines()[-1]
    assert last == (
        f"{libraries}/qemu: --argv0 qemu-system-x86_64 --library-path {libraries} {tree}/usr/bin/qemu-system-x86_64"
        f" -L {data}/qemu -L {data}/seabios --version"
    )
    assert emulator.images[0] == str(tree / "usr/lib64/ld-linux-x86-64.so.2")
    assert emulator.images[-1] == str(tree / "usr/bin/qemu-img")


def test_nothing_that_it_does_not_need_is_kept(cache: Cache, progress: Told) -> None:
    ensured(cache, progress)
    (tree,) = (cache.root / "entries").iterdir()
    kept = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert kept - {"manifest.json", "facts.json", "calls"} == set(FILES) - {"usr/bin/perl"}


def test_a_damaged_one_is_unpacked_again(cache: Cache, progress: Told) -> None:
    ensured(cache, progress)
    (tree,) = (cache.root / "entries").iterdir()
    (tree / "usr/bin/qemu-img").write_text("y")
    assert known_emulator(cache) is None
    ensured(cache, progress)
    assert (tree / "usr/bin/qemu-img").read_text() == "x"


def test_an_archive_without_it_leaves_nothing(
    cache: Cache, progress: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(tmp_path / "bin", monkeypatch, wanted="no such word")
    with pytest.raises(CommandFailed, match="Unable to locate package"):
        ensured(cache, progress)
    assert not list((cache.root / "entries").iterdir()) and not list((cache.root / "building").iterdir())


class TestOnesOwn:
    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        folder = tmp_path / "own/usr/bin"
        folder.mkdir(parents=True)
        for name in ("qemu-system-x86_64", "qemu-img"):
            (folder / name).write_text(OWN)
            (folder / name).chmod(0o755)
        return folder / "qemu-system-x86_64"

    def test_it_is_taken_and_nothing_downloaded(
        self, cache: Cache, progress: Told, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, str(own))
        emulator = ensured(cache, progress)
        assert emulator == known_emulator(cache) == installed(own)
        assert installed(own).version == "10.0.2" and installed(own).models == {"nvme", "e1000e"}
        assert installed(own).images == (str(own.with_name("qemu-img")),)
        assert not progress.phases and not cache.root.exists()

    def test_qemu_img_may_be_elsewhere(self, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own.with_name("qemu-img").unlink()
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(UsageError, match=r"no qemu-img beside .*install the Debian package qemu-utils"):
            installed(own)

    @pytest.mark.parametrize("kind", ["absent", "folder", "plain"])
    def test_what_is_no_program(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "qemu"
        if kind == "folder":
            path.mkdir()
        elif kind == "plain":
            path.write_text("x")
        with pytest.raises(UsageError, match=f"{VARIABLE}: {path} is no program .*without it, one is downloaded"):
            installed(path)

    def test_what_is_another_program(self, own: Path) -> None:
        own.write_text("#!/bin/sh\necho hello\n")
        with pytest.raises(LabError, match="does not say which QEMU it is: 'hello"):
            installed(own)


class TestAcceleration:
    """A QEMU that is started with what the machine's files promise."""

    KVM = Accelerator("kvm", "host,+svm", "svm with nesting")

    def says(self, folder: Path, status: int, words: str = "") -> Emulator:
        program = folder / "qemu"
        program.write_text(f'#!/bin/sh\necho "$*" > "$0.words"\ncat > "$0.told"\nprintf "{words}" >&2\nexit {status}\n')
        program.chmod(0o755)
        return Emulator((str(program),), ("qemu-img",), "11.1.3", frozenset())

    def test_what_qemu_starts_with_is_taken(self, tmp_path: Path) -> None:
        assert self.says(tmp_path, 0, "a warning\\n").usable(self.KVM) is self.KVM
        # enforce: a CPU that lacks svm makes QEMU end instead of warn
        assert "-accel kvm -cpu host,+svm,enforce" in (tmp_path / "qemu.words").read_text()
        assert (tmp_path / "qemu.told").read_text() == "quit\n"

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (
                "q: ioctl(KVM_CREATE_VM) failed: 16\\nq: failed to initialize kvm: busy\\n\\n",
                "failed to initialize kvm: busy",
            ),
            ("", "nothing"),
        ],
    )
    def test_what_it_does_not_start_with_is_emulated(self, tmp_path: Path, words: str, why: str) -> None:
        chosen = self.says(tmp_path, 1, words).usable(self.KVM)
        assert (chosen.name, chosen.cpu, chosen.cpus) == ("tcg", "qemu64,+svm,+npt", 1)
        assert chosen.why.startswith("svm with nesting, but QEMU says: ") and chosen.why.endswith(why)

    def test_emulation_is_not_tried(self, tmp_path: Path) -> None:
        chosen = emulated("why")
        assert self.says(tmp_path, 1).usable(chosen) is chosen
        assert not (tmp_path / "qemu.words").exists()


@pytest.mark.parametrize(
    ("sources", "added"),
    [
        (
            "deb http://m/debian trixie main\ndeb http://m/debian-security trixie-security main\n",
            "deb http://m/debian trixie-backports main\n",
        ),
        (
            "deb [signed-by=/k.gpg] http://m/debian trixie main\n",
            "deb [signed-by=/k.gpg] http://m/debian trixie-backports main\n",
        ),
    ],
)
def test_backports_come_from_where_the_suite_does(tmp_path: Path, sources: str, added: str) -> None:
    """The hook as mmdebstrap runs it: by sh -c, with the new root as its argument."""
    root = tmp_path / "root"
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/apt/sources.list").write_text(sources)
    for hook in backports_options("trixie", ["qemu-*", "seabios"]):
        subprocess.run(["/bin/sh", "-c", hook.removeprefix("--setup-hook="), "exec", str(root)], check=True)  # noqa: S603
    assert (root / "etc/apt/preferences").read_text() == (
        "Package: qemu-*\nPin: release n=trixie-backports\nPin-Priority: 900\n\n"
        "Package: seabios\nPin: release n=trixie-backports\nPin-Priority: 900\n"
    )
    assert (root / "etc/apt/sources.list.d/backports.list").read_text() == added


def test_a_stack_without_backports_has_none() -> None:
    assert backports_options("trixie", []) == []
