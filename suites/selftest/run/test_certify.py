"""A certificate says what its bundles show, whoever makes it; and nothing that was not shown is CERTIFIED."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from harness.base.errors import UsageError
from harness.cli.certify import _asked
from harness.cli.entry import main
from harness.evidence.store import digest
from harness.judge.judgement import Conclusion
from harness.lab.environment import examined
from harness.lab.safety.facts.stored import kept
from harness.report.bundle.certificate import Certificate, Question, Result, RowShown, RunShown, text
from harness.report.bundle.layers import Verification
from harness.report.bundle.signers import Signers, parse_signers
from harness.run import store
from harness.run.bundle import bundle, redacted_bundle
from harness.run.certify import NAMESPACE, certificate, countersign, load_certificate, nobody, store_certificate
from harness.run.options import RunOptions
from harness.run.resume import settled
from harness.run.rules import this_tool
from harness.run.schema import certificate_schema, schema_text
from harness.run.selection import chosen
from harness.run.verify import Wanted
from harness.scenario.repeats import row_of
from suites.selftest.fakes.badbundle import (
    CONTROL,
    NOW,
    SIDE,
    Forger,
    edit_json,
    edit_raw,
    finish,
    finished_run,
    forger,
    later,
    new_key,
    public,
)
from suites.selftest.run.test_verify_attacks import only

__all__ = ["forger"]
pytestmark = pytest.mark.whole

PUBLISHED = Path(__file__).parents[3] / "docs/certificate.schema.json"
ENVIRONMENT = {
    "boot": b"a-boot",
    "clock": b"1000\nyes",
    "taint": b"0",
    "commandlines": b"root=/dev/sda\nloglvl=all",
    "packages": b"linux-image-6.12.1 6.12.1-1\nxen-hypervisor-4.20-amd64 4.20.1-1",
    "verify": b"",
    "build": b"running 576c0736\nin /boot/xen-4.20-amd64.gz",
    "livepatches": b"ID                                     | status | metadata\nstatus 0",
    "modules": b"xen_pciback linux-image-6.12.1 /lib/modules/6.12.1/kernel/drivers/xen/xen-pciback.ko",
    "firmware": b"bios_version 2.1\n0000:04:00.0 1.2.3",
}
QUESTION = Question(name="dom0's kernel", good=True, seen="not tainted")


def decided(rows: dict[str, Conclusion], **more: object) -> Certificate:
    given: dict[str, object] = {
        "doubts": (),
        "fidelity": "hardware",
        "environment": [QUESTION],
        "device": "nic0",
        "device_ids": ("8086:1521 rev 01, subsystem 8086:0001",),
        "firmware": ("bios_version 2.1",),
        "machine": "Dell R640",
        "stack": {"xen_version": "4.20.1"},
        "packages": {},
        "played_from": NOW,
        "played_to": NOW,
        "bundles": (),
        "judged_by": this_tool(),
    }
    runs = [RunShown("run", tuple((name, one, "because") for name, one in rows.items()))]
    return Certificate.of(**{"runs": runs, **given, **more})  # type: ignore[arg-type]


class TestDecision:
    PROVEN = {"E1": Conclusion.PROVEN}  # noqa: RUF012 - never changed

    def test_all_proven_on_hardware(self) -> None:
        assert decided(self.PROVEN).result is Result.CERTIFIED
        assert text(decided(self.PROVEN)).startswith("CERTIFIED: nic0, on hardware\n")

    @pytest.mark.parametrize(
        ("rows", "more", "result", "because"),
        [
            ({"E1": Conclusion.REGRESSION}, {}, Result.NOT_CERTIFIED, "E1: REGRESSION: because"),
            ({"E1": Conclusion.REGRESSION, "E2": Conclusion.UNDECIDED}, {}, Result.NOT_CERTIFIED, "E1: REGRESSION"),
            ({"E1": Conclusion.UNDECIDED}, {}, Result.INCOMPLETE, "E1: UNDECIDED: because"),
            ({"E1": Conclusion.UNPROVEN}, {}, Result.INCOMPLETE, "E1: UNPROVEN: because"),
            ({"E1": Conclusion.BLIND}, {}, Result.INCOMPLETE, "E1: BLIND: because"),
            ({"E1": Conclusion.CHANGED}, {}, Result.INCOMPLETE, "E1: CHANGED: because"),
            ({"E1": Conclusion.SKIPPED}, {}, Result.INCOMPLETE, "E1: SKIPPED: because"),
            (PROVEN, {"fidelity": "emulated"}, Result.INCOMPLETE, "on an emulator: nothing is said about hardware"),
            (PROVEN, {"fidelity": "unknown"}, Result.INCOMPLETE, "nothing is said about hardware"),
            (PROVEN, {"doubts": ("completeness: a row",)}, Result.INCOMPLETE, "completeness: a row"),
            (PROVEN, {"environment": [Question(name="q", good=False, seen="s")]}, Result.INCOMPLETE, "q: s"),
        ],
    )
    def test_what_keeps_it_from_being_certified(
        self, rows: dict[str, Conclusion], more: dict[str, object], result: Result, because: str
    ) -> None:
        made = decided(rows, **more)
        assert made.result is result and because in "\n".join(made.because)
        assert because[:40] in " ".join(text(made).split())

    TIMES = {f"E14@{number}": Conclusion.PROVEN for number in (1, 2, 3)}  # noqa: RUF012 - never changed

    def test_all_times_of_a_row_count(self) -> None:
        made = decided(self.PROVEN | self.TIMES)
        assert made.result is Result.CERTIFIED
        assert made.rows["E14"] == RowShown(conclusion=Conclusion.PROVEN, good=3, times=3)
        assert "  3 of 3  PROVEN      E14\n" in text(made) and "  1 of 1  PROVEN      E1\n" in text(made)
        assert "2 PROVEN; played 4 times in all" in text(made)

    @pytest.mark.parametrize("bad", TIMES)
    @pytest.mark.parametrize(
        ("what", "result"),
        [
            (Conclusion.REGRESSION, Result.NOT_CERTIFIED),
            (Conclusion.UNDECIDED, Result.INCOMPLETE),
            (Conclusion.BLIND, Result.INCOMPLETE),
            (Conclusion.UNPROVEN, Result.INCOMPLETE),
        ],
    )
    def test_one_bad_time_is_a_bad_row(self, bad: str, what: Conclusion, result: Result) -> None:
        made = decided(self.PROVEN | self.TIMES | {bad: what})
        assert made.result is result
        assert made.rows["E14"] == RowShown(conclusion=what, good=2, times=3)
        assert f"{bad}: {what}: because; good 2 of 3 times" in made.because

    def test_what_is_played_again_counts_and_what_it_was_stays_told(self) -> None:
        first = RunShown("first", tuple((name, Conclusion.REGRESSION, "r") for name in self.TIMES))
        second = RunShown("second", tuple((name, Conclusion.PROVEN, "") for name in self.TIMES))
        made = decided({}, runs=[first, second])
        assert made.result is Result.CERTIFIED
        assert made.rows["E14"].earlier == ("REGRESSION, 0 of 3, in run first",)
        assert "E14; was REGRESSION, 0 of 3, in run first" in " ".join(text(made).split())
        back = decided({}, runs=[second, first])
        assert back.result is Result.NOT_CERTIFIED and back.rows["E14"].good == 0
        other = RunShown("other", (("E2", Conclusion.PROVEN, ""),))
        assert decided({}, runs=[first, other]).result is Result.NOT_CERTIFIED, "it was not played again"

    def test_known_issues_of_the_stack_are_named(self) -> None:
        made = decided(self.PROVEN | {"E2": Conclusion.KNOWN})
        assert made.result is Result.CERTIFIED and made.known == ("E2",)
        assert text(made).startswith("CERTIFIED, but for 1 known issues of the stack: ")


BEGAN = datetime.fromtimestamp(1005, UTC)
RUN = (BEGAN, BEGAN + timedelta(seconds=590))


class TestEnvironment:
    AFTER = ENVIRONMENT | {"clock": b"1600\nyes"}

    def test_all_is_well(self) -> None:
        assert [one for one in examined(ENVIRONMENT, self.AFTER, *RUN, reboots=False) if not one.good] == []

    @pytest.mark.parametrize(
        ("section", "content", "question"),
        [
            ("taint", b"4096", "dom0's kernel"),
            ("verify", b"xen-utils-4.20: ??5?????? /usr/lib/xen-4.20/bin/xl", "dpkg --verify"),
            ("packages", b"", "packages"),
            ("build", b"running 576c0736", "Xen that runs"),
            ("build", b"running \nin /boot/xen", "Xen that runs"),
            ("livepatches", b"ID | status\nfix | APPLIED\nstatus 0", "livepatches"),
            ("livepatches", b"sh: xen-livepatch: not found\nstatus 127", "livepatches"),
            ("livepatches", b"", "livepatches"),
            ("modules", b"xen_pciback nobody no file of its name", "modules"),
            ("modules", b"xen_pciback dkms-something /lib/modules/x.ko", "modules"),
            ("commandlines", b"another", "command lines, before and after"),
            ("firmware", b"bios_version 2.2", "firmware, before and after"),
            ("boot", b"another", "boots"),
            ("clock", b"9999", "clock"),
            ("clock", b"hello", "clock"),
            ("clock", b"", "clock"),
        ],
    )
    def test_what_is_wrong(self, section: str, content: bytes, question: str) -> None:
        after = self.AFTER | {section: content}
        wrong = [one.name for one in examined(ENVIRONMENT, after, *RUN, reboots=False) if not one.good]
        assert question in wrong

    def test_a_xen_without_livepatches_has_none(self) -> None:
        told = {"livepatches": b"xen-livepatch: failed to list: Function not implemented\nstatus 1"}
        found = examined(ENVIRONMENT | told, self.AFTER | told, *RUN, reboots=False)
        assert [one.name for one in found if not one.good] == []

    @pytest.mark.parametrize("name", ["commandlines", "packages", "build", "firmware"])
    def test_what_was_not_told_is_not_the_same(self, name: str) -> None:
        told = {name: b""}
        found = examined(ENVIRONMENT | told, self.AFTER | told, *RUN, reboots=False)
        assert [one.seen for one in found if one.name.endswith("before and after") and not one.good] == ["not told"]

    @pytest.mark.parametrize(
        "line", [b"xen-utils-4.20: ??5?????? c /etc/xen/xl.conf", b"xen-doc: missing     /usr/share/doc/xen/README"]
    )
    def test_what_may_differ_from_its_package(self, line: bytes) -> None:
        after = self.AFTER | {"verify": line}
        assert all(one.good for one in examined(ENVIRONMENT, after, *RUN, reboots=False))

    def test_what_was_read_before_is_not_what_was_read_after(self) -> None:
        """However short the run was."""
        short = (BEGAN, BEGAN + timedelta(seconds=90))
        (wrong,) = (one for one in examined(ENVIRONMENT, dict(ENVIRONMENT), *short, reboots=False) if not one.good)
        assert (wrong.name, wrong.seen) == ("clock", "0 s passed there, and 90 s here")

    @pytest.mark.parametrize("days", [-1, 1])
    def test_of_a_host_that_was_clean_another_day(self, days: int) -> None:
        """As long as the run, and not when it was."""
        at = [one + timedelta(days=days) for one in RUN]
        (wrong,) = (one for one in examined(ENVIRONMENT, self.AFTER, *at, reboots=False) if not one.good)
        assert wrong.name == "clock" and wrong.seen.endswith("s from the times of the run")

    def test_a_reboot_that_the_run_made(self) -> None:
        after = self.AFTER | {"boot": b"another"}
        assert all(one.good for one in examined(ENVIRONMENT, after, *RUN, reboots=True))

    def test_not_read(self) -> None:
        (one,) = examined(ENVIRONMENT, None, *RUN, reboots=False)
        assert not one.good and one.seen == "not read after the run"


def commandline(root: Path) -> str:
    """dom0's, as its kernel printed it in this run."""
    log = (root / f"{SIDE}/01-C0/dom0_dmesg.txt").read_text()
    return next(
        line.partition("Kernel command line: ")[2] for line in log.split("\n") if "Kernel command line: " in line
    )


