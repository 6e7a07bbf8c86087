"""Bundles as a forger makes them: of a run that was changed, of members that no bundle has, of any archive at all."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.report.bundle import bag, container
from harness.report.bundle.container import BASE, Writer
from harness.report.bundle.layers import Verification
from harness.report.bundle.signers import Signers, parse_keys, parse_signers
from harness.report.bundle.statement import NAMESPACE
from harness.report.results import RunResult
from harness.run import chain, sidefile, store
from harness.run.again import judged_again
from harness.run.bundle import bundle
from harness.run.forpeople import for_people
from harness.run.verify import Wanted, verified
from suites.selftest.replay.recording import unpacked

NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
SIDE = "raw/E14-F1-hvm-virtio-rng/stock"
CONTROL = "raw/E14-F1-hvm-virtio-rng/no-maskall-reset"


def new_key(folder: Path, name: str, *kind: str) -> Path:
    """A private key; its public one is beside it."""
    path = folder / name
    argv = ["ssh-keygen", "-q", "-N", "", "-C", "", "-f", str(path), "-t", *(kind or ("ed25519",))]
    subprocess.run(argv, check=True)  # noqa: S603 - argv of our own
    return path


def public(key: Path) -> str:
    return key.with_suffix(".pub").read_text().strip()


def sign(message: bytes, key: Path, namespace: str = NAMESPACE) -> bytes:
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key)]
    return subprocess.run(argv, input=message, check=True, capture_output=True).stdout  # noqa: S603


def finished_run(name: str, root: Path) -> Path:
    """A recorded run with the files that it has at its end."""
    shutil.copytree(_finished(name).name, root, dirs_exist_ok=True)
    return root


@functools.cache
def _finished(name: str) -> tempfile.TemporaryDirectory[str]:
    """To be copied: a run is judged once, not in each test. Nobody changes it."""
    made = tempfile.TemporaryDirectory(prefix=f"{name}-")
    finish(unpacked(name, Path(made.name)))
    return made


@pytest.fixture(scope="module")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Forger:
    return Forger.made(tmp_path_factory.mktemp("forger"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run for the forger to work on."""
    return finished_run("proven", tmp_path / "run")


def finish(root: Path) -> None:
    """Write what its raw files come to, in the end of every run."""
    result = judged_again(root).result()
    store.dump(result, root / "results.json")
    told_again(root)
    chained(root)


def told_again(root: Path) -> None:
    """Write what programs and people go by, as the results of the run are by now."""
    for name, content in for_people(store.load(root / store.RESULTS, RunResult)).items():
        store.write_atomically(root / name, content)


def chained(root: Path) -> None:
    """Write run.jsonl as fits the files of the run, as somebody does who wants it to be found in order."""
    (root / chain.NAME).unlink(missing_ok=True)
    made = chain.Chain(root)

    def add(what: str, path: str) -> None:
        made.add(what, path, hashlib.sha256((root / path).read_bytes()).hexdigest())

    add("begun", "run.json")
    if any(root.glob("raw/*/*.before-*")):
        add("gone on", "run.json")
    result = store.load(root / store.RESULTS, RunResult)
    for one in result.scenarios:
        for _, side in one.sides:
            for tried in [*side.attempts, None]:
                raw = side.stored if tried is None else tried.raw
                if raw is not None and (root / raw.path).exists():
                    add("ended" if tried is None else "spoiled", raw.path)
    add("finished", store.RESULTS)


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data, indent=1))


def later(root: Path, days: int) -> None:
    """The same run as it would have been played on another day; its raw files have no date in them."""
    moved = timedelta(days=days)

    def shift(data: Any) -> None:  # noqa: ANN401 - JSON
        for part, key in ((data, "started"), (data, "began"), (data, "ended"), (data.get("record", {}), "opened")):
            if part.get(key):
                part[key] = (datetime.fromisoformat(part[key]) + moved).isoformat()

    for path in (root / "run.json", *root.glob("raw/*/*/record.json")):
        edit_json(path, shift)
    for path in root.glob("environment/*.txt"):
        lines = path.read_text().split("\n")
        at = lines.index("@@ clock") + 1
        lines[at] = str(int(lines[at]) + int(moved.total_seconds()))
        path.write_text("\n".join(lines))
    finish(root)


def played_anew(root: Path, side: str) -> None:
    """Give the kernels' lines of a side that is a copy times of their own, as one has that was played."""
    for path in [*(root / side).glob("*/dom0_dmesg.txt"), *(root / side).glob("*-exercise-d*.txt")]:
        if _STAMP.search(path.read_bytes()):
            name = path.relative_to(root / side).as_posix()
            edit_raw(
                root, side, name, lambda data: _STAMP.sub(rb"\g<1>%06d]" % (zlib.crc32(side.encode()) % 10**6), data)
            )


_STAMP = re.compile(rb"(\[ *[0-9]+\.)[0-9]{6}\]")


