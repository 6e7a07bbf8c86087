"""The inventory file: what is right, and one clear line for what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from harness.base import ways
from harness.base.errors import InventoryError, UsageError
from harness.host.stacks import stacks
from harness.lab import console, power
from harness.lab.inventory.models import LabEntry, load_inventory
from harness.lab.inventory.publish import DOCS_FILE, docs_text, schema, schema_text
from harness.nested.devices import catalogue

FOLDER = Path(__file__).parents[3] / "inventory"
OURS = FOLDER / "nested.yaml"
EXAMPLE = FOLDER / "example.yaml"
TEXT = EXAMPLE.read_text()
PUBLISH = "python -m harness.lab.inventory.publish"
CHECKED = jsonschema.Draft202012Validator(schema())


def test_our_own_inventory_names_only_what_exists() -> None:
    entry = load_inventory(OURS).host("nested")
    assert entry.stack in stacks()
    assert set(entry.devices) <= set(catalogue())
    assert entry.devices, "without a device nothing could be run"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", ":1:1: ", "empty"),
        ("hosts: {nested: {kind: nested, devices: [nvme]", ":1:", "not YAML"),
        ("hosts:\n  a:\n    kind: nested\n    devises: [nvme]\n", ":4:5: ", "devices"),
        ("hosts:\n  a:\n    kind: nestd\n    devices: []\n", ":3:11: ", "nested"),
        ("hosts:\n  a:\n    kind: nested\n    stack: trixi\n    devices: []\n", ":4:12: ", "trixie"),
        ("hosts:\n  a:\n    kind: nested\n    devices: nvme\n", ":4:14: ", "devices"),
        ("hosts: {}\n", ":1:8: ", "hosts"),
        ("hosts:\n  a: {kind: nested, devices: []}\n  a: {kind: nested, devices: []}\n", ":3:3: ", "twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path: Path, text: str, place: str, words: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    with pytest.raises(InventoryError) as raised:
        load_inventory(path)
    message = str(raised.value)
    assert f"lab.yaml{place}" in message
    assert words in message
    assert "\n" not in message


def test_an_unreadable_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"missing\.yaml: cannot be read"):
        load_inventory(tmp_path / "missing.yaml")


def test_an_unknown_host_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="nested"):
        load_inventory(OURS).host("nestet")


def test_several_hosts_need_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("hosts:\n  a: {kind: nested, devices: []}\n  b: {kind: nested, devices: []}\n")
    with pytest.raises(UsageError, match="a, b"):
        load_inventory(path).host(None)
    assert load_inventory(path).host("b").devices == ()


def test_our_example_loads_without_its_secrets_and_keys() -> None:
    hosts = load_inventory(EXAMPLE).hosts
    assert list(hosts) == ["xenbox1", "devbox", "xenbox2"]
    granted = [(entry.allow_reboot, entry.allow_persistent) for entry in hosts.values() if isinstance(entry, LabEntry)]
    assert granted == [(True, False), (False, False), (True, True)]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_editors_are_told_the_same(path: Path) -> None:
    CHECKED.validate(yaml.safe_load(path.read_text()))
    assert path.read_text().startswith("# yaml-language-server: $schema=inventory.schema.json\n")


def test_the_published_schema_is_the_models() -> None:
    assert (FOLDER / "inventory.schema.json").read_text() == schema_text(), f"it is stale: {PUBLISH}"


def test_the_tables_of_the_docs_are_the_models() -> None:
    text = DOCS_FILE.read_text()
    assert text == docs_text(text), f"it is stale: {PUBLISH}"
    for kind in (*ways.names(power), *ways.names(console), "lab", "nested"):
        assert f"| `{kind}` |" in text


def test_a_table_that_there_is_not() -> None:
    with pytest.raises(KeyError, match="prices"):
        docs_text("<!-- table prices -->\n<!-- end -->\n")


def test_every_key_is_explained_to_editors() -> None:
    for name, model in json.loads(schema_text())["$defs"].items():
        for key, entry in model["properties"].items():
            assert key == "kind" or "description" in entry, f"{name}.{key}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nic0:", "-nic0:"),
        ("xenbox1:", '"xen box":'),
        ("port: 2222", "port: 70000"),
        ("sudo: true", "sudoo: true"),
        ("env:XENBOX1_BMC", "hunter2"),
        ("kind: redfish", "kind: redfisch"),
    ],
)
def test_editors_see_what_is_wrong(old: str, new: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        CHECKED.validate(yaml.safe_load(TEXT.replace(old, new, 1)))


def refusal(tmp_path: Path, old: str, new: str) -> tuple[str, str, str]:
    """The error for the example with one thing changed; the place it names and the text that stands there."""
    assert old in TEXT
    path = tmp_path / "lab.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(InventoryError) as raised:
        load_inventory(path)
    error = raised.value
    line = path.read_text().splitlines()[error.line - 1]
    return str(error), line[error.column - 1 :], line


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        # a kind: unknown, missing, misspelt
        ("kind: redfish", "kind: redfisch", "redfisch", "there is no kind 'redfisch' (did you mean 'redfish'?)"),
        ("    kind: lab\n", "    kind: labb\n", "labb", "hosts.xenbox1.kind: there is no kind 'labb'"),
        ("    kind: lab\n", "    kind: [lab]\n", "[lab]", "there is no kind"),
        ("    kind: lab\n", "    kind: 5\n", "5", "there is no kind '5' (there are nested, lab)"),
        ("    kind: lab\n", "", "address: 192.0.2.10", "the key 'kind' is missing (there are nested, lab)"),
        ("    kind: lab\n", "    knd: lab\n", "knd: lab", "unknown key 'knd' (did you mean 'kind'?)"),
        # keys of that kind, at every depth
        (
            "    address: 192.0.2.10\n",
            "    adress: 192.0.2.10\n",
            "adress",
            "'adress' (and 1 more) (did you mean 'address'",
        ),
        ("allow_reboot: true", "alow_reboot: true", "alow_reboot", "did you mean 'allow_reboot'?"),
        ("    boot_seconds: 420", "    lab: {address: 1}", "lab:", "unknown key 'lab'"),
        ("      ca_file: ", "      cafile: ", "cafile", "did you mean 'ca_file'?"),
        ("cipher_suite: 17", "ciphers_suite: 17", "ciphers_suite", "did you mean 'cipher_suite'?"),
        ("      system: /redfish/v1/Systems/1", "      #", "kind: redfish", "the key 'system' is missing"),
        ("        driver: e1000e", "        drive: e1000e", "drive:", "did you mean 'driver'?"),
        ('          mac: "', '          mack: "', "mack", "did you mean 'mac'?"),
        # values
        ("boot_seconds: 420", "boot_seconds: 4", "4 ", "hosts.xenbox1.boot_seconds: Input should be greater"),
        ("boot_seconds: 420", "boot_seconds: '420'", "'420'", "valid integer, not '420'"),
        ("allow_reboot: true", "allow_reboot: 1", "1", "allow_reboot: Input should be a valid boolean, not 1"),
        ("sudo: true", "sudo: 'yes'", "'yes'", "valid boolean, not 'yes'"),
        ("address: 192.0.2.10\n", "address: root@192.0.2.10\n", "root@", "without user and port"),
        ("address: 192.0.2.10\n", "address: -oProxyCommand=x\n", "-oProxy", "a host name or an IP address"),
        ("address: 192.0.2.10\n", "address: xenbox1..lab\n", "xenbox1", "a host name or an IP address"),
        ("address: 192.0.2.10\n", f"address: {'x' * 64}.lab\n", "xxx", "a host name or an IP address"),
        ("address: 192.0.2.10\n", f"address: {'x.' * 127}x\n", "x.x", "a host name or an IP address"),
        ("address: 192.0.2.10\n", "address: '[2001:db8::1]'\n", "'[2001", "not in brackets"),
        ("system: /redfish/v1/Systems/1", "system: Systems", "Systems", "for example /redfish/v1/Systems/1"),
        ('slot: "4"', "slot: 4", "4", "Input should be a valid string, not 4 (put it in quotes)"),
        ('"a0:36:9f:12:34:57"', "52:54:00:12:34:57", "52:54", "(put it in quotes)"),
        ('"a0:36:9f:12:34:57"', '"A0:36:9F:12:34:57"', '"A0', "for example 'a0:36:9f"),
        ("[flr, bus]", "[flr, buss]", "buss", "recover.1: Input should be 'flr', 'bus' or 'reboot', not 'buss'"),
        ("power:\n      kind: redfish", "power: on\n    console:\n      kind: redfish", "on", "a mapping of keys"),
        ("  xenbox1:", "  xen.box1:", "xen.box1", "hosts: String should match pattern"),
        ("      nic0:", "      -nic0:", "-nic0", "hosts.xenbox1.devices: String should match pattern"),
        ("host_key: ssh-ed25519 AAAA", "host_key: 192.0.2.10 ssh-ed25519 AAAA", "192", "without the host's name"),
        ("host_key: ssh-ed25519 ", "host_key: ssh-rsa ", "ssh-rsa", "a public key as in known_hosts"),
        ("key: ~/.ssh/maskall_lab   # mode", 'key: "a\\e[2Jb"   # mode', '"a', "a path of printable characters"),
        # what only several keys together tell
        ("    sudo: true", "    sudo: false", "maskall", "a user who is not root needs sudo: true"),
        (
            "    console:\n      kind: ipmi",
            "    console:\n      kind: libvirt",
            "libvirt",
            "needs power of kind libvirt",
        ),
        (
            '          slot: "4"',
            '          slot: "4"\n          serial: x',
            '"4"',
            "exactly one of serial, mac, slot and",
        ),
        ('          slot: "4"', "          #", "id: 8086", "exactly one of serial, mac, slot and path"),
        ("      user: maskall                   #", "      #", "env:XENBOX1", "user and password go together"),
        (
            "      nvme0:\n        identity:\n          id: 144d:a808",
            "      nic1: {identity: {id: '8086:10d3', mac: 'a0:36:9f:12:34:57'}, driver: e1000e, endings: []}\n"
            "      nvme0:\n        identity:\n          id: 144d:a808",
            "{id: '8086:10d3', mac",
            "hosts.xenbox1.devices.nic1.identity: this is the same device as nic0",
        ),
        (
            "address: 192.0.2.12\n",
            "address: 192.0.2.10\n",
            "192.0.2.10",
            "hosts.xenbox2.address: this is the same address",
        ),
        # names that must exist
        (
            "driver: virtio-rng",
            "driver: virtio-rgn",
            "virtio-rgn",
            "no driver 'virtio-rgn' (did you mean 'virtio-rng'?)",
        ),
        ("endings: [E1, E2, E3]", "endings: [E1, E2, E33]", "E33]", "there is no ending 'E33'"),
        ("decode-off-at-teardown]", "decode-of-at-teardown]", "decode-of-", "did you mean 'decode-off-at-teardown'?"),
    ],
)
def test_each_mistake_is_shown_where_it_stands(tmp_path: Path, old: str, new: str, at: str, words: str) -> None:
    message, found, line = refusal(tmp_path, old, new)
    assert found.startswith(at), f"{message}\npoints at {found!r} in {line!r}"
    assert words in message
    assert message.isprintable()


def test_several_problems_are_counted(tmp_path: Path) -> None:
    assert "(and 2 more)" in refusal(tmp_path, "allow_reboot: true", "a: 1\n    b: 1\n    c: 1")[0]


@pytest.mark.parametrize("address", ["2001:db8::1", "'::1'", "fe80::1%eth0", "xenbox1.lab.", "x" * 63])
def test_a_name_or_an_address_of_any_kind(tmp_path: Path, address: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(TWO.replace("Box", address).replace("PORT", "23").replace("CONTROL", ""))
    entry = load_inventory(path).host("a")
    assert isinstance(entry, LabEntry)
    assert entry.address == address.strip("'")


TWO = """\
hosts:
  a: {kind: lab, address: Box, key: k, host_key: KEY, devices: {}, CONTROL}
  b: {kind: lab, address: box., port: PORT, key: k, host_key: KEY, devices: {}, CONTROL}
