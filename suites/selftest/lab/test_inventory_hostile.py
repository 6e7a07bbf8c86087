"""Whatever somebody writes into an inventory: one printable line that says so, or an inventory of harmless words."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.base import ways
from harness.base.errors import InventoryError
from harness.base.modelpath import locate
from harness.base.yamlfile import parse_yaml, validate
from harness.lab import power
from harness.lab.inventory.models import Inventory, check_names

TEXT = (Path(__file__).parents[3] / "inventory/example.yaml").read_text()
DATA = yaml.safe_load(TEXT)

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same, faster

HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@%/+-]*")

# What only one reader of ours sees, and none of them is a shell, an ssh or a terminal: each has its own form.
OWN_FORM = {
    "host_key": re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [ -~]*)?"),
    "key": re.compile(r"(?!-)[^\x00-\x1f\x7f]+"),
    "ca_file": re.compile(r"(?!-)[^\x00-\x1f\x7f]+"),
    "socket": re.compile(r"(?!-)[^\x00-\x1f\x7f]+"),
    "password": re.compile(r"(env:[A-Za-z_]\w*|file:~?/[ -~]+|command:[!-~][ -~]*)", re.ASCII),
    "url": re.compile(r"https?://[][A-Za-z0-9._:/-]+"),
    "uri": re.compile(r"[a-z0-9+]+://(?!-)[][A-Za-z0-9_@.:/?=&%~-]*"),
    "serial": re.compile(r"[!-~]([ -~]*[!-~])?"),
    "system": re.compile(r"/redfish/v1/Systems/[A-Za-z0-9_][A-Za-z0-9._-]*"),
}
PROGRAMS = ("on", "off", "status", "reset", "argv")

BAD = [
    "-oProxyCommand=touch /tmp/x",
    "--help",
    "-",
    "a b",
    "$(reboot)",
    "`reboot`",
    "a;reboot",
    "a|b",
    "a&b",
    "a\nb",
    "a\rb",
    "a\x00b",
    "\x1b[2J\x1b]0;x\x07",
    "\x9b31m",
    "\u202egpj.exe",
    "\u0445enbox1",  # the first letter is Cyrillic
    "\u0430ddress",
    "192.0.2.\uff11",
    "kind\u200b",
    "\U0001f600",
    "../../etc/shadow",
    "~root",
    "~nobody-at-all/x",
    "*",
    "",
    " ",
    "x" * 5000,
    "{message}",
    "%s%n",
    "[key]",
    "lab",
    "kind",
    "env:HOME; reboot",
    "command:",
    "command:'",
    "file:relative",
]
SCALARS = st.one_of(
    st.sampled_from(BAD),
    st.text(max_size=20),
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.dates(),
    st.binary(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(BAD) | st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(node: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in below:
        yield from paths(value, (*path, key))


def misspelt(draw: st.DrawFn, word: str) -> str:
    place = draw(st.integers(0, len(word)))
    return word[:place] + draw(st.sampled_from(["", "x", "-", "\x1b", "\u0435", " ", word[:1]])) + word[place + 1 :]


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """The example with one to three things changed: a value, a key, an entry gone, twice, or elsewhere."""
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(paths(data), key=str)))
        around: Any = data
        for word in path[:-1]:
            around = around[word]
        last = path[-1]
        what = draw(st.sampled_from(["value", "value", "value", "key", "gone", "deep", "copy"]))
        if what == "value" or not isinstance(around, dict):
            around[last] = draw(VALUES)
        elif what == "key":
            around[misspelt(draw, last) if draw(st.booleans()) else draw(st.sampled_from(BAD))] = around.pop(last)
        elif what == "gone":
            del around[last]
        elif what == "deep":
            for _ in range(draw(st.sampled_from([1, 5, 70]))):
                around[last] = {last: around[last]}
        else:
            around[draw(st.sampled_from(sorted(str(one[-1]) for one in paths(data))))] = copy.deepcopy(around[last])
        if not data:
            break
    return data


def words_of(model: BaseModel) -> Iterator[tuple[str, str]]:
    """Every text in `model`, with the key it stands under; the keys of mappings are words as well."""

    def walk(key: str, value: object) -> Iterator[tuple[str, str]]:
        if isinstance(value, BaseModel):
            for name in type(value).model_fields:
                yield from walk(name, getattr(value, name))
        elif isinstance(value, dict):
            for name, below in value.items():
                yield "a name", name
                yield from walk(name, below)
        elif isinstance(value, tuple):
            for below in value:
                yield from walk(key, below)
        elif isinstance(value, str | Path):
            yield key, str(value)

    yield from walk("", model)


def only_inventory_errors(text: str) -> Inventory | None:
    try:
        document = parse_yaml(text, "lab.yaml")
        inventory = validate(document, Inventory)
        check_names(document, inventory)
    except InventoryError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000
        assert error.__cause__ is None and error.__context__ is None
        return None
    for key, word in words_of(inventory):
        if key in PROGRAMS:
            assert word.isprintable()
        else:
            assert OWN_FORM.get(key, HARMLESS).fullmatch(word), (key, word)
    return inventory


@settings(max_examples=220, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mutated())
def test_two_hundred_hostile_inventories(data: object) -> None:
    only_inventory_errors(yaml.dump(data, allow_unicode=True, Dumper=DUMPER))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(TEXT)), st.sampled_from(BAD) | st.text(max_size=10), st.integers(0, 8))
@example(0, "\x00", 0)
def test_a_file_with_something_in_between(place: int, text: str, lost: int) -> None:
    only_inventory_errors(TEXT[:place] + text + TEXT[place + lost :])


SMALL = "hosts:\n" + TEXT[TEXT.index("  xenbox2:") :]
PLACES = ["xenbox2:", "address: 192.0.2.12", "user: maskall", "kind: ipmi", "nic0:", 'slot: "4"', "driver: e1000e"]


@pytest.mark.parametrize("bad", BAD)
def test_bad_words_wherever_a_word_stands(bad: str) -> None:
    quoted = yaml.dump(bad, default_style='"', width=10**6).strip()
    for old in PLACES:
        key, value = old.split(":")
        inventory = only_inventory_errors(SMALL.replace(old, f"{key}: {quoted}" if value else f"{quoted}:", 1))
        assert inventory is None or HARMLESS.fullmatch(bad)


def test_the_example_is_a_good_beginning() -> None:
    assert only_inventory_errors(SMALL)
    assert all(SMALL.count(old) for old in PLACES)
    assert only_inventory_errors(yaml.dump(DATA)) is not None


def test_a_spot_is_found_whatever_the_keys_of_the_file_are_called() -> None:
    spot = locate(Inventory, ("hosts", "lab", "lab", "power", "ipmi", "password"))
    assert spot.loc == ("hosts", "lab", "power", "password")
    assert spot.hidden
    assert locate(Inventory, ("hosts", "x", "[key]")).key
    assert locate(Inventory, ("hosts", "x", "lab", "power")).tags == list(ways.names(power))
    assert locate(Inventory, ("hosts", "x", "nested")).keys == ["kind", "stack", "devices"]
    assert locate(Inventory, ("no", "such", 3, "thing")).loc == ("no", "such", 3, "thing")
