"""A bundle as it is written: the same bytes, whole or not at all, and as programs that are not ours read it."""

from __future__ import annotations

import fcntl
import gzip
import os
import resource
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import bagit
import pytest

from harness.base.errors import EvidenceError, MaskallError, UsageError
from harness.cli.entry import main
from harness.report.bundle.container import BASE
from harness.report.bundle.statement import NAMESPACE
from harness.run.bundle import bundle
from harness.run.store import held
from suites.selftest.fakes.badbundle import SIDE, Forger, edit_json, finished_run, forger, members_of, new_key, public
from suites.selftest.fakes.clihome import nothing_of_the_user  # noqa: F401

__all__ = ["forger"]
pytestmark = pytest.mark.whole


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return finished_run("lab-error", tmp_path / "run")


class TestFromOutside:
    @pytest.fixture
    def opened(self, forger: Forger, root: Path, tmp_path: Path) -> Path:
        with tarfile.open(forger.bundled(root)) as archive:
            archive.extractall(tmp_path / "opened", filter="data")
        return tmp_path / "opened" / BASE

    def test_sha256sum(self, opened: Path) -> None:
        argv = ["sha256sum", "--strict", "-c", "manifest-sha256.txt"]
        done = subprocess.run(argv, cwd=opened, capture_output=True, text=True)  # noqa: S603
        assert (done.returncode, done.stdout.count(": OK\n")) == (0, 41)
        (opened / "data/run.json").write_bytes(b"")
        assert subprocess.run(argv, cwd=opened, capture_output=True).returncode == 1  # noqa: S603

    def test_bagit(self, opened: Path) -> None:
        bagit.Bag(str(opened)).validate()
        (opened / "data/raw/more").write_bytes(b"")
        with pytest.raises(bagit.BagValidationError):
            bagit.Bag(str(opened)).validate()

    def test_ssh_keygen(self, opened: Path, forger: Forger, tmp_path: Path) -> None:
        (signature,) = (opened / "signatures").iterdir()
        (tmp_path / "allowed").write_text(forger.signers)
        argv = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "lab@example.com", "-n", NAMESPACE]
        statement = (opened / "statement.json").read_bytes()
        for message, status in ((statement, 0), (statement + b" ", 255)):
            done = subprocess.run([*argv, "-s", str(signature)], input=message, capture_output=True)  # noqa: S603
            assert done.returncode == status, done.stderr

    def test_tar_and_gzip(self, forger: Forger, root: Path) -> None:
        path = forger.bundled(root)
        subprocess.run(["gzip", "-t", str(path)], check=True)  # noqa: S603, S607
        listed = subprocess.run(["tar", "tvzf", str(path)], check=True, capture_output=True, text=True).stdout  # noqa: S603, S607
        assert listed.splitlines()[0].split() == ["-rw-r--r--", "0/0", "54", "1970-01-01", "00:00", f"{BASE}bagit.txt"]


class TestTheSameBytes:
    def test_whatever_the_disk_says_of_the_files(self, forger: Forger, root: Path) -> None:
        first = forger.bundled(root, "a", chain_anew=False).read_bytes()
        for path in root.rglob("*"):
            os.utime(path, (1, 1))
            path.chmod(0o700 if path.is_dir() else 0o600)
        assert forger.bundled(root, "a", chain_anew=False).read_bytes() == first
        assert forger.bundled(root, "b", chain_anew=False).read_bytes() != first

    def test_several_keys_in_any_order(self, forger: Forger, root: Path) -> None:
        other = new_key(root.parent, "other", "rsa", "-b", "2048")
        third = new_key(root.parent, "third", "ecdsa", "-b", "256")
        keys = [forger.key, other, third]
        path = root.parent / "x.tar.gz"
        made = [bundle(root, path, keys=some).path.read_bytes() for some in (keys[:2], keys[1::-1])]
        assert made[0] == made[1]
        bundle(root, path, keys=keys)
        for key in keys:
            found = forger.verify(path, signers=f"somebody {public(key)}")
            assert found.status == 0, list(found.lines)

    def test_a_long_name(self, forger: Forger, root: Path) -> None:
        deep = root / "raw" / ("a" * 90) / ("b" * 90)
        deep.mkdir(parents=True)
        (deep / "c").write_bytes(b"x")
        path = forger.bundled(root)
        assert f"data/raw/{'a' * 90}/{'b' * 90}/c" in members_of(path)
        found = forger.verify(path)
        assert [one.name for one in found.failed] == ["completeness"], "it is of no side"


