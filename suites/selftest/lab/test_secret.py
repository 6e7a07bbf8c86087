"""Secrets: found where the reference says, and shown by nothing: no rendering, no error, no chain of errors."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError
from rich.console import Console

from harness.base.deadline import Deadline
from harness.base.errors import InventoryError, LabError, MaskallError, UsageError
from harness.base.secret import Secret, resolve
from harness.base.yamlfile import load_models, parse_yaml, validate
from harness.lab.inventory.models import Inventory

CANARY = "hunter2-canary"


def assert_silent(error: BaseException, canary: str = CANARY) -> None:
    """Nothing that hangs on `error` and nothing that prints it shows the canary."""
    told = "".join(traceback.format_exception(error))
    chain: list[BaseException] = [error]
    for one in chain:
        told += f"{one} {one!r} {one.args} {vars(one)}"
        chain += [next_one for next_one in (one.__cause__, one.__context__) if next_one and next_one not in chain]
    assert canary not in told


@dataclass(frozen=True)
class Login:
    user: str
    password: Secret


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    password: Secret


def rich_text(thing: object) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(thing, {"deep": [thing]})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "render",
    [
        str,
        repr,
        ascii,
        lambda secret: f"{secret} {secret!r} {secret:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - it is % that is tested
        lambda secret: "{} {!r:>20}".format(secret, secret),  # noqa: UP032 - the same for str.format
        lambda secret: str([secret, {"a": secret}, Login("root", secret)]),
        lambda secret: str(asdict(Login("root", secret))),
        lambda secret: str([copy.copy(secret), copy.deepcopy({"a": secret})]),
        lambda secret: pprint.pformat(Login("root", secret)),
        lambda secret: json.dumps({"a": secret}, default=str),
        lambda secret: str(Model(password=secret)) + str(Model(password=secret).model_dump()),
        rich_text,
    ],
)
def test_every_rendering_is_stars(render: Callable[[Secret], str]) -> None:
    text = render(Secret(CANARY))
    assert CANARY not in text
    assert "***" in text


@pytest.mark.parametrize(
    ("store", "refusal"),
    [
        (pickle.dumps, TypeError),
        (lambda secret: pickle.dumps(secret, 0), TypeError),
        (lambda secret: secret.__getstate__(), TypeError),
        (vars, TypeError),
        (json.dumps, TypeError),
        (bytes, TypeError),
        (lambda secret: "%d" % secret, TypeError),  # noqa: UP031 - it is % that is tested
        (lambda secret: Model(password=secret).model_dump_json(), PydanticSerializationError),
    ],
)
def test_nothing_stores_it(store: Callable[[Secret], object], refusal: type[Exception]) -> None:
    with pytest.raises(refusal) as caught:
        store(Secret(CANARY))
    assert CANARY not in f"{caught.value} {caught.value!r}"


def test_comparing_is_no_way_to_guess() -> None:
    secret = Secret(CANARY)
    same = secret
    assert secret == same
    assert secret != Secret(CANARY)
    assert secret != CANARY
    assert hash(secret) != hash(Secret(CANARY))
    assert secret.reveal() == CANARY


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PASSWORD", CANARY)
    assert resolve("env:LAB_PASSWORD").reveal() == CANARY
    monkeypatch.delenv("LAB_PASSWORD")
    with pytest.raises(UsageError, match=r"env:LAB_PASSWORD is not set \(export LAB_PASSWORD"):
        resolve("env:LAB_PASSWORD")
    monkeypatch.setenv("LAB_PASSWORD", "")
    with pytest.raises(UsageError, match="env:LAB_PASSWORD is empty"):
        resolve("env:LAB_PASSWORD")


def secret_file(folder: Path, text: bytes = f"{CANARY}\n".encode(), mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_from_a_file(tmp_path: Path) -> None:
    assert resolve(f"file:{secret_file(tmp_path)}").reveal() == CANARY
    assert resolve(f"file:{secret_file(tmp_path, b' blanks stay ', 0o400)}").reveal() == " blanks stay "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match=r"others can use this secret \(chmod 600 ") as caught:
        resolve(f"file:{secret_file(tmp_path, mode=mode)}")
    assert_silent(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (f"{CANARY}\nmore\n".encode(), "more than one line"),
        (f"\xff{CANARY}".encode("latin-1"), "not UTF-8"),
        (f"{CANARY}\0".encode(), "more than one line"),
        (CANARY.encode() * 6000, "larger than"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path: Path, text: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        resolve(f"file:{secret_file(tmp_path, text)}")
    assert_silent(caught.value)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, words in (("fifo", "not a plain file"), (".", "not a plain file"), ("none", "No such file")):
        with pytest.raises(UsageError, match=words):
            resolve(f"file:{tmp_path}/{name}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    os.chown(path, 12345, 12345)
    with pytest.raises(UsageError, match="belongs to user 12345"):
        resolve(f"file:{path}")


def test_from_a_program_without_a_shell() -> None:
    assert resolve(f"command:echo '{CANARY} $HOME;x'").reveal() == f"{CANARY} $HOME;x"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (f"sh -c 'echo {CANARY}; echo {CANARY} >&2; exit 3'", LabError),
        (f"sh -c 'echo {CANARY}; echo {CANARY}'", UsageError),
        (f"sh -c 'echo {CANARY} >&2; exec sleep 60'", LabError),
        (f"true {CANARY}", UsageError),
        (f"/nowhere/program {CANARY}", UsageError),
    ],
)
def test_a_program_that_fails_is_named_without_what_it_said(
    line: str, error: type[MaskallError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(error) as caught:
        resolve(f"command:{line}", Deadline.after(0.3))
    assert line.split()[0] in str(caught.value)
    assert_silent(caught.value)
    assert CANARY not in caplog.text


@pytest.mark.parametrize("text", [CANARY, f"env:{CANARY}", f"pass:{CANARY}", f"file:{CANARY}", f"command:'{CANARY}"])
def test_what_is_no_reference_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="by reference") as caught:
        resolve(text)
    assert_silent(caught.value)


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqXgRLKG73K+sIxs5oj3E2nhu/4FHxOcrmAd4Wv7ki7"
HOST = f"hosts: {{a: {{kind: lab, address: b, key: k, host_key: {KEY}, devices: {{}}, %s}}}}\n"  # all else is right
IPMI = HOST % "power: {kind: ipmi, address: b, user: root, password: %s}"


@pytest.mark.parametrize(
    "given",
    [
        CANARY,
        f"'{CANARY}'",
        f'"{CANARY}',
        f"[{CANARY}]",
        f"{{value: {CANARY}}}",
        f"!{CANARY}",
        f"*{CANARY}",
        f"&{CANARY}",
        f"&{CANARY} [&{CANARY} x]",
        f"!!int {CANARY}",
        f"!!timestamp {CANARY}",
        f"!!float {CANARY}",
        f"!!bool {CANARY}",
        f"!!binary {CANARY}",
        f"!!python/object/apply:{CANARY} []",
        f"%{CANARY}",
        f"@{CANARY}",
        f"`{CANARY}",
        f"| {CANARY}",
        f"> {CANARY}\n{CANARY}",
        f'"{CANARY}\\q"',
        f"'{CANARY}' {CANARY}",
        f"{CANARY}: {CANARY}",
        f"{CANARY}\x07",
        f"{CANARY}\xff",
        f"env:{CANARY}",
        f"command:'{CANARY}",
    ],
)
def test_a_password_pasted_into_the_inventory_is_never_repeated(
    given: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "lab.yaml"
    path.write_bytes((IPMI % given).encode("latin-1"))
    with pytest.raises(InventoryError) as caught:
        load_models(path, Inventory)
    assert_silent(caught.value)
    assert ":1" in str(caught.value)
    assert CANARY not in caplog.text
    assert "more)" not in str(caught.value), "another problem hides the one that is meant"


def test_a_password_that_looks_like_a_number_is_not_repeated() -> None:
    for given in ("8675309", "86_75_309", "2001-99-98675309", "8675309.5", "[8675309]"):
        with pytest.raises(InventoryError) as caught:
            validate(parse_yaml(IPMI % given), Inventory)
        assert_silent(caught.value, "8675309")


@pytest.mark.parametrize(
    "power",
    [
        f"{{kind: redfish, system: /redfish/v1/Systems/1, url: 'https://root:{CANARY}@192.0.2.1/'}}",
        f"{{kind: redfish, system: /redfish/v1/Systems/1, url: 'https://b', user: root, password: {CANARY}}}",
        f"{{kind: libvirt, domain: b, uri: 'qemu+ssh://root:{CANARY}@b/system'}}",
        f"{{kind: command, 'on': [a], 'off': [a], status: ['-', {CANARY}]}}",
        f"{{kind: command, 'on': [a], 'off': [a], status: {CANARY}}}",
    ],
)
def test_nor_is_one_in_a_url_or_among_the_words_of_a_program(power: str) -> None:
    document = parse_yaml(HOST % f"power: {power}")
    with pytest.raises(InventoryError, match=r"hosts\.a\.power\.") as caught:
        validate(document, Inventory)
    assert_silent(caught.value)
    assert CANARY not in repr(document)


def test_nor_is_a_private_key() -> None:
    with pytest.raises(InventoryError, match="public key") as caught:
        validate(parse_yaml(HOST.replace(KEY, f"'-----BEGIN PRIVATE KEY {CANARY}'") % "port: 22"), Inventory)
    assert_silent(caught.value)
