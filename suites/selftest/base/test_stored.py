"""What is stored as JSON: any text comes back, and what is damaged or of another version is refused in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from harness.base.errors import EvidenceError, MaskallError, UsageError
from harness.base.stored import from_json, to_json
from harness.base.strict import StrictModel
from harness.base.text import inert, storable
from suites.selftest.fakes.hostile import damaged


class Kept(StrictModel):
    schema_version: str = "7"
    said: str = ""
    names: dict[str, tuple[str, ...]] = Field(default={})


ANY = st.text(st.characters(exclude_categories=()))
STORED = to_json(Kept(said="a\x1b\0", names={"d1": ("x",)})).decode()


def test_what_a_host_says_is_kept_exactly() -> None:
    kept = Kept(said="NUL \0 ESC \x1b[2J CR \r \u2028 é \ufffe", names={"\u202e": ("",)})
    assert from_json(Kept, to_json(kept), file="f") == kept


@given(ANY, st.text())
def test_any_text_can_be_stored(text: str, name: str) -> None:
    stored = to_json(Kept(said=text, names={name: (text,)}))
    read = from_json(Kept, stored, file="f")
    assert (read.said, read.names) == (storable(text), {name: (storable(text),)})
    assert to_json(read) == stored


@pytest.mark.parametrize("version", ["6", "8", "", "7 ", "\x1b[2J\n"])
def test_another_version(version: str) -> None:
    content = json.dumps({"schema_version": version, "unheard of": 1}).encode()
    with pytest.raises(UsageError) as caught:
        from_json(Kept, content, file="dir/f.json")
    told = f"dir/f.json: schema version {inert(version)}, and this maskall reads version 7 only (read it with"
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null", b'{"schema_version": 7}', b"[" * 9999]
)
def test_what_is_no_such_file(content: bytes) -> None:
    with pytest.raises(EvidenceError, match=r"f\.json: .*it is not what maskall writes"):
        from_json(Kept, content, file="f.json")


def test_a_key_that_is_not_known_is_told_harmlessly() -> None:
    with pytest.raises(EvidenceError) as caught:
        from_json(Kept, b'{"schema_version": "7", "\\u001b[2J\\n": 1}', file="f.json")
    assert str(caught.value).startswith("f.json: \\x1b[2J\\x0a: Extra inputs are not permitted")


@given(damaged([STORED]))
def test_whatever_is_damaged_is_one_harmless_line(text: str) -> None:
    try:
        from_json(Kept, text.encode("utf-8", "surrogatepass"), file="f.json")
    except MaskallError as error:
        assert inert(str(error)) == str(error)