def examine(root: Path, **others: bytes) -> None:
    """Write what dom0 consisted of, which fits the run."""
    facts = json.loads((root / "run.json").read_text())["host"]["facts"]
    results = json.loads((root / "results.json").read_text())
    for name, at in (("before", "started"), ("after", "ended")):
        sections = {
            **ENVIRONMENT,
            "clock": b"%d\nyes" % datetime.fromisoformat(results[at]).timestamp(),
            "commandlines": f"{commandline(root)}\n{facts['xen_commandline']}".encode(),
            "packages": f"linux-image-{facts['kernel']} 6.12.1-1\nxen-hypervisor-4.20-amd64 4.20.1-1".encode(),
            "build": f"running {facts['xen_build_id']}\nin /boot/xen-4.20-amd64.gz".encode(),
            "firmware": b"product_name Standard PC (Q35 + ICH9, 2009)",
            **others,
        }
        store.write_atomically(root / f"environment/{name}.txt", kept(sections))


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, forger: Forger) -> Path:
    """A certification of a recorded run."""
    folder = tmp_path_factory.mktemp("certified")
    root = finished_run("proven", folder / "run")
    examine(root)
    later(root, -2)  # so that a supplement of it has a day of its own, and is not of tomorrow
    path = folder / "nic0.maskall.tar.gz"
    bundle(root, path, keys=[forger.key], challenge="abc")
    made, _ = certificate(folder, [path], nobody())
    store_certificate(made, folder)
    return folder


