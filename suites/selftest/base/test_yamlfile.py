"""Whatever a YAML file holds: a model, or one line with file, line, column and the nearest right word."""

from __future__ import annotations

import enum
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from harness.base.errors import InventoryError
from harness.base.yamlfile import load_models, parse_yaml, validate


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Device(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str
    vectors: int = 1
    colour: Colour = Colour.RED


class Lab(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hosts: dict[str, list[Device]]
    comment: str | None = None


GOOD = """\
hosts:
  one:
    - model: nvme
      vectors: 65
    - {model: edu, colour: green}
"""


def load(tmp_path: Path, text: str | bytes) -> Lab:
    path = tmp_path / "lab.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_models(path, Lab)


def test_good_file(tmp_path: Path) -> None:
    lab = load(tmp_path, GOOD)
    assert lab.hosts["one"][0].vectors == 65
    assert lab.hosts["one"][1].colour is Colour.GREEN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1:1: is empty"),
        ("# nothing\n", ":1:1: is empty"),
        ("~\n", ":1:1: is empty"),
        (GOOD.replace("vectors: 65", "vektors: 65"), ":4:7: unknown key 'vektors' (did you mean 'vectors'?)"),
        (GOOD.replace("vectors: 65", "vectors: many"), ":4:16: hosts.one.0.vectors: Input should be a valid integer"),
        (GOOD.replace("colour: green", "colour: gren"), "did you mean 'green'?"),
        (GOOD.replace("- model: nvme\n      vectors: 65", "- vectors: 65"), ":3:7: the key 'model' is missing"),
        (GOOD.replace("vectors: 65", "model: xhci"), ":4:7: the key 'model' is given twice (first in line 3)"),
        ("hosts: [1, 2]\n", ":1:8: hosts: Input should be a valid dictionary"),
        ("- hosts\n", ":1:1: Input should be a valid dictionary or instance of Lab"),
        ("hosts: {one: [}\n", ":1:15: not YAML"),
        ("hosts:\n\tone: 1\n", ":2:1: not YAML"),
        ("hosts: {1: []}\n", ":1:9: a key must be a word (put it in quotes)"),
        ("hosts: {on: []}\n", ":1:9: a key must be a word (put it in quotes)"),
        ("hosts: {? [a] : []}\n", ":1:11: a key must be a word"),
        ("hosts: !!python/object/apply:os.system ['true']\n", "hosts"),
        ("hosts: 2001-99-99\n", ":1:8: not a value"),
        ("hosts: {<<: {a: []}}\n", "merge keys"),
        (GOOD.replace("vectors: 65", "vectors: 065"), ":4:16: not a value: YAML reads a number that begins with 0"),
        (GOOD.replace("vectors: 65", "vectors: -0_1"), ":4:16: not a value: YAML reads a number that begins with 0"),
        (GOOD.replace("vectors: 65", "vectors: 1:05"), ":4:16: not a value: it looks like a number to the base 60"),
        ("a: 1\n---\nb: 2\n", ":2:1: not YAML"),
        ("comment: \x07\n", ":1:10: not YAML: a character"),
        (b"hosts: 1\ncomment: \xff\n", ":2: is not UTF-8 text"),
        ("hosts: &h [*h]\n", "nested too deeply"),
        ("hosts: " + "[" * 500, "nested too deeply"),
        ("host: {}\nhots: {}\n", "(and 2 more)"),
    ],
)
def test_wrong_file_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, expected: str) -> None:
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, text)
    assert f"lab.yaml{expected}" in str(caught.value) if expected.startswith(":") else expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-0", 0), ("0x41", 65), ("0.5", 0.5), ('"065"', "065"), ("089", "089")]
)
def test_numbers_that_mean_one_thing(text: str, value: object) -> None:
    """089 is a word to YAML: there is no 8 in what begins with 0."""
    assert parse_yaml(f"a: {text}\n").data == {"a": value}


def test_unreadable_files(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory"), (Path("a\0b"), "null")):
        with pytest.raises(InventoryError, match=f"cannot be read: .*{reason}"):
            load_models(path, Lab)


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 7)]
    with pytest.raises(InventoryError, match="too large"):
        parse_yaml("\n".join(lines))


def only_inventory_errors(text: str) -> None:
    try:
        validate(parse_yaml(text), Lab)
    except InventoryError as error:
        assert "\n" not in str(error)


@given(st.text())
def test_any_text_is_refused_politely(text: str) -> None:
    only_inventory_errors(text)


YAMLISH = st.text(alphabet="hosts:[]{}&*!|>?-#%@`'\"~=<,.019eE+_ \n\tx", max_size=60)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(YAMLISH, st.integers(0, len(GOOD)))
def test_any_yaml_like_text_is_refused_politely(text: str, place: int) -> None:
    only_inventory_errors(text)
    only_inventory_errors(GOOD[:place] + text + GOOD[place:])


HOSTILE = ["9" * 6000, "0x" + "f" * 6000, "1e999999", "!!int x", "!!float ''", "!!binary @", "!x y"]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_scalars(value: str) -> None:
    only_inventory_errors(f"hosts: {value}\ncomment: {value}\n")
    only_inventory_errors(f"hosts: {{one: [{{model: a, vectors: {value}}}]}}\n")
