"""Who may sign, and signatures, held against ssh-keygen; what a machine shows of itself; hostile input."""

from __future__ import annotations

import contextlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import EvidenceError, InventoryError, UsageError
from harness.report.bundle.bag import manifest, parse_manifest
from harness.report.bundle.container import BASE, good_name, header
from harness.report.bundle.fidelity import Look, device_ids, fidelity
from harness.report.bundle.signers import Signers, parse_keys, parse_signers
from harness.report.bundle.sshsig import parse_signature
from harness.report.bundle.statement import NAMESPACE, parse_statement
from suites.selftest.fakes.badbundle import new_key, public, sign

NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBLN0yxW+rWLD6isuKbAAAAAAAAAAAAAAAAAAAAAAAAA"
_NO_ENDS = ("\x0b", "\x0c", "\x1c", "\x85", "\u2028")  # of a line, for anybody but str.splitlines()


class TestSignersAreThoseOfSshKeygen:
    """The same answer as `ssh-keygen -Y verify`, line by line."""

    @pytest.mark.parametrize(
        "line",
        [
            "lab {}",
            "lab,other@example.com {} a comment",
            'lab namespaces="maskall-evidence@v1" {}',
            'lab namespaces="git,maskall-*" {}',
            'lab namespaces="!maskall-evidence@v1,*" {}',
            'lab namespaces="git" {}',
            'lab namespaces="maskall-evidence@v?" {}',
            'lab valid-before="20270103Z" {}',
            'lab valid-before="20270102Z" {}',
            'lab valid-before="202701020304Z" {}',
            'lab valid-before="20270102030406Z" {}',
            'lab valid-after="20270102Z",valid-before="20280101Z" {}',
            'lab valid-after="20270103Z" {}',
            'lab namespaces="maskall-evidence@v1",valid-after="20270101Z" {}',
            "lab cert-authority {}",
            "# lab {}",
            'lab valid-before="20260101Z",valid-before="20280101Z" {}',
            'lab namespaces="git",Namespaces="maskall-evidence@v1" {}',
            "lab namespaces {}",
            'lab namespaces="" {}',
            'lab namespaces="maskall-evidence@v1", {}',
            'lab cert-authority="no" {}',
            'lab" {}',
            '"" {}',
            *(f"# handed in by a vendor{end}lab {{}}" for end in _NO_ENDS),
            *(f"lab {{}} a comment{end}lab namespaces" for end in _NO_ENDS),
        ],
    )
    def test_a_line(self, tmp_path: Path, line: str) -> None:
        key = new_key(tmp_path, "key")
        text = line.format(public(key)) + "\n"
        (tmp_path / "allowed").write_text(text)
        signature = sign(b"message", key)
        (tmp_path / "sig").write_bytes(signature)
        argv = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "lab", "-n", NAMESPACE]
        argv += ["-O", "verify-time=20270102030405Z", "-s", str(tmp_path / "sig")]
        theirs = subprocess.run(argv, input=b"message", capture_output=True).returncode == 0  # noqa: S603
        try:
            principals, why = Signers(parse_signers(text, "f")).judge(parse_signature(signature), NAMESPACE, NOW)
        except InventoryError as error:
            principals, why = "", error.message
        assert (bool(principals), not why) == (theirs, theirs), why

    def test_a_time_without_a_zone_is_ours(self) -> None:
        (one,) = parse_signers(f'lab valid-before="20270102" {KEY}', "f")
        assert one.valid_before is not None and one.valid_before.utcoffset() is not None

    @pytest.mark.parametrize(
        "line, told",
        [
            ("lab", "f:1: there is no public key"),
            ("lab ssh-ed25519 AAAA", "f:1: there is no public key"),
            (f'lab nonsense="x" {KEY}', "f:1: no option nonsense"),
            (f'lab valid-before="tomorrow" {KEY}', "f:1: 'tomorrow' is no time"),
            (f'lab namespaces="x {KEY}', "f:1: "),
            ("\n\nlab ecdsa-sha2-nistp256 AAAAC3Nz", "f:3: there is no public key"),
        ],
    )
    def test_what_is_not_understood_is_refused(self, line: str, told: str) -> None:
        with pytest.raises(InventoryError, match=told):
            parse_signers(line, "f")

    @given(st.text(max_size=200))
    def test_any_text(self, text: str) -> None:
        for parse in (parse_signers, parse_keys):
            try:
                parse(text, "f")
            except InventoryError as error:
                assert str(error).startswith("f:")


