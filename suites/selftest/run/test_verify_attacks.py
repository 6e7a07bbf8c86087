"""Bad bundles, each made up as an attacker would, and the layer that each is caught by."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import UsageError
from harness.judge.known import load_issues
from harness.report.begun import KNOWN_ISSUES
from harness.report.bundle import bag
from harness.report.bundle.container import BASE
from harness.report.bundle.layers import Verification, Word
from harness.report.bundle.sshsig import parse_signature
from harness.run import again
from harness.run.chain import Chain
from harness.run.rules import this_tool
from suites.selftest.fakes.badbundle import (
    CONTROL,
    SIDE,
    Forger,
    archive_of,
    edit_json,
    edit_raw,
    finish,
    finished_run,
    forger,
    header_with,
    members_of,
    new_key,
    played_anew,
    public,
    root,
    sealed,
    sign,
    with_more,
)

__all__ = ["forger", "root"]
pytestmark = pytest.mark.whole

LOOK = f"{bag.DATA}{SIDE}/13-C6/xl_list.txt"


@pytest.fixture(scope="module")
def good(forger: Forger) -> Path:
    """A bundle that holds."""
    path = forger.bundled(finished_run("proven", forger.folder / "run"))
    return path.rename(forger.folder / "good.tar.gz")


@pytest.fixture(scope="module")
def small(forger: Forger) -> Path:
    """Another, of a few files."""
    path = forger.bundled(finished_run("lab-error", forger.folder / "small"))
    assert forger.verify(path).status == 0
    return path.rename(forger.folder / "small.tar.gz")


def caught(found: Verification, layer: str, told: str, word: Word = Word.FAILS) -> None:
    """By this layer, in these words."""
    (one,) = [each for each in found.layers if each.name == layer]
    assert (found.status, one.word) == (1, word), list(found.lines)
    assert any(told in line for line in one.said), one.said


def only(found: Verification, layer: str, told: str, word: Word = Word.FAILS) -> None:
    """By this layer and by no other."""
    caught(found, layer, told, word)
    assert [one.name for one in found.failed if one.word is not Word.NOT_REACHED] == [layer], list(found.lines)


def test_the_good_one_holds(forger: Forger, good: Path) -> None:
    found = forger.verify(good)
    assert found.status == 0, list(found.lines)
    assert [one.word for one in found.layers] == [Word.OK] * 3 + [Word.NOT_ASKED] + [Word.OK] * 7


class TestEveryByte:
    """200 places each, chosen by a seed."""

    def test_of_the_file(self, forger: Forger, small: Path) -> None:
        content = small.read_bytes()
        for place in [0, 1, len(content) - 1, *random.Random(14).sample(range(len(content)), 200)]:  # noqa: S311
            bad = forger.folder / "flipped.tar.gz"
            bad.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
            if place < 2:
                with pytest.raises(UsageError, match="it is no bundle: not compressed by gzip"):
                    forger.verify(bad)
            else:
                caught(forger.verify(bad), "container", "")

    def test_of_the_archive_by_somebody_who_seals_it_again(self, forger: Forger, small: Path) -> None:
        archive = archive_of(small)
        layers = set()
        for place in random.Random(15).sample(range(len(archive)), 200):  # noqa: S311
            changed = archive[:place] + bytes([archive[place] ^ 1 << place % 8]) + archive[place + 1 :]
            try:
                found = forger.verify(forger.archived(changed))
            except UsageError as error:  # it is of another version now
                assert "and this maskall reads" in str(error)
                continue
            assert found.status == 1, place
            layers.add(found.failed[0].name)
        assert {"container", "manifest"} <= layers

    def test_of_the_files_that_the_manifest_does_not_list(self, forger: Forger, small: Path) -> None:
        members = members_of(small)
        for name in (one for one in members if not one.startswith(bag.DATA)):
            data = members[name]
            for place in random.Random(16).sample(range(len(data)), 6):  # noqa: S311
                changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
                try:
                    assert forger.verify(forger.written({**members, name: changed})).status == 1, (name, place)
                except UsageError as error:
                    assert "and this maskall reads" in str(error), (name, place)


class TestFiles:
    def test_changed(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        found = forger.verify(forger.written({**members, LOOK: members[LOOK] + b" "}))
        only(found, "manifest", f"{LOOK!r} was changed")

    def test_added(self, forger: Forger, good: Path) -> None:
        found = forger.verify(forger.written({**members_of(good), f"{LOOK}.more": b""}))
        only(found, "manifest", f"'{LOOK}.more' is not listed")

    def test_added_and_signed(self, forger: Forger, good: Path) -> None:
        found = forger.verify(forger.resigned({**members_of(good), f"{LOOK}.more": b""}))
        only(found, "completeness", f"'{LOOK}.more' is of no scenario, side or try of this run")

    def test_removed(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        del members[LOOK]
        only(forger.verify(forger.written(members)), "manifest", f"{LOOK!r} is listed and not there")
        caught(forger.verify(forger.resigned(members)), "rejudged", "xl_list.txt' cannot be read")

    def test_renamed(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        members[LOOK.replace("xl_list", "xm_list")] = members.pop(LOOK)
        only(forger.verify(forger.written(members)), "manifest", "xm_list.txt' is not listed")

    def test_another_case(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        members[LOOK.replace("xl_list", "XL_list")] = members[LOOK]
        only(forger.verify(forger.written(members)), "container", "are one file where case does not count")

    def test_doubled(self, forger: Forger, good: Path) -> None:
        data = members_of(good)[LOOK]
        archive = with_more(good, (header_with(LOOK, len(data)), data))
        only(forger.verify(forger.archived(archive)), "container", f"'{LOOK}' is there twice")

    def test_another_order(self, forger: Forger, good: Path) -> None:
        archive = with_more(good, (header_with("data/a", 1), b"a"))
        only(forger.verify(forger.archived(archive)), "container", "is not where a bundle has it")

    @pytest.mark.parametrize("name", ["bagit.txt", "bag-info.txt", "manifest-sha256.txt", "statement.json"])
    def test_a_tag_file_that_is_not_there(self, forger: Forger, good: Path, name: str) -> None:
        members = members_of(good)
        del members[name]
        only(forger.verify(forger.written(members)), "container", f"there is no {name!r}")

    def test_a_manifest_that_says_a_thing_twice(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        lines = members[bag.MANIFEST_NAME]
        members[bag.MANIFEST_NAME] = lines + lines.splitlines(keepends=True)[-1]
        only(forger.verify(forger.written(members)), "manifest", "names a file twice")


SPECIAL = {
    "symbolic link": header_with(type=b"2", linkname=b"/etc/passwd"),
    "hard link": header_with(type=b"1", linkname=b"/etc/passwd"),
    "character device": header_with(type=b"3"),
    "block device": header_with(type=b"4", devmajor=b"0000010"),
    "FIFO": header_with(type=b"6"),
    "folder": header_with(type=b"5"),
    "contiguous": header_with(type=b"7"),
    "GNU sparse": header_with(type=b"S"),
    "GNU long name": header_with(type=b"L"),
    "pax": header_with(type=b"x"),
    "pax for all": header_with(type=b"g"),
    "pax sparse": header_with(type=b"x", name=b"GNUSparseFile.0/x"),
    "the old way": header_with(type=b"\0"),
    "a link's name": header_with(linkname=b"x"),
    "mode": header_with(mode=b"0004755"),
    "owner": header_with(uid=b"0000001"),
    "owner's name": header_with(uname=b"root"),
    "time": header_with(mtime=b"00000000001"),
    "GNU magic": header_with(magic=b"ustar  "),
    "behind the fields": header_with(rest=b"x"),
    "a prefix where none is needed": header_with(name=b"x", prefix=f"{BASE}data/raw".encode()),
    "a size in base 256": header_with(size=b"\x80"),
    "a negative size": header_with(size=b"-0000000001"),
    "..": header_with(name=f"{BASE}data/../../x".encode()),
    "out of the folder": header_with(name=b"elsewhere/x"),
    "absolute": header_with(name=b"/etc/cron.d/x"),
    "a part of nothing": header_with(name=f"{BASE}data//x".encode()),
    "a folder's name": header_with(name=f"{BASE}data/raw/".encode()),
    "a hidden one": header_with(name=f"{BASE}data/.x".encode()),
    "an option": header_with(name=f"{BASE}data/-rf".encode()),
    "an escape sequence": header_with(name=f"{BASE}data/\x1b[2Jx".encode()),
    "a line break": header_with(name=f"{BASE}data/x\ny".encode()),
    "a backslash": header_with(name=f"{BASE}data/..\\x".encode()),
    "not ASCII": header_with(name=f"{BASE}data/\u00e9".encode()),
}
"""One more member at the end of a good archive, each wrong in one thing."""


class TestContainer:
    def test_the_same_without_the_wrong_thing(self, forger: Forger, good: Path) -> None:
        caught(forger.verify(forger.archived(with_more(good, (header_with(), b"")))), "container", "is not where")
        (last,) = (name for name in list(members_of(good))[-1:])
        found = forger.verify(forger.archived(with_more(good, (header_with(f"{last}x"), b""))))
        only(found, "manifest", "is not listed")

    @pytest.mark.parametrize("kind", SPECIAL)
    def test_members_that_no_bundle_has(self, forger: Forger, good: Path, kind: str) -> None:
        found = forger.verify(forger.archived(with_more(good, (SPECIAL[kind], b""))))
        caught(found, "container", "no name or size" if b"\\" in SPECIAL[kind] else "")
        (told,) = found.layers[0].said
        assert told.startswith("the header of") or "is no name or size of a file in a bundle" in told
        assert [one.word for one in found.layers[1:]] == [Word.NOT_REACHED] * 10

    def test_something_between_two_files(self, forger: Forger, good: Path) -> None:
        archive = bytearray(archive_of(good))
        archive[512 + 511] = 1
        only(forger.verify(forger.archived(bytes(archive))), "container", "where nothing belongs")

    def test_a_second_archive_behind_the_first(self, forger: Forger, good: Path) -> None:
        archive = archive_of(good)
        only(forger.verify(forger.archived(archive + archive)), "container", "behind the archive there is another")

    @pytest.mark.parametrize("behind", [b"x", b"\0" * 512, sealed(b"x" * 2048), b"x" * 100_000])
    def test_anything_behind_the_end(self, forger: Forger, good: Path, behind: bytes) -> None:
        path = forger.folder / "behind.tar.gz"
        path.write_bytes(sealed(archive_of(good), behind))
        only(forger.verify(path), "container", "behind the end of the bundle there is more")

    @pytest.mark.parametrize("left", [10, 40, 47, 48, 1000, -1, -8, -9])
    def test_cut_off(self, forger: Forger, good: Path, left: int) -> None:
        path = forger.folder / "cut.tar.gz"
        path.write_bytes(good.read_bytes()[:left])
        caught(forger.verify(path), "container", "")

    def test_a_wrong_sum(self, forger: Forger, good: Path) -> None:
        """gzip's own, under a seal that is right."""
        content = good.read_bytes()
        body = content[48:-8] + bytes(4) + content[-4:]
        path = forger.folder / "sum.tar.gz"
        path.write_bytes(content[:16] + hashlib.sha256(body).digest() + body)
        only(forger.verify(path), "container", "its CRC-32 or its length is another one")

    def test_a_bomb(self, forger: Forger, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one = header_with("data/raw/bomb", 2 << 30)
        only(forger.verify(forger.archived(one + bytes(1 << 20))), "container", "256 MiB in one")
        for name, value in (("MOST_OF_ONE", 1000), ("MOST_BYTES", 50_000), ("MOST_MEMBERS", 100)):
            with monkeypatch.context() as low:
                low.setattr(f"harness.report.bundle.container.{name}", value)
                only(forger.verify(good), "container", "MiB in one")

    def test_a_bomb_in_a_tag_file(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        members[bag.INFO_NAME] = bytes(1 << 20)
        only(forger.verify(forger.written(members)), "container", "more than any bundle needs")
        members = members_of(good) | {f"signatures/{number:04}.sig": b"" for number in range(200)}
        only(forger.verify(forger.written(members)), "container", "more files than a bundle has")

    def test_a_file_that_is_a_folder(self, forger: Forger, good: Path) -> None:
        members = members_of(good) | {"data/raw/x": b"", "data/raw/x/y": b""}
        only(forger.verify(forger.written(members)), "container", "is a file and a folder")


class TestSignature:
    def signed(self, forger: Forger, good: Path, signature: bytes) -> Path:
        members = {name: data for name, data in members_of(good).items() if not name.startswith(bag.SIGNATURES)}
        return forger.written({**members, bag.SIGNATURES + parse_signature(signature).file_name: signature})

    def test_none(self, forger: Forger, good: Path) -> None:
        members = {name: data for name, data in members_of(good).items() if not name.startswith(bag.SIGNATURES)}
        only(forger.verify(forger.written(members)), "signature", "nobody vouches", Word.UNSIGNED)

    def test_of_another_statement(self, forger: Forger, good: Path) -> None:
        only(
            forger.verify(self.signed(forger, good, sign(b"{}", forger.key))),
            "signature",
            "it is not one of this statement",
        )

    def test_in_another_namespace(self, forger: Forger, good: Path) -> None:
        signature = sign(members_of(good)[bag.STATEMENT_NAME], forger.key, "git")
        only(forger.verify(self.signed(forger, good, signature)), "signature", "it is made for 'git'")

    def test_by_a_key_that_is_listed_for_another_namespace(self, forger: Forger, good: Path) -> None:
        signers = f'lab@example.com namespaces="git,file" {public(forger.key)}'
        only(forger.verify(good, signers=signers), "signature", "listed for other namespaces: git,file")

    def test_by_a_stranger(self, forger: Forger, good: Path) -> None:
        stranger = new_key(forger.folder, "stranger")
        signature = sign(members_of(good)[bag.STATEMENT_NAME], stranger)
        only(forger.verify(self.signed(forger, good, signature)), "signature", "its key is not listed")
        both = members_of(good) | {bag.SIGNATURES + parse_signature(signature).file_name: signature}
        assert forger.verify(forger.written(both)).status == 0, "a stranger's counts for nothing beside a good one"

    def test_nobody_is_listed(self, forger: Forger, good: Path) -> None:
        only(forger.verify(good, signers="# nobody\n"), "signature", "its key is not listed")

    def test_revoked(self, forger: Forger, good: Path) -> None:
        only(forger.verify(good, revoked=public(forger.key)), "signature", "its key is revoked")

    @pytest.mark.parametrize(
        "option, told", [("valid-before=20261231Z", "it has expired"), ("valid-after=20270103Z", "not valid before")]
    )
    def test_not_now(self, forger: Forger, good: Path, option: str, told: str) -> None:
        name, value = option.split("=")
        only(forger.verify(good, signers=f'lab {name}="{value}" {public(forger.key)}'), "signature", told)

    def test_a_certificate_authority_is_no_signer(self, forger: Forger, good: Path) -> None:
        signers = f"lab cert-authority {public(forger.key)}"
        only(forger.verify(good, signers=signers), "signature", "for certificates only")

    def test_a_weak_key(self, forger: Forger, good: Path) -> None:
        weak = new_key(forger.folder, "weak", "rsa", "-b", "1024")
        signature = sign(members_of(good)[bag.STATEMENT_NAME], weak)
        found = forger.verify(self.signed(forger, good, signature), signers=f"lab {public(weak)}")
        only(found, "signature", "an RSA key of 1024 bits is weak")

    def test_under_another_name(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        (name,) = (one for one in members if one.startswith(bag.SIGNATURES))
        members[f"{bag.SIGNATURES}boss.sig"] = members.pop(name)
        only(forger.verify(forger.written(members)), "signature", "the file is not named by its key")

    @pytest.mark.parametrize(
        "content", [b"", b"hello", b"-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n"]
    )
    def test_that_is_none(self, forger: Forger, good: Path, content: bytes) -> None:
        members = members_of(good) | {f"{bag.SIGNATURES}{'0' * 32}.sig": content}
        only(forger.verify(forger.written(members)), "signature", "it is no signature of ssh-keygen")


class TestFreshness:
    def test_an_old_bundle_is_replayed(self, forger: Forger, good: Path, root: Path) -> None:
        only(
            forger.verify(good, challenge="today"), "freshness", "the challenge is 'today', and the bundle answers none"
        )
        old = forger.bundled(root, challenge="yesterday")
        only(forger.verify(old, challenge="today"), "freshness", "the bundle answers 'yesterday'")
        assert forger.verify(old, challenge="yesterday").status == 0

    def test_guests_that_were_to_answer_another(self, forger: Forger, root: Path) -> None:
        """The run itself is an old one, whatever is signed now."""
        edit_json(root / "run.json", lambda begun: begun.update(challenge="abc", repeat_options=" --challenge abc"))
        finish(root)
        found = forger.verify(forger.bundled(root), challenge="abc")
        only(found, "freshness", "exercise-d1.txt: the guest was to answer 'abc', and says ''")
        for path in root.glob("raw/*/*/*-exercise-d[1-9]*.txt"):
            side = path.parent.relative_to(root).as_posix()
            edit_raw(root, side, path.name, lambda data: b"== challenge\nabc\n\n" + data)
        finish(root)
        found = forger.verify(forger.bundled(root), challenge="abc")
        assert found.status == 0, list(found.lines)
        assert "raw files of guests say it" in "\n".join(found.lines)
        caught(forger.verify(forger.bundled(root, "abd"), challenge="abd"), "freshness", "and played for 'abc'")

    def test_the_challenge_is_part_of_what_is_signed(self, forger: Forger, root: Path) -> None:
        members = members_of(forger.bundled(root, challenge="yesterday"))
        statement = members[bag.STATEMENT_NAME].replace(b"yesterday", b"today")
        found = forger.verify(forger.written({**members, bag.STATEMENT_NAME: statement}), challenge="today")
        only(found, "signature", "it is not one of this statement")


class TestForgerWithAKey:
    """Everything is signed by somebody who may, and yet it does not hold."""

    def test_a_verdict_is_edited(self, forger: Forger, root: Path) -> None:
        path = root / "results.json"
        path.write_text(path.read_text().replace('"verdict": "FAIL"', '"verdict": "PASS"', 1))
        caught(forger.verify(forger.bundled(root)), "rejudged", "control: verdict: was PASS, is FAIL")

    def test_a_conclusion_is_edited(self, forger: Forger, root: Path) -> None:
        masked = (root / CONTROL / "13-C6/config.hex").read_bytes()
        edit_raw(root, SIDE, "13-C6/config.hex", lambda _: masked)
        stored = json.loads((root / "results.json").read_text())
        finish(root)
        assert json.loads((root / "results.json").read_text())["scenarios"][0]["conclusion"] != "PROVEN"

        def lie(results: Any) -> None:  # noqa: ANN401
            results["scenarios"][0]["conclusion"] = "PROVEN"
            results["counts"], results["exit_status"] = stored["counts"], 0

        edit_json(root / "results.json", lie)
        caught(forger.verify(forger.bundled(root)), "rejudged", "conclusion: was PROVEN")

    @pytest.mark.parametrize("name, key", [("results.json", "exit_status"), ("run.json", "under_test")])
    def test_a_key_that_is_there_twice(self, forger: Forger, root: Path, name: str, key: str) -> None:
        path = root / name
        path.write_text(path.read_text().replace("{", f'{{"{key}": "for another reader",', 1))
        only(forger.verify(forger.bundled(root)), "consistency", f"{name}: '{key}' is there twice")

    def test_a_build_of_their_own_is_told(self, forger: Forger, good: Path) -> None:
        """It decides nothing here, for all of it is judged by ours."""
        kept = {name: data for name, data in members_of(good).items() if not name.startswith(bag.SIGNATURES)}
        ours = this_tool()
        for sha in (ours.sha256, ours.rules["judge/known_issues.yaml"]):
            kept[bag.STATEMENT_NAME] = kept[bag.STATEMENT_NAME].replace(sha.encode(), b"0" * 64)
        found = forger.verify(forger.written(forger.with_signature(kept)))
        assert found.status == 0 and "bundled by an unknown build" in found.notes[0]
        assert found.notes[1] == "  whose rules are others than ours: judge/known_issues.yaml"
        assert forger.verify(good).notes == []

    def test_junit_is_edited(self, forger: Forger, root: Path) -> None:
        path = root / "junit.xml"
        path.write_text(path.read_text().replace('value="PROVEN"', 'value="KNOWN"'))
        only(forger.verify(forger.bundled(root)), "consistency", "junit.xml is not what results.json says")

    def test_a_log_is_edited(self, forger: Forger, root: Path) -> None:
        (path,) = (root / "logs").glob("*reset.log")
        path.write_text(path.read_text().replace("FAIL", "PASS"))
        only(forger.verify(forger.bundled(root)), "consistency", "reset.log is not what results.json says")

    def test_the_statement_says_something_else(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        for old, new, told in (
            (b'"PROVEN":1', b'"PROVEN":7', "counts.PROVEN: says 7, and the payload says 1"),
            (b'"emulated"', b'"hardware"', "fidelity.kind: says hardware, and the payload says emulated"),
        ):
            text = members[bag.STATEMENT_NAME]
            changed = text.replace(old.replace(b":", b": "), new.replace(b":", b": "))
            assert changed != text
            kept = {name: data for name, data in members.items() if not name.startswith(bag.SIGNATURES)}
            kept[bag.STATEMENT_NAME] = changed
            only(forger.verify(forger.written(forger.with_signature(kept))), "consistency", told)

    def test_the_statement_is_about_another_manifest(self, forger: Forger, good: Path) -> None:
        members = members_of(good)
        digest = hashlib.sha256(members[bag.MANIFEST_NAME]).hexdigest().encode()
        members[bag.STATEMENT_NAME] = members[bag.STATEMENT_NAME].replace(digest, digest[::-1])
        kept = {name: data for name, data in members.items() if not name.startswith(bag.SIGNATURES)}
        only(forger.verify(forger.written(forger.with_signature(kept))), "consistency", "about another manifest")

    def test_raw_files_of_another_build(self, forger: Forger, root: Path) -> None:
        build = b"576c0736b3e38388c5afe9aaccc43a18d514e88e"
        edit_raw(root, SIDE, "01-C0/xl_dmesg.txt", lambda data: data.replace(build, build[::-1]))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "01-C0 shows xen_build_id 'e88e")

    def test_raw_files_of_another_kernel(self, forger: Forger, root: Path) -> None:
        edit_raw(
            root, SIDE, "01-C0/dom0_dmesg.txt", lambda data: data.replace(b"Linux version 6.12", b"Linux version 5.10")
        )
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "shows kernel '5.10")

    def test_raw_files_of_another_machine(self, forger: Forger, root: Path) -> None:
        edit_raw(root, SIDE, "01-C0/dom0_dmesg.txt", lambda data: data.replace(b"DMI: QEMU", b"DMI: Bochs"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "raw files of more than one machine: 'Bochs")

    def test_a_side_of_another_day(self, forger: Forger, root: Path) -> None:
        def earlier(record: Any) -> None:  # noqa: ANN401
            record["began"] = "2020-01-01T00:00:00Z"

        edit_json(root / SIDE / "record.json", earlier)
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "stock was played from 2020-01-01")

    def test_a_row_is_told_to_be_of_another_day(self, forger: Forger, root: Path) -> None:
        edit_json(
            root / "results.json", lambda data: data["scenarios"][0]["stock"].update(began="2020-01-01T00:00:00Z")
        )
        only(forger.verify(forger.bundled(root)), "consistency", "is told to be of another time than its record")

    def test_a_row_without_a_result(self, forger: Forger, root: Path) -> None:
        edit_json(root / "run.json", lambda begun: begun["scenarios"].append("E14-F2-hvm-virtio-rng"))
        only(forger.verify(forger.bundled(root)), "completeness", "E14-F2-hvm-virtio-rng was to be played, and has no")

    def test_rows_that_were_never_promised(self, forger: Forger, good: Path) -> None:
        found = forger.verify(good, profile="certify")
        only(found, "completeness", "of profile certify, ")

    def test_a_try_is_left_over(self, forger: Forger, root: Path) -> None:
        other = root / f"{SIDE}-retry3"
        other.mkdir()
        (other / "record.json").write_bytes((root / SIDE / "record.json").read_bytes())
        found = forger.verify(forger.bundled(root))
        caught(found, "completeness", "stock-retry3/record.json' is of no scenario")
        caught(found, "chain", "stock-retry3/record.json' is in no event")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda lines: lines.pop(1), "run.jsonl:2: the line before it was changed, taken out or put in"),
            (lambda lines: lines.insert(1, lines[1]), "run.jsonl:3: the line before it"),
            (lambda lines: lines.reverse(), "run.jsonl:1: the line before it"),
            (lambda lines: lines.insert(0, b"{}\n"), "run.jsonl:1: "),
            (lambda lines: lines.pop(), "does not end with results.json"),
            (lambda lines: lines.clear(), "does not begin with run.json"),
            (lambda lines: lines.__setitem__(1, lines[1].replace(b"ended", b"spoiled")), "run.jsonl:3: the line"),
        ],
    )
    def test_an_event_is_edited(
        self, forger: Forger, root: Path, change: Callable[[list[bytes]], object], told: str
    ) -> None:
        path = root / "run.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        change(lines)
        path.write_bytes(b"".join(lines))
        only(forger.verify(forger.bundled(root, chain_anew=False)), "chain", told)

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("run.json", "run.json is not the one of run.jsonl"),
            (f"{SIDE}/record.json", "record.json' is not the one that was ended at"),
            ("results.json", "results.json is not the one of run.jsonl"),
        ],
    )
    def test_a_file_is_another_than_when_it_happened(self, forger: Forger, root: Path, name: str, told: str) -> None:
        with (root / name).open("ab") as file:
            file.write(b"\n")
        caught(forger.verify(forger.bundled(root, chain_anew=False)), "chain", told)

    def test_the_better_of_two_tries_is_taken(self, forger: Forger, root: Path) -> None:
        """One that ended is taken away, and the side played once more: the chain remembers it."""
        chain = Chain(root)
        chain.add("ended", f"{CONTROL}/record.json", "0" * 64)
        chain.add("finished", "results.json", hashlib.sha256((root / "results.json").read_bytes()).hexdigest())
        caught(forger.verify(forger.bundled(root, chain_anew=False)), "chain", "record.json' was played twice")

    def test_what_a_side_left_behind_that_was_broken_off_belongs_to_the_run(self, forger: Forger, root: Path) -> None:
        left = root / f"{SIDE}.before-1"
        left.mkdir()
        (left / "01.txt").write_text("as far as it came")
        assert forger.verify(forger.bundled(root)).status == 0
        (left / "record.json").write_bytes((root / SIDE / "record.json").read_bytes())
        caught(forger.verify(forger.bundled(root)), "completeness", "before-1/record.json' is of no scenario")

    def test_nested_is_sold_as_hardware(self, forger: Forger, root: Path) -> None:
        def sell(begun: Any) -> None:  # noqa: ANN401
            begun["host"] |= {"name": "xenbox1", "nested": False, "label": ""}
            del begun["host"]["facts"]["nested"]
            begun["host"]["facts"]["host"] = "xenbox1"

        edit_json(root / "run.json", sell)
        for record, began, ended in ((SIDE, "21:59:20", "22:01:20"), (CONTROL, "22:01:30", "22:03:40")):
            at = {"began": f"2026-11-28T{began}Z", "ended": f"2026-11-28T{ended}Z"}  # one after the other
            edit_json(root / record / "record.json", lambda data, at=at: data.update(at))  # type: ignore[misc]
            edit_json(root / record / "record.json", lambda data: data["record"].update(opened=None))
        played_anew(root, CONTROL)
        finish(root)
        only(forger.verify(forger.bundled(root)), "fidelity", "claims hardware, and its raw files show an emulator")
        for side in (SIDE, CONTROL):
            edit_raw(
                root,
                side,
                "01-C0/dom0_dmesg.txt",
                lambda data: data.replace(b"DMI: QEMU Standard PC", b"DMI: Dell R650"),
            )
        finish(root)
        found = forger.verify(forger.bundled(root))
        only(found, "fidelity", "claims hardware, and its raw files show an emulator")
        for side in (SIDE, CONTROL):
            edit_raw(root, side, "01-C0/dom0_dmesg.txt", lambda data: data.replace(b"DMI: Dell", b"dmi: Dell"))
            edit_raw(root, side, "01-C0/xl_dmesg.txt", lambda data: data.replace(b"BOCHS", b"DELL "))
            for look in (root / side).glob("*/config.hex"):
                name = look.relative_to(root / side).as_posix()
                edit_raw(root, side, name, lambda data: data.replace(b"f4 1a 00 11", b"28 10 00 11"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "fidelity", "no raw file of some side shows", Word.UNKNOWN)

    def test_a_control_that_did_nothing(self, forger: Forger, root: Path) -> None:
        record = root / CONTROL / "record.json"
        content = record.read_text()

        def nothing(data: Any) -> None:  # noqa: ANN401
            data["planted"] = None

        def same(data: Any) -> None:  # noqa: ANN401
            change = data["planted"]["changes"][0]
            change["after"] = change["before"]

        def other(data: Any) -> None:  # noqa: ANN401
            data["planted"]["changes"][0]["after"] = "90 90 90"

        def elsewhere(data: Any) -> None:  # noqa: ANN401
            data["planted"]["changes"][0]["place"]["where"] = "memset"

        told = ("nothing was planted", "changes nothing", "is not what the mutant does", "is not what the mutant does")
        for change, words in zip((nothing, same, other, elsewhere), told, strict=True):
            record.write_text(content)
            edit_json(record, change)
            finish(root)
            only(forger.verify(forger.bundled(root)), "control", words)

    def test_a_mutant_of_their_own(self, forger: Forger, tmp_path: Path) -> None:
        path = forger.bundled(finished_run("crash", tmp_path / "crash"))
        only(forger.verify(path), "control", "dies-at-assignment is no mutant of this maskall")

    def test_a_hypervisor_of_their_own_as_control(self, forger: Forger, root: Path) -> None:
        given = f"the hypervisor given as control, broken.gz, SHA-256 {'c' * 64}"
        own = root / CONTROL.replace("no-maskall-reset", "control-xen")
        (root / CONTROL).rename(own)
        next((root / "logs").glob("*.no-maskall-reset.log")).unlink()
        for path in (root / "run.json", own / "record.json"):
            path.write_text(path.read_text().replace("no-maskall-reset", "control-xen"))
        edit_json(own / "record.json", lambda data: data["planted"].update(stands_for=given, changes=[]))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "shows the xen_build_id of the hypervisor under test")
        side, name = own.relative_to(root).as_posix(), "01-C0/xl_dmesg.txt"
        edit_raw(root, side, name, lambda data: data.replace(b"build-id: ", b"build-id: 0c"))
        finish(root)
        found = forger.verify(forger.bundled(root))
        assert found.status == 0, "\n".join(found.lines)
        said = next(one.said for one in found.layers if one.name == "control")
        assert f"{given}: what it lacks is on the run's word" in said
        edit_json(root / "run.json", lambda begun: begun["host"]["facts"].update(own_xen=f"xen.gz, SHA-256 {'c' * 64}"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "control", "is the one under test")
        edit_json(own / "record.json", lambda data: data.update(planted=None))
        finish(root)
        only(forger.verify(forger.bundled(root)), "control", "nothing was planted")

    def test_a_control_that_less_must_notice(self, forger: Forger, root: Path) -> None:
        edit_json(root / "run.json", lambda begun: begun["notices"].remove("decode-off-at-teardown"))
        only(forger.verify(forger.bundled(root)), "control", "has to be noticed by E14")

    def test_known_issues_of_their_own(self, forger: Forger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """FAIL is KNOWN by a file in the bundle: it is by none of ours."""
        root = finished_run("known-late-teardown", tmp_path / "known")
        ours = Path(again.__file__).parents[1] / "judge/known_issues.yaml"
        (root / KNOWN_ISSUES).write_bytes(ours.read_bytes())
        sha = hashlib.sha256(ours.read_bytes()).hexdigest()
        edit_json(
            root / "run.json", lambda begun: begun.update(known_issues=sha, repeat_options=" --known-issues ours.yaml")
        )
        finish(root)
        assert forger.verify(forger.bundled(root)).status == 0, "they are ours, so nothing rests on the copy"

        def without(own: Path | None = None) -> object:
            return load_issues(own) if own else {}

        monkeypatch.setattr(again, "known_issues", without)
        found = forger.verify(forger.bundled(root))
        only(found, "rejudged", "by the run's own known issues alone, and REGRESSION by ours")

    def test_an_older_version_makes_it_known(self, forger: Forger, root: Path) -> None:
        """What is expected of a host rests on its version, so that is held against the raw files."""
        edit_json(root / "run.json", lambda begun: begun["host"]["facts"].update(xen_version="4.11.0"))
        finish(root)
        only(
            forger.verify(forger.bundled(root)),
            "consistency",
            "shows xen_version '4.20.5-pre', and the run says '4.11.0'",
        )

    def test_a_scenario_that_expects_less(self, forger: Forger, root: Path) -> None:
        def loosen(data: Any) -> None:  # noqa: ANN401
            data["record"]["scenario"]["end"]["after_fault"]["no_irqs"] = False

        for side in (SIDE, CONTROL):
            edit_json(root / side / "record.json", loosen)
        finish(root)
        only(
            forger.verify(forger.bundled(root)), "rejudged", "a definition that is not that of this maskall's catalogue"
        )

    def test_hostile_text(self, forger: Forger, root: Path) -> None:
        hostile = "\x1b[2J\u202e\r\nok signature"

        def name(begun: Any) -> None:  # noqa: ANN401
            begun["run_id"] = begun["host"]["name"] = hostile
            begun["host"]["facts"]["accepted x"] = hostile

        edit_json(root / "run.json", name)
        finish(root)
        found = forger.verify(forger.bundled(root))
        for line in found.lines:
            assert line.isprintable() and not any(one in line for one in "\x1b\u202e\r\n")
        assert "\\x1b[2J\\u202e\\x0d\\x0aok signature" in "".join(found.lines)