def edit_raw(root: Path, side: str, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a raw file, and every digest of it in the record of its side."""
    path, record = root / side / name, root / side / sidefile.NAME
    before = path.read_bytes()
    after = change(before)
    assert after != before
    path.write_bytes(after)
    new = hashlib.sha256(after).hexdigest()
    edit_json(record, lambda data: _redigest(data, name, new))


def _redigest(data: Any, name: str, new: str) -> None:  # noqa: ANN401 - JSON
    if isinstance(data, list):
        for one in data:
            _redigest(one, name, new)
    elif isinstance(data, dict):
        if data.get("path") == name:
            data["sha256"] = new
        for key, one in data.items():
            if key == name:
                data[key] = new
            _redigest(one, name, new)


@dataclass(frozen=True)
class Forger:
    """Has a key that the verifier trusts, and a folder to work in."""

    folder: Path
    key: Path
    signers: str

    @classmethod
    def made(cls, folder: Path) -> Forger:
        key = new_key(folder, "trusted")
        return cls(folder, key, f'lab@example.com namespaces="{NAMESPACE}" {public(key)}\n')

    def bundled(self, root: Path, challenge: str | None = None, *, chain_anew: bool = True) -> Path:
        """Signed; with a chain of events that was written anew, whatever was changed."""
        if chain_anew and (root / store.RESULTS).exists():
            chained(root)
        return bundle(root, self.folder / "made.tar.gz", keys=[self.key], challenge=challenge).path

    def verify(
        self,
        path: Path,
        *,
        challenge: str | None = None,
        profile: str | None = None,
        signers: str | None = None,
        revoked: str = "",
        parent: Path | None = None,
    ) -> Verification:
        known = Signers(
            parse_signers(self.signers if signers is None else signers, "allowed"), parse_keys(revoked, "revoked")
        )
        return verified(path, Wanted(known, NOW, challenge, profile, parent))

    def resigned(self, members: Mapping[str, bytes], name: str = "forged.tar.gz") -> Path:
        """A bundle of these members whose manifest, statement and signature fit them; for a forger with a key."""
        kept = {one: data for one, data in members.items() if not one.startswith(bag.SIGNATURES)}
        payload = {one: data for one, data in kept.items() if one.startswith(bag.DATA)}
        kept[bag.MANIFEST_NAME] = bag.manifest({one: hashlib.sha256(data).hexdigest() for one, data in payload.items()})
        digest = hashlib.sha256(kept[bag.MANIFEST_NAME]).hexdigest().encode()
        statement = kept[bag.STATEMENT_NAME]
        kept[bag.STATEMENT_NAME] = re.sub(rb'"sha256": ?"[0-9a-f]{64}"', b'"sha256": "%s"' % digest, statement, count=1)
        info = kept[bag.INFO_NAME].decode()
        oxum = f"Payload-Oxum: {sum(map(len, payload.values()))}.{len(payload)}"
        kept[bag.INFO_NAME] = re.sub("Payload-Oxum: .*", oxum, info).encode()
        return self.written(self.with_signature(kept), name)

    def with_signature(self, members: Mapping[str, bytes]) -> dict[str, bytes]:
        from harness.report.bundle.sshsig import parse_signature

        made = sign(members[bag.STATEMENT_NAME], self.key)
        return {**members, bag.SIGNATURES + parse_signature(made).file_name: made}

    def written(self, members: Mapping[str, bytes], name: str = "forged.tar.gz") -> Path:
        """A well-formed archive of these members, in the order of a bundle."""
        tags = [bag.BAGIT_NAME, bag.INFO_NAME, bag.MANIFEST_NAME, bag.STATEMENT_NAME]
        rest = sorted((one for one in members if one not in tags), key=lambda one: (one.startswith(bag.DATA), one))
        path = self.folder / name
        with path.open("wb") as stream:
            writer = Writer(stream)
            for one in [*(tag for tag in tags if tag in members), *rest]:
                writer.add(one, len(members[one]), [members[one]])
            writer.close()
        return path

    def archived(self, archive: bytes, name: str = "forged.tar.gz") -> Path:
        """Any bytes as a sealed container."""
        path = self.folder / name
        path.write_bytes(sealed(archive))
        return path


def members_of(path: Path) -> dict[str, bytes]:
    """By a program that is not ours."""
    with tarfile.open(path) as archive:
        files = ((one.name.removeprefix(BASE), archive.extractfile(one)) for one in archive)
        return {name: file.read() for name, file in files if file}


def archive_of(path: Path) -> bytes:
    """The tar in a bundle."""
    return zlib.decompress(path.read_bytes(), wbits=zlib.MAX_WBITS | 16)


def sealed(archive: bytes, behind: bytes = b"") -> bytes:
    """A container of this archive whose sums and seal are right, with something `behind` the deflated bytes."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(archive) + deflate.flush()
    body += struct.pack("<II", zlib.crc32(archive), len(archive) & 0xFFFFFFFF) + behind
    return container._MAGIC + hashlib.sha256(body).digest() + body


_FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "type": (156, 1),
    "linkname": (157, 100),
    "magic": (257, 8),
    "uname": (265, 32),
    "devmajor": (329, 8),
    "prefix": (345, 155),
    "rest": (500, 12),
}


def header_with(file: str = "data/raw/x", length: int = 0, /, **fields: bytes) -> bytes:
    """The header of a file, with other fields and a right sum. Its name is one of the bundle unless that is a field."""
    block = bytearray(container.header(BASE + file, length))
    for field, value in fields.items():
        at, room = _FIELDS[field]
        block[at : at + room] = value.ljust(room, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def with_more(path: Path, *members: tuple[bytes, bytes]) -> bytes:
    """The archive of a bundle with more headers and contents before its end."""
    more = b"".join(header + data + bytes(-len(data) % 512) for header, data in members)
    return archive_of(path)[:-1024] + more + bytes(1024)