class TestSignature:
    @pytest.mark.parametrize(
        "kind", [("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "384")], ids=" ".join
    )
    def test_kinds_of_keys(self, tmp_path: Path, kind: tuple[str, ...]) -> None:
        one = parse_signature(sign(b"message", new_key(tmp_path, "key", *kind)))
        assert (one.weakness(), one.namespace) == ("", NAMESPACE)
        assert one.verifies(b"message") and not one.verifies(b"massage")
        said = subprocess.run(["ssh-keygen", "-l", "-f", str(tmp_path / "key.pub")], capture_output=True, text=True)  # noqa: S603, S607
        assert said.stdout.split()[1] == one.fingerprint

    @pytest.mark.parametrize("kind", [("rsa", "-b", "1024"), ("ecdsa", "-b", "521")], ids=" ".join)
    def test_kinds_that_do_not_count(self, tmp_path: Path, kind: tuple[str, ...]) -> None:
        assert parse_signature(sign(b"message", new_key(tmp_path, "key", *kind))).weakness()

    def test_a_certificate_is_not_the_key_in_it(self, tmp_path: Path) -> None:
        """ssh-keygen signs with it all the same, and whoever has the file can list it."""
        authority, key = new_key(tmp_path, "authority"), new_key(tmp_path, "key")
        argv = ["ssh-keygen", "-q", "-s", str(authority), "-I", "lab", "-n", "lab", f"{key}.pub"]
        subprocess.run(argv, check=True)  # noqa: S603
        one = parse_signature(sign(b"message", tmp_path / "key-cert.pub"))
        assert one.verifies(b"message") and "ssh-ed25519-cert-v01@openssh.com is no kind of key" in one.weakness()

    def test_every_byte_of_it(self, tmp_path: Path) -> None:
        content = sign(b"message", new_key(tmp_path, "key"))
        good = parse_signature(content)
        for place in range(len(content)):
            changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            try:
                one = parse_signature(changed)
                assert one.key != good.key or not one.verifies(b"message"), place
            except EvidenceError:
                continue

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        import base64

        text = base64.encodebytes(b"SSHSIG\0\0\0\1" + data).replace(b"\n", b"")
        lines = b"".join(text[at : at + 70] + b"\n" for at in range(0, len(text), 70))
        armoured = b"-----BEGIN SSH SIGNATURE-----\n" + lines + b"-----END SSH SIGNATURE-----\n"
        try:
            one = parse_signature(armoured)
            _ = one.weakness(), one.verifies(b"message"), one.key_type
        except EvidenceError:
            pass


class TestFidelity:
    DELL = Look(
        "a",
        "[    0.000000] Linux version 6.12 (x)\n[    0.000000] DMI: Dell Inc. PowerEdge R650/0PYXKY, BIOS 1.9.2\n",
        "(XEN) ACPI: RSDP 000FE320, 0024 (r2 DELL  )\n",
        "86 80 d1 15 " + "00 " * 40 + "86 80 00 00",
    )

    def test_hardware(self) -> None:
        found = fidelity([self.DELL])
        assert found.kind == "hardware"
        assert [(one.path, one.line) for one in found.facts] == [("a/dom0_dmesg.txt", 2)]

    @pytest.mark.parametrize(
        "field, old, new",
        [
            ("dom0_dmesg", "Dell Inc.", "QEMU"),
            ("dom0_dmesg", "Dell Inc. PowerEdge", "VMware, Inc. VMware Virtual Platform"),
            ("dom0_dmesg", "Dell Inc. PowerEdge", "Microsoft Corporation Virtual Machine"),
            ("dom0_dmesg", "Dell Inc. PowerEdge", "Xen HVM domU"),
            ("xl_dmesg", "DELL  ", "BOCHS "),
            ("config", "86 80 00 00", "f4 1a 00 11"),
            ("config", "86 80 d1 15", "36 1b 10 00"),
        ],
    )
    def test_one_sign_is_enough(self, field: str, old: str, new: str) -> None:
        text = getattr(self.DELL, field)
        assert old in text
        one = Look(**{**vars(self.DELL), field: text.replace(old, new)})
        assert fidelity([self.DELL, one]).kind == "emulated"

    def test_a_side_that_shows_nothing(self) -> None:
        assert fidelity([self.DELL, Look("b", "", "", "")]).kind == "unknown"
        assert fidelity([]).kind == "unknown"


class TestNames:
    @given(st.text(max_size=40))
    def test_a_good_name_stays_where_it_is(self, text: str) -> None:
        if good_name(text):
            assert text.isprintable() and text.isascii() and not text.startswith("/")
            assert ".." not in text.split("/") and "" not in text.split("/") and "\\" not in text

    @pytest.mark.parametrize("length", [1, 99, 100, 101, 197, 198, 238])
    def test_long_names(self, length: int) -> None:
        import tarfile

        name = BASE + "a/" * 40 + "b" * max(1, length - 97)
        try:
            block = header(name, 7)
        except EvidenceError:
            assert length > 197, "a hundred letters behind the last slash"
            return
        one = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        assert (one.name, one.size, one.isreg()) == (name, 7, True)


@given(st.binary(max_size=200))
def test_any_manifest(content: bytes) -> None:
    with contextlib.suppress(EvidenceError):
        assert manifest(parse_manifest(content)) == content


@given(st.binary(max_size=200) | st.just(b'{"predicateType": "urn:maskall:evidence:v1"}'))
def test_any_statement(content: bytes) -> None:
    with pytest.raises((EvidenceError, UsageError)):
        parse_statement(content)


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ("f4 1a 44 10" + " 00" * 40 + " f4 1a 00 11", "1af4:1044 rev 00, subsystem 1af4:1100"),
        ("ff " * 64, ""),
        ("00 " * 64, ""),
        ("01 00 ff ff " * 16, ""),
        ("f4 1a", ""),
        ("not hexadecimal", ""),
    ],
)
def test_what_a_config_space_says_of_its_device(config: str, ids: str) -> None:
    assert device_ids(config) == ids
