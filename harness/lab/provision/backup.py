"""What a host was before it was provisioned, kept on the host itself: files byte for byte, names of packages.

The manifest is written last. Where it is there, the backup is whole; it is never written over, only added to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import LabError, ParseError, RestoreFailed
from harness.base.text import whole
from harness.lab.provision.job import BASE
from harness.transport.base import Script, Transport, quote

FORMAT = 1
_SECONDS = 120.0  # a slow disk and some initramfs images
_PROGRAM = Path(__file__).with_name("backup.sh")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")


@dataclass(frozen=True)
class Kept:
    """One file as it was. `sha256` of "": there was none. `copy`: its number in the backup. `mode` is octal."""

    path: str
    sha256: str = ""
    mode: str = ""
    owner: str = ""  # uid:gid
    copy: int = -1


@dataclass(frozen=True)
class BackupManifest:
    """`packages`: those that came new by provisioning. `folders`: those that were not there.

    GRUB's menu and the initramfs images are made anew by the system itself whenever it sees fit. `left`: path to
    SHA-256 as provisioning left them. `exact`: those that go back byte for byte; None while that is not decided.
    """

    kernels: tuple[str, ...]
    files: tuple[Kept, ...] = ()
    folders: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    exact: tuple[str, ...] | None = None

    def as_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode() + b"\n"

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(file.path for file in self.files)


def parse_manifest(text: str) -> BackupManifest:
    """Accepted format: what `as_json` wrote. ParseError: then nobody can take back what was done."""
    try:
        found = json.loads(text)
        files = tuple(Kept(**one) for one in found["files"])
        parsed = BackupManifest(
            tuple(map(str, found["kernels"])),
            files,
            tuple(found["folders"]),
            tuple(map(str, found["packages"])),
            tuple((str(path), str(digest)) for path, digest in found["left"]),
            None if found["exact"] is None else tuple(map(str, found["exact"])),
        )
        sound = found["format"] == FORMAT and all(_sound(file) for file in files)
        sound = sound and all(isinstance(one, str) and one.startswith("/") for one in parsed.folders)
        sound = sound and all(_NAME.fullmatch(name) for name in parsed.packages)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ParseError(f"{type(error).__name__}: {error}", file=f"{BASE}/manifest.json", expected="ours") from error
    if not sound:
        raise ParseError("not as it was written", file=f"{BASE}/manifest.json", expected=f"format {FORMAT}")
    return parsed


def _sound(file: Kept) -> bool:
    texts = (file.path, file.sha256, file.mode, file.owner)
    if not all(isinstance(text, str) for text in texts) or not file.path.startswith("/"):
        return False
    return not file.sha256 or (bool(_SHA256.fullmatch(file.sha256)) and isinstance(file.copy, int) and file.copy >= 0)


def parse_kept(text: str) -> tuple[tuple[Kept, ...], tuple[str, ...]]:
    """Files and missing folders. Accepted format: what backup.sh printed for each path it was given.

    LabError for a path that is neither a plain file nor absent.
    """
    files: list[Kept] = []
    folders: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(" ", 5)
        copy = whole(words[1]) if words[0] == "file" and len(words) == 6 else None
        if copy is not None and _SHA256.fullmatch(words[4]):
            files.append(Kept(words[5], words[4], words[2], words[3], copy))
        elif line.startswith("absent /"):
            files.append(Kept(line.removeprefix("absent ")))
        elif line.startswith("nofolder /"):
            folders.append(line.removeprefix("nofolder "))
        elif line.startswith("other /"):
            raise LabError(f"{line.removeprefix('other ')} is no plain file", hint="make it one, or provision by hand")
        else:
            raise ParseError(f"{line!r}", file="backup", line=number, expected="file, absent or nofolder")
    return tuple(files), tuple(dict.fromkeys(folders))


def take(transport: Transport, known: BackupManifest, paths: Iterable[str], packages: Iterable[str]) -> BackupManifest:
    """Add the files of `paths` and the names of `packages` to the backup that is known so far."""
    fresh = [path for path in paths if path not in known.paths]
    files, folders = known.files, known.folders
    if fresh:
        first = max([file.copy for file in known.files], default=-1) + 1
        more, missing = parse_kept(_run(transport, "keep", str(first), *fresh))
        if {file.path for file in more} != set(fresh):
            raise LabError(f"{transport.name}: the backup is incomplete", hint="nothing was changed; try again")
        files, folders = (*files, *more), tuple(dict.fromkeys((*folders, *missing)))
    every = tuple(dict.fromkeys((*known.packages, *packages)))
    manifest = replace(known, files=files, folders=folders, packages=every)
    write(transport, manifest)
    return manifest


def write(transport: Transport, manifest: BackupManifest) -> None:
    """The manifest in one step, on the disk when this returns."""
    transport.put(manifest.as_json(), f"{BASE}/manifest.json", 0o600, Deadline.after(_SECONDS))
    transport.run(["sync", "-f", BASE], deadline=Deadline.after(_SECONDS)).check()


def generated(manifest: BackupManifest) -> tuple[Kept, ...]:
    """What the system makes by itself: all that lies in /boot."""
    return tuple(file for file in manifest.files if file.path.startswith("/boot/"))


def decide(manifest: BackupManifest, kernels: tuple[str, ...], now: Mapping[str, str]) -> tuple[str, ...]:
    """Which generated files go back byte for byte: those that nobody made anew since provisioning left them. Pure.

    `now`: path to SHA-256. Where provisioning did not come to its end, the same kernels have to do.
    """
    left = dict(manifest.left)
    untouched = [
        file.path
        for file in generated(manifest)
        if (now.get(file.path) == left[file.path] if file.path in left else kernels == manifest.kernels)
    ]
    return tuple(untouched)


def sums(transport: Transport, files: Iterable[Kept]) -> dict[str, str]:
    """Path to SHA-256 as they are now, of those that exist."""
    paths = [file.path for file in files]
    seen, _ = parse_kept(_run(transport, "look", *paths)) if paths else ((), ())
    return {file.path: file.sha256 for file in seen if file.sha256}


def put_back(transport: Transport, file: Kept) -> None:
    """One file as it was: bytes, mode, owner, times, or its absence."""
    words = ["absent"] if not file.sha256 else [str(file.copy), file.sha256]
    _run(transport, "back", file.path, *words)


def differences(transport: Transport, files: Iterable[Kept]) -> list[str]:
    """What is not as it was, one line each."""
    wanted = {file.path: file for file in files}
    seen, _ = parse_kept(_run(transport, "look", *wanted)) if wanted else ((), ())
    told = []
    for now in seen:
        before = wanted[now.path]
        if now.sha256 != before.sha256:
            told.append(f"{now.path} {_differs(before, now)}")
        elif (now.mode, now.owner) != (before.mode, before.owner):
            told.append(f"{now.path} is {now.mode} {now.owner} instead of {before.mode} {before.owner}")
    return told


def _differs(before: Kept, now: Kept) -> str:
    if not now.sha256:
        return "is missing"
    return "has another content" if before.sha256 else "should not be there"


def forget(transport: Transport, manifest: BackupManifest) -> None:
    """Remove the backup, and the folders that were not there before if nobody else uses them."""
    script = Script(
        f"rm -rf {quote([BASE])}; rmdir /var/lib/maskall 2>/dev/null\n"
        + "".join(f"rmdir {quote([folder])} 2>/dev/null\n" for folder in manifest.folders)
        + f"[ ! -e {quote([BASE])} ]"
    )
    done = transport.run(script, deadline=Deadline.after(_SECONDS), changes=True)
    if not done.ok:
        raise RestoreFailed(f"{transport.name}: {BASE} cannot be removed")


def _run(transport: Transport, *arguments: str) -> str:
    script = Script(f"set -- {quote([BASE, *arguments])}\n{_PROGRAM.read_text()}")
    return transport.run(script, deadline=Deadline.after(_SECONDS), changes=arguments[0] != "look").check().text