class TestNothingHalfWritten:
    @pytest.fixture
    def full_disk(self) -> Iterator[None]:
        """The kernel lets no file grow beyond some bytes: EFBIG in the middle."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def test_a_full_disk(self, root: Path, tmp_path: Path, full_disk: None) -> None:
        target = tmp_path / "out"
        target.mkdir()
        (target / "made.tar.gz").write_bytes(b"the one of yesterday")
        with pytest.raises(EvidenceError, match=r"made\.tar\.gz could not be written: File too large"):
            bundle(root, target / "made.tar.gz")
        assert [(one.name, one.read_bytes()) for one in target.iterdir()] == [("made.tar.gz", b"the one of yesterday")]

    def test_a_file_that_changes_meanwhile(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target = tmp_path / "out"
        target.mkdir()

        def meanwhile(*_: object) -> list[object]:
            (root / SIDE.replace("E14", "E17") / "01-C0/xl_list.txt").write_bytes(b"changed")
            return []

        monkeypatch.setattr("harness.run.bundle.looks", meanwhile)
        with pytest.raises(EvidenceError, match="changed while it was read"):
            bundle(root, target / "made.tar.gz")
        assert list(target.iterdir()) == []

    def test_no_such_folder(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(EvidenceError, match="could not be written: No such file or directory"):
            bundle(root, tmp_path / "nowhere/made.tar.gz")


class TestBadInput:
    def refused(self, root: Path, told: str, *options: str) -> None:
        with pytest.raises(MaskallError, match=told):
            bundle(root, root.parent / "made.tar.gz", keys=[Path(one) for one in options])
        assert not (root.parent / "made.tar.gz").exists()

    def test_a_run_that_goes_on(self, root: Path) -> None:
        (root / "results.json").unlink()
        self.refused(root, "the run was cut short")

    def test_another_schema(self, root: Path) -> None:
        edit_json(root / "results.json", lambda data: data.update(schema_version="1"))
        self.refused(root, "schema version 1, and this maskall reads version 2 only")

    def test_another_version_of_run_json(self, root: Path) -> None:
        edit_json(root / "run.json", lambda data: data.update(version="9"))
        self.refused(root, "'run.json': version")

    @pytest.mark.parametrize("name", ["junit.xml", "run.jsonl"])
    def test_a_file_that_is_not_there(self, root: Path, name: str) -> None:
        (root / name).unlink()
        self.refused(root, f"{name}.* cannot be read: No such file")

    def test_no_run(self, root: Path) -> None:
        (root / "run.json").unlink()
        self.refused(root, "has no run.json: it is no run")

    def test_a_link(self, root: Path) -> None:
        (root / "raw/x").symlink_to("/etc/passwd")
        self.refused(root, "raw/x' is no file of a run")

    def test_a_name_that_is_none(self, root: Path) -> None:
        (root / "raw/a b").write_bytes(b"")
        self.refused(root, "raw/a b' is no file of a run")

    def test_a_key_that_is_none(self, root: Path, tmp_path: Path) -> None:
        self.refused(root, "there is no key", str(tmp_path / "nokey"))
        (tmp_path / "bad").write_text("hello")
        self.refused(root, "bad did not sign: ", str(tmp_path / "bad"))


class TestCommands:
    @pytest.fixture
    def signers(self, forger: Forger, tmp_path: Path) -> str:
        (tmp_path / "allowed").write_text(forger.signers)
        return str(tmp_path / "allowed")

    def said(self, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
        status = main([*argv])
        read = capsys.readouterr()
        assert "Traceback" not in read.out + read.err and "bug in maskall" not in read.err
        return status, read.out + read.err

    def test_there_and_back(
        self, forger: Forger, root: Path, signers: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        status, text = self.said(capsys, "bundle", str(root), "--sign", str(forger.key), "--challenge", "7f")
        assert status == 0 and text.startswith("run.maskall.tar.gz: 41 files") and "signed by SHA256:" in text
        argv = ("verify", "run.maskall.tar.gz", "--allowed-signers", signers)
        status, text = self.said(capsys, *argv, "--challenge", "7f")
        assert status == 0 and text.splitlines()[-1].startswith(
            "holds: run more on nested-trixie, emulated: 1 UNDECIDED"
        )
        status, text = self.said(capsys, *argv, "--challenge", "80", "--json")
        assert status == 1 and '"answer": "FAILS"' in text and '"holds": false' in text

    def test_unsigned(self, root: Path, signers: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, text = self.said(capsys, "bundle", str(root), "--output", "a.gz")
        assert status == 0 and "UNSIGNED: nobody vouches for it" in text
        status, text = self.said(capsys, "verify", "a.gz", "--allowed-signers", signers)
        assert status == 1 and "UNSIGNED     signature" in text and "DOES NOT HOLD: signature" in text

    def test_wrong_usage(self, root: Path, signers: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "text").write_text("hello, this is no bundle")
        (tmp_path / "bad").write_text("# nobody\nlab ssh-ed25519 notbase64!\n")
        weak = new_key(tmp_path, "weak", "rsa", "-b", "1024")
        ok = ("--allowed-signers", signers)
        for argv, told in (
            (("verify", "nothing", *ok), "nothing cannot be read or unpacked: No such file"),
            (("verify", str(root), *ok), "is no ordinary file"),
            (("verify", "text", *ok), "text: it is no bundle: not compressed by gzip"),
            (("verify", "text", "--allowed-signers", "nothing"), "nothing cannot be read"),
            (("verify", "text", "--allowed-signers", "bad"), "bad:2: there is no public key"),
            (("verify", "text", *ok, "--profile", "nonsense"), "nonsense"),
            (("verify", "text"), "allowed-signers"),
            (("verify", "text", "--allowed-signers", "/dev/zero"), "it has no end"),
            (("bundle", "nothing"), "there is no directory nothing"),
            (("bundle", "text"), "text is no directory"),
            (("judge", "text"), "a bundle is judged by 'maskall verify'"),
            (("bundle", "."), "has no run.json: it is no run"),
            (("bundle", str(root), "--challenge", ""), "--challenge '' is none"),
            (("bundle", str(root), "--challenge", "a\nb"), "--challenge 'a\\nb' is none"),
            (("bundle", str(root), "--sign", str(weak)), "weak signs for nobody: an RSA key of 1024 bits is weak"),
            *(
                ((*words, "--output", str(root / name)), f"{root / name} is evidence of the run in {root}")
                for words in (("bundle", str(root)), ("report", str(root), "--html"))
                for name in ("results.json", "run.json", "run.jsonl", "raw/more.tar.gz", "logs/../results.json")
            ),
            (("verify", "text", *ok, "--challenge", "a b"), "--challenge 'a b' is none"),
            (("countersign", "text", *ok, "--challenge", ""), "--challenge '' is none"),
            (("run", "--resume", "nothing"), "nothing: 'run.json' cannot be read: No such file or directory"),
            (("report", "text"), "text: the file: Invalid JSON"),
            (("report", "/dev/zero"), "it has no end"),
            (("countersign", "text", *ok), "text: the file: Invalid JSON"),
        ):
            status, text = self.said(capsys, *argv)
            assert (status, told in text) == (2, True), (argv, text)

    def test_what_another_program_packed(
        self, root: Path, signers: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        self.said(capsys, "bundle", str(root), "--output", "a.gz")
        (tmp_path / "b.gz").write_bytes(gzip.compress(gzip.decompress((tmp_path / "a.gz").read_bytes())))
        status, text = self.said(capsys, "verify", "b.gz", "--allowed-signers", signers)
        assert status == 1 and "another program packed it, or packed it again" in text

    def test_what_is_no_ordinary_file_stays_what_it_is(
        self, root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """/dev/null and /dev/stdout are root's to lose."""
        for name, told in (("null", "/dev/null"), ("file", "old"), ("full", "/dev/full")):
            (tmp_path / name).symlink_to(told)
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "old").write_text("old")
        for name in ("null", "file", "full", "pipe"):
            status, text = self.said(capsys, "bundle", str(root), "--output", name)
            assert status == 2 and f"{name} is no ordinary file" in text
        assert (tmp_path / "old").read_text() == "old"
        report = ("report", str(root), "--format", "json", "--output")
        assert self.said(capsys, *report, "null") == self.said(capsys, *report, "file") == (3, "")
        assert '"run_id": "more"' in (tmp_path / "old").read_text()
        status, text = self.said(capsys, *report, "full")
        assert status == 3 and "full could not be written: No space left on device" in text
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1 << 20)
        assert self.said(capsys, *report, "pipe") == (3, "")
        assert os.read(reader, 1 << 20) == (tmp_path / "old").read_bytes()
        os.close(reader)
        assert all((tmp_path / name).is_symlink() for name in ("null", "file", "full"))
        assert (tmp_path / "pipe").is_fifo()

    def test_a_full_disk_when_it_is_unpacked(
        self, forger: Forger, root: Path, signers: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = forger.bundled(root)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
        try:
            status, text = self.said(capsys, "verify", str(path), "--allowed-signers", signers)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert status == 2 and "cannot be read or unpacked: File too large" in text

    def test_another_version_of_the_format(
        self, forger: Forger, root: Path, signers: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        members = members_of(forger.bundled(root))
        members["statement.json"] = members["statement.json"].replace(b"evidence:v1", b"evidence:v2")
        status, text = self.said(capsys, "verify", str(forger.written(members)), "--allowed-signers", signers)
        assert status == 2 and "urn:maskall:evidence:v2, and this maskall reads urn:maskall:evidence:v1 only" in text


def test_a_run_that_is_gone_on_with_is_under_way(root: Path, tmp_path: Path) -> None:
    """Its results are those of the time before."""
    holder = held(root)
    with pytest.raises(UsageError, match="the run is still under way"):
        bundle(root, tmp_path / "x")
    holder.close()
    bundle(root, tmp_path / "x")


def test_errors_are_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        bundle(tmp_path, tmp_path / "x")
