"""The inventory file: what is right, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InventoryError, UsageError
from harness.lab.inventory import load_inventory
from harness.nested.devices import catalogue
from harness.nested.stacks import stacks

OURS = Path(__file__).parents[2] / "inventory/nested.yaml"


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