@pytest.fixture
def folder(certified: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(certified, tmp_path / "nic0"))


def with_environment(folder: Path, forger: Forger, old: bytes, new: bytes) -> Certificate:
    """The certificate of a run whose host tells `new` of itself instead of `old`, before and after."""
    for name in ("before", "after"):
        path = folder / f"run/environment/{name}.txt"
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new))
    bundle(folder / "run", folder / "nic0.maskall.tar.gz", keys=[forger.key])
    made, _ = certificate(folder, [folder / "nic0.maskall.tar.gz"], nobody())
    return made


class TestOfBundles:
    def test_an_emulator_is_never_certified_and_says_so(self, folder: Path) -> None:
        made = load_certificate(folder / "certificate.json")
        assert made.result is Result.INCOMPLETE
        assert made.because[0] == "it was played on an emulator: nothing is said about hardware"
        assert made.rows == {"E14-F1-hvm-virtio-rng": RowShown(conclusion=Conclusion.PROVEN, good=1, times=1)}
        assert "of profile certify, " in "\n".join(made.because)
        assert "dom0's kernel" not in "\n".join(made.because)
        assert not any(one.startswith("of this run") for one in made.because)
        assert (folder / "certificate.txt").read_text().startswith("INCOMPLETE: virtio-rng, on an emulator\n")
        assert max(map(len, (folder / "certificate.txt").read_text().splitlines())) <= 78

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            (b"running 576c", b"running 0000", "xen_build_id is 0000"),
            (b"console=com1", b"console=vga", "xen_commandline is console=vga"),
            (
                b"product_name Standard PC",
                b"product_name PowerEdge R650",
                "the machine's product_name is PowerEdge R650",
            ),
            (b"product_name Standard PC (Q35 + ICH9, 2009)", b"sys_vendor QEMU", "the machine is not told, and the"),
            (b"product_name", b"bios_version 9.9\nproduct_name", "the machine's bios_version is 9.9, and the run's"),
            (b"product_name", b"bios_date 01/01/2030\nproduct_name", "the machine's bios_date is 01/01/2030"),
            (b"product_name", b"sys_vendor Dell Inc.\nproduct_name", "the machine's sys_vendor is Dell Inc."),
            (b"root=/dev/vda rw", b"root=/dev/vda rw pci=nomsi", "dom0's command line is root=/dev/vda rw pci=nomsi"),
            (b"linux-image-6.12", b"linux-image-6.1", "no package is that of the run's kernel 6.12.118+deb13-amd64"),
            (b"hypervisor-4.20", b"hypervisor-4.17", "no package is that of the run's Xen 4.20: xen-hypervisor-4.17"),
        ],
    )
    def test_dom0_of_another_host(self, folder: Path, forger: Forger, old: bytes, new: bytes, told: str) -> None:
        """Somebody has a host that is clean, and another that passes."""
        made = with_environment(folder, forger, old, new)
        assert f"of this run: {told}" in "\n".join(made.because)

    @pytest.mark.parametrize(
        ("old", "new"),
        [(b"deb13-amd64 ", b"deb13-amd64-unsigned "), (b"root=/dev/vda rw", b" root=/dev/vda rw")],
    )
    def test_dom0_of_this_host(self, folder: Path, forger: Forger, old: bytes, new: bytes) -> None:
        made = with_environment(folder, forger, old, new)
        assert "of this run: " not in "\n".join(made.because)

    def test_dom0_that_is_tainted_by_its_own_log(self, folder: Path, forger: Forger) -> None:
        """Somebody's driver was loaded meanwhile, and dom0 says that it is not tainted."""
        line = b"[ 9999.000001] mine: loading out-of-tree module taints kernel.\n"
        edit_raw(folder / "run", SIDE, "14-end/dom0_dmesg.txt", lambda log: log + line)
        finish(folder / "run")
        bundle(folder / "run", folder / "nic0.maskall.tar.gz", keys=[forger.key])
        made, _ = certificate(folder, [folder / "nic0.maskall.tar.gz"], nobody())
        assert f"of this run: dom0's log has, {SIDE}/14-end: [ 9999.000001] mine: loading" in "\n".join(made.because)

    @pytest.mark.parametrize(
        ("section", "old", "told"),
        [
            ("boot", b"a-boot", "boots: not told"),
            ("build", b"in /boot/", "Xen that runs: 576c0736b3e38388c5afe9aaccc43a18d514e88e: no file of /boot has it"),
        ],
    )
    def test_what_dom0_does_not_tell(self, folder: Path, forger: Forger, section: str, old: bytes, told: str) -> None:
        for name in ("before", "after"):
            path = folder / f"run/environment/{name}.txt"
            path.write_bytes(path.read_bytes().replace(old, b"in /root/" if section == "build" else b""))
        bundle(folder / "run", folder / "nic0.maskall.tar.gz", keys=[forger.key])
        made, _ = certificate(folder, [folder / "nic0.maskall.tar.gz"], nobody())
        assert told in made.because

    def test_the_run_before_it_is_not_among_its_bundles(self, folder: Path, forger: Forger) -> None:
        told = {"run_id": "bad", "started": "2026-01-01T00:00:00Z", "results": "0" * 64, "stands": {}}
        edit_json(folder / "run/run.json", lambda data: data.update(parent=told))
        finish(folder / "run")
        bundle(folder / "run", folder / "nic0.maskall.tar.gz", keys=[forger.key])
        made, _ = certificate(folder, [folder / "nic0.maskall.tar.gz"], nobody())
        assert "parent: the first bundle supplements run bad, which is not among them" in made.because

    def test_nobody_can_tell_what_a_redacted_one_certifies(self, folder: Path, forger: Forger) -> None:
        redacted_bundle(folder / "run", folder / "nic0.maskall.tar.gz", b"k" * 32, keys=[forger.key])
        made, _ = certificate(folder, [folder / "nic0.maskall.tar.gz"], nobody())
        assert any(one.startswith("redacted: who and where it was are pseudonyms") for one in made.because)

    def test_a_section_that_is_there_twice(self, folder: Path, forger: Forger) -> None:
        """It is one thing to this program, and another to the next."""
        path = folder / "run/environment/after.txt"
        path.write_bytes(b"@@ taint\n4096\n" + path.read_bytes())
        bundle(folder / "run", folder / "nic0.maskall.tar.gz", keys=[forger.key])
        made, _ = certificate(folder, [folder / "nic0.maskall.tar.gz"], nobody())
        assert "environment: not read after the run" in made.because

    def test_it_obeys_the_published_schema(self, folder: Path) -> None:
        assert PUBLISHED.read_text() == schema_text(certificate_schema()), "publish it again, see harness/run/schema.py"
        published = json.loads(PUBLISHED.read_text())
        jsonschema.Draft202012Validator.check_schema(published)
        jsonschema.Draft202012Validator(published).validate(json.loads((folder / "certificate.json").read_text()))