""".replace("KEY", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqXgRLKG73K+sIxs5oj3E2nhu/4FHxOcrmAd4Wv7ki7")
IPMI = "power: {kind: ipmi, address: bmc, user: u, password: 'env:X'}"


@pytest.mark.parametrize(
    ("port", "control", "what"),
    [
        ("22", "sudo: false", "address: this is the same address and port as that of a"),
        ("23", IPMI, "power: this is the same power switch as that of a"),
        ("23", "console: {kind: tcp, address: c, port: 1}", "console: this is the same console line as that of a"),
        ("23", "sudo: false", ""),
    ],
)
def test_two_hosts_do_not_share(tmp_path: Path, port: str, control: str, what: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(TWO.replace("CONTROL", control).replace("PORT", port))
    if not what:
        assert list(load_inventory(path).hosts) == ["a", "b"]
        return
    with pytest.raises(InventoryError, match=rf"lab\.yaml:3:\d+: hosts\.b\.{what}"):
        load_inventory(path)


def test_functions_of_one_card_may_share_serial_and_slot_but_not_identity(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    device = "{identity: {id: '%s', serial: same}, driver: nvme, endings: []}"
    for second, right in (("8086:0002", True), ("8086:0001", False)):
        devices = f"{{x: {device % '8086:0001'}, y: {device % second}}}"
        path.write_text(
            TWO.replace("devices: {}", f"devices: {devices}").replace("PORT", "23").replace("CONTROL", "sudo: no")
        )
        if right:
            load_inventory(path)
        else:
            with pytest.raises(InventoryError, match="same device as x"):
                load_inventory(path)


def test_no_device_means_no_device(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(TWO.replace("PORT", "23").replace("CONTROL", "sudo: no"))
    assert load_inventory(path).host("a").devices == {}
    path.write_text(path.read_text().replace("devices: {}, ", ""))
    with pytest.raises(InventoryError, match="'devices' is missing"):
        load_inventory(path)


def lab_entry(tmp_path: Path, key: str) -> LabEntry:
    path = tmp_path / "lab.yaml"
    path.write_text(TWO.replace("PORT", "23").replace("CONTROL", "sudo: no").replace("key: k,", f"key: '{key}',"))
    entry = load_inventory(path).host("a")
    assert isinstance(entry, LabEntry)
    return entry


def test_the_private_key_is_beside_the_file_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    entry = lab_entry(tmp_path, "id_lab")
    with pytest.raises(UsageError, match=r"private key .*/id_lab cannot be read: No such file"):
        entry.private_key(tmp_path)
    key = tmp_path / "id_lab"
    key.touch(0o600)
    for written in ("id_lab", "~/id_lab", str(key)):
        assert lab_entry(tmp_path, written).private_key(tmp_path) == key
    key.chmod(0o644)
    with pytest.raises(UsageError, match=r"others can use this private key \(chmod 600"):
        entry.private_key(tmp_path)
    key.unlink()
    os.mkfifo(key, 0o600)
    with pytest.raises(UsageError, match="not a plain file"):
        entry.private_key(tmp_path)
    with pytest.raises(UsageError, match="no such home directory"):
        lab_entry(tmp_path, "~nobody-at-all/k").private_key(tmp_path)