def wanted(forger: Forger, challenge: str | None = "abc") -> Wanted:
    return Wanted(Signers(parse_signers(forger.signers, "allowed")), NOW, challenge)


def played_a_day_later(folder: Path) -> Path:
    """What was played again, of the run in `folder`."""
    root = Path(shutil.copytree(folder / "run", folder.parent / "second"))
    later(root, 1)
    parent = json.loads((folder / "run/results.json").read_text())
    sha256 = digest((folder / "run/results.json").read_bytes())
    told = {"run_id": parent["run_id"], "started": parent["started"], "results": sha256, "stands": {}}
    edit_json(root / "run.json", lambda data: data.update(run_id="second", parent=told))
    finish(root)
    return root


class TestCountersign:
    @pytest.fixture
    def allowed(self, forger: Forger, tmp_path: Path) -> Path:
        path = tmp_path / "vendors"
        path.write_text(forger.signers)
        return path

    def test_there_and_from_outside(
        self, folder: Path, allowed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key = new_key(tmp_path, "certifier")
        argv = ["countersign", str(folder / "certificate.json"), "--allowed-signers", str(allowed)]
        assert main([*argv, "--challenge", "abc", "--sign", str(key), "--verifier", "https://certify.example.com"]) == 0
        assert "the certificate is what its bundles say" in capsys.readouterr().out
        svr = json.loads((folder / "certificate.svr.json").read_text())
        assert svr["predicateType"] == "https://in-toto.io/attestation/svr/v0.1"
        assert "MASKALL_REJUDGED" in svr["predicate"]["properties"]
        assert "MASKALL_INCOMPLETE" in svr["predicate"]["properties"]
        assert [one["name"] for one in svr["subject"]] == ["certificate.json", "nic0.maskall.tar.gz"]
        (tmp_path / "certifiers").write_text(f"c@example.com {public(key)}\n")
        check = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "certifiers"), "-I", "c@example.com"]
        check += ["-n", NAMESPACE, "-s", str(folder / "certificate.svr.json.sig")]
        content = (folder / "certificate.svr.json").read_bytes()
        assert subprocess.run(check, input=content, capture_output=True, check=False).returncode == 0  # noqa: S603
        assert subprocess.run(check, input=content + b" ", capture_output=True, check=False).returncode != 0  # noqa: S603

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data.replace(b"{\n", b'{\n "result": "CERTIFIED",\n', 1),
            lambda data: data.replace(b'"INCOMPLETE"', b'"\\u0049NCOMPLETE"', 1),
            lambda data: json.dumps(json.loads(data)).encode(),
            lambda data: data + b"\n",
        ],
    )
    def test_a_file_that_another_program_reads_otherwise(
        self, folder: Path, forger: Forger, change: Callable[[bytes], bytes]
    ) -> None:
        path = folder / "certificate.json"
        content = path.read_bytes()
        path.write_bytes(change(content))
        assert path.read_bytes() != content
        found = countersign(path, wanted(forger), forger.key, "urn:x")
        assert (found.svr, found.wrong) == (None, ["certificate.json is not written as maskall writes it"])

    def test_a_text_beside_it_that_says_something_else(self, folder: Path, forger: Forger) -> None:
        path = folder / "certificate.txt"
        path.write_text(path.read_text().replace("INCOMPLETE", "CERTIFIED"))
        found = countersign(folder / "certificate.json", wanted(forger), forger.key, "urn:x")
        assert (found.svr, found.wrong) == (None, ["certificate.txt is not what certificate.json says"])
        path.unlink()
        assert countersign(folder / "certificate.json", wanted(forger), forger.key, "urn:x").wrong == []

    def test_it_signs_of_all_bundles_what_holds_for_each(self, folder: Path, forger: Forger) -> None:
        """The first answers the challenge, the second has none."""
        second = played_a_day_later(folder)
        edit_json(second / "run.json", lambda data: data.update(control=None, notices=[]))
        shutil.rmtree(second / CONTROL)
        finish(second)
        path = forger.bundled(second, "abc").rename(folder / "second.maskall.tar.gz")
        made, _ = certificate(folder, [folder / "nic0.maskall.tar.gz", path], nobody())
        store_certificate(made, folder)
        found = countersign(folder / "certificate.json", wanted(forger), forger.key, "urn:x")
        assert found.svr is not None, found.wrong
        signed = json.loads(found.svr.read_text())["predicate"]["properties"]
        assert "MASKALL_MANIFEST" in signed and "MASKALL_CONTROL" not in signed

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda data: data.update(result="CERTIFIED"), "NOT SO: result: says CERTIFIED"),
            (lambda data: data.update(because=[]), "NOT SO: because: says ()"),
            (lambda data: data.update(fidelity="hardware"), "NOT SO: fidelity: says hardware"),
            (
                lambda data: data["rows"].update({"E99": {"conclusion": "PROVEN", "good": 1, "times": 1}}),
                "NOT SO: rows: ",
            ),
            (lambda data: data["environment"].pop(), "NOT SO: environment: "),
            (lambda data: data.update(machine="Dell R650"), "NOT SO: machine: says Dell R650"),
            (lambda data: data["bundles"][0].update(sha256="0" * 64), "NOT SO: bundles: "),
            (lambda data: data["judged_by"].update(sha256="0" * 64), "NOT SO: judged by maskall 0000"),
        ],
    )
    def test_an_edited_certificate(
        self,
        folder: Path,
        allowed: Path,
        forger: Forger,
        change: Callable[[dict[str, object]], object],
        told: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        edit_json(folder / "certificate.json", change)
        argv = ["countersign", str(folder / "certificate.json"), "--allowed-signers", str(allowed)]
        assert main([*argv, "--sign", str(forger.key)]) == 1, "and nobody signs it"
        assert told in capsys.readouterr().out
        assert not (folder / "certificate.svr.json").exists()

    def test_by_a_stranger_and_for_somebody_else(
        self, folder: Path, allowed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        argv = ["countersign", str(folder / "certificate.json"), "--allowed-signers", str(allowed)]
        assert main([*argv, "--challenge", "another"]) == 1
        assert "NOT SO: freshness: the challenge is 'another'" in capsys.readouterr().out
        allowed.write_text("")
        assert main(argv) == 1
        assert "NOT SO: signature: " in capsys.readouterr().out

    def test_of_no_bundle(self, folder: Path, allowed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        edit_json(folder / "certificate.json", lambda data: data.update(bundles=[]))
        assert main(["countersign", str(folder / "certificate.json"), "--allowed-signers", str(allowed)]) == 2
        assert "the certificate names no bundle" in capsys.readouterr().err

    def test_without_its_bundle(self, folder: Path, allowed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ["countersign", str(folder / "certificate.json"), "--allowed-signers", str(allowed)]
        (folder / "nic0.maskall.tar.gz").write_bytes(b"other")
        assert main(argv) == 2
        (folder / "nic0.maskall.tar.gz").unlink()
        assert main(argv) == 2
        assert "Traceback" not in capsys.readouterr().err


class TestSupplement:
    FIRST = "nic0.maskall.tar.gz"

    @pytest.fixture
    def second(self, folder: Path) -> Path:
        return played_a_day_later(folder)

    def together(self, folder: Path, second: Path, forger: Forger) -> tuple[Certificate, Verification]:
        path = forger.bundled(second).rename(folder / "second.maskall.tar.gz")
        made, verifications = certificate(folder, [folder / self.FIRST, path], wanted(forger, None))
        alone = forger.verify(path, parent=folder / self.FIRST)
        assert [(one.name, one.word) for one in alone.layers] == [
            (one.name, one.word) for one in verifications[1].layers
        ]
        return made, verifications[1]

    def test_it_covers_both(self, folder: Path, second: Path, forger: Forger) -> None:
        found, verification = self.together(folder, second, forger)
        assert verification.status == 0, list(verification.lines)
        assert "holds and is the one that it supplements; none of it stands" in "\n".join(verification.lines)
        assert [one.file for one in found.bundles] == [self.FIRST, "second.maskall.tar.gz"]
        assert found.rows["E14-F1-hvm-virtio-rng"].earlier[0].startswith("PROVEN, 1 of 1, in run ")
        assert not any(one.startswith(("parent", "clock", "of this run")) for one in found.because), found.because

    def test_verify_wants_to_see_its_parent(self, folder: Path, second: Path, forger: Forger) -> None:
        path = forger.bundled(second)
        lines = "\n".join(forger.verify(path).lines)
        assert forger.verify(path).status == 0 and "not asked    parent        it supplements run " in lines
        first = folder / self.FIRST
        only(forger.verify(first, parent=first), "parent", "it supplements none; --parent was given")

    def test_a_parent_that_does_not_hold(self, folder: Path, second: Path, forger: Forger) -> None:
        content = (folder / self.FIRST).read_bytes()
        (folder / self.FIRST).write_bytes(content[:-100])
        only(forger.verify(forger.bundled(second), parent=folder / self.FIRST), "parent", "its parent does not hold: c")
        bundle(folder / "run", folder / self.FIRST)
        told = "its parent does not hold: signature: nobody vouches"
        only(forger.verify(forger.bundled(second), parent=folder / self.FIRST), "parent", told)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda told: told.update(results="0" * 64), "is no supplement of run"),
            (lambda told: told.update(run_id="another"), "it supplements run another of"),
            (lambda told: told.update(started="2020-01-01T00:00:00Z"), "of 2020-01-01"),
            (lambda told: told.update(stands={"E1-F1-hvm-nvme": "PROVEN"}), "of E1-F1-hvm-nvme it says PROVEN, and it"),
            (lambda told: told.update(stands={"E14-F1-hvm-virtio-rng": "PROVEN"}), "and it came to nothing"),
        ],
    )
    def test_of_another_run(
        self, folder: Path, second: Path, forger: Forger, change: Callable[[dict[str, object]], object], told: str
    ) -> None:
        edit_json(second / "run.json", lambda data: change(data["parent"]))
        finish(second)
        found, verification = self.together(folder, second, forger)
        only(verification, "parent", told)
        assert any(one.startswith("parent of the supplement: ") for one in found.because)

    def test_it_is_older_than_its_parent(self, folder: Path, second: Path, forger: Forger) -> None:
        later(second, -2)
        only(self.together(folder, second, forger)[1], "parent", "was begun before run")

    def test_of_another_card_of_the_same_name(self, folder: Path, second: Path, forger: Forger) -> None:
        for look in second.glob("raw/*/*/*/config.hex"):
            side = look.parent.parent
            name = look.relative_to(side).as_posix()
            edit_raw(
                second, side.relative_to(second).as_posix(), name, lambda data: data.replace(b"44 10", b"45 10", 1)
            )
        finish(second)
        _, verification = self.together(folder, second, forger)
        only(verification, "parent", "the device was 1af4:1044")
        assert "and is 1af4:1045" in "\n".join(verification.lines)

    def test_of_another_revision(self, folder: Path, second: Path, forger: Forger) -> None:
        for look in second.glob("raw/*/*/*/config.hex"):
            side = look.parent.parent
            name = look.relative_to(side).as_posix()
            edit_raw(
                second,
                side.relative_to(second).as_posix(),
                name,
                lambda data: data.replace(b"01 00 ff", b"02 00 ff", 1),
            )
        finish(second)
        only(self.together(folder, second, forger)[1], "parent", "rev 02, subsystem")

    def test_its_firmware_was_changed_in_between(self, folder: Path, second: Path, forger: Forger) -> None:
        """Before and after each of both runs it is the same, so neither of them says so."""
        examine(second, firmware=b"product_name Standard PC (Q35 + ICH9, 2009)\n0000:04:00.0 9.9.9")
        only(self.together(folder, second, forger)[1], "parent", "firmware: was without, is 0000:04:00.0 9.9.9 in the")

    def test_fewer_times_than_the_profile_wants(self, folder: Path, forger: Forger) -> None:
        found, _ = certificate(folder, [folder / self.FIRST], nobody())
        told = "completeness: profile certify plays E14-F1-hvm-virtio-rng 3 times, and 1 were planned"
        assert told in found.because


class TestPlayedAgain:
    """What `--only-failed` plays: all that the certificate does not show, and the profile wants."""

    ROW = "E14-F1-hvm-virtio-rng"

    def asked(self, folder: Path, tmp_path: Path, host: str | None = None) -> RunOptions:
        return _asked(RunOptions(profile="certify"), host, tmp_path / "new", None, folder)[1]

    @pytest.fixture
    def before(self, folder: Path) -> Path:
        edit_json(folder / "run/run.json", lambda begun: begun.update(repeat_options=" --profile certify"))
        return folder

    def test_rows_that_are_missing(self, before: Path, tmp_path: Path) -> None:
        options = self.asked(before, tmp_path)
        assert options.failed == before / "run" and options.results == tmp_path / "new/run"
        assert self.ROW not in map(row_of, options.scenario), "it is shown"
        assert {"E14-F8-hvm-virtio-rng@1", "E14-F8-hvm-virtio-rng@3", "E3-F1-hvm-virtio-rng"} <= set(options.scenario)
        assert settled(options) == options and [row.id for row in chosen(options)] == list(options.scenario)

    def test_a_row_that_is_not_shown_is_played_as_often_as_it_was(self, before: Path, tmp_path: Path) -> None:
        edit_json(
            before / "certificate.json", lambda data: data["rows"][self.ROW].update(conclusion="UNPROVEN", good=0)
        )
        assert [name for name in self.asked(before, tmp_path).scenario if row_of(name) == self.ROW] == [self.ROW]

    def test_its_host_may_be_named(self, before: Path, tmp_path: Path) -> None:
        assert self.asked(before, tmp_path, "nested-trixie") == self.asked(before, tmp_path)
        with pytest.raises(UsageError, match="is of nested-trixie, and not of xenbox1"):
            self.asked(before, tmp_path, "xenbox1")

    def test_all_of_it_is_shown(self, before: Path, tmp_path: Path) -> None:
        names = [row.row for row in chosen(RunOptions(profile="certify", device=("virtio-rng",)))]
        proven = {"conclusion": "PROVEN", "good": 1, "times": 1}
        edit_json(before / "certificate.json", lambda data: data.update(rows=dict.fromkeys(names, proven)))
        edit_json(before / "run/run.json", lambda begun: begun.update(scenarios=names))
        with pytest.raises(UsageError, match="every row is shown"):
            self.asked(before, tmp_path)


class TestCommand:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ([], "which host?"),
            (["x", "--resume", "y"], "y/run"),
            (["x", "--only-failed", "y"], "y/run"),
            (["--resume", "y", "--only-failed", "z"], "--resume and --only-failed are two things"),
            (["--resume", "y", "--output", "z"], "--resume and --output are two things"),
            (["--resume", "nowhere"], "run.json"),
            (["--only-failed", "nowhere"], "run.json"),
            (["nested"], "one device is certified at a time"),
            (["nested", "--device", "nvme", "--device", "virtio-rng"], "one device is certified at a time"),
            (["elsewhere", "--device", "nvme"], "elsewhere"),
            (["nested", "--device", "nvme", "--sign", "nokey"], "there is no key nokey"),
        ],
    )
    def test_wrong_usage(self, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["certify", *words]) == 2
        assert told in capsys.readouterr().err

    def test_no_certificate(self, tmp_path: Path) -> None:
        (tmp_path / "certificate.json").write_text("{}")
        with pytest.raises(UsageError, match="schema_version: Field required"):
            load_certificate(tmp_path / "certificate.json")
