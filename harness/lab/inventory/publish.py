"""What is published about the inventory, made of its models: the JSON Schema for editors, and the tables of the docs.

Publish both again after a change of the models, or with a new way to switch a host or to read its console:

    python -m harness.lab.inventory.publish

A self-test fails while the published files are not what this module says. What no schema can say (a device or an
address given twice, a console that needs its power, endings that there are) is said by `load_inventory`.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.lab.inventory.models import DeviceEntry, Inventory, LabEntry, NestedEntry

_CHECKOUT = Path(__file__).parents[3]
SCHEMA_FILE = _CHECKOUT / "inventory" / "inventory.schema.json"
DOCS_FILE = _CHECKOUT / "docs" / "inventory.md"


def schema() -> dict[str, Any]:
    """The schema of what `load_inventory` reads."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_closed(Inventory.model_json_schema(mode="validation")),
        "title": "maskall inventory",
    }


def schema_text() -> str:
    """The published file, byte for byte."""
    return json.dumps(schema(), indent=2, ensure_ascii=True) + "\n"


def docs_text(text: str) -> str:
    """`text` with each table made anew: what stands between the lines `<!-- table NAME -->` and `<!-- end -->`.

    KeyError for the name of a table that there is not.
    """
    tables: dict[str, tuple[str, list[type[BaseModel]]]] = {
        "hosts": ("hosts: NAME: kind:", [NestedEntry, LabEntry]),
        "power": ("power: kind:", _members(LabEntry, "power")),
        "console": ("console: kind:", _members(LabEntry, "console")),
        "devices": ("", [DeviceEntry]),
    }
    return re.sub(
        r"^<!-- table (\w+) -->\n.*?^<!-- end -->$",
        lambda found: "\n".join([f"<!-- table {found[1]} -->", *_table(*tables[found[1]]), "<!-- end -->"]),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


def main() -> None:
    """Write both files of this checkout."""
    SCHEMA_FILE.write_text(schema_text())
    DOCS_FILE.write_text(docs_text(DOCS_FILE.read_text()))


def _closed(node: Any) -> Any:  # noqa: ANN401 - JSON
    """Where keys have a pattern none other is allowed; pydantic checks that but does not write it down."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    return {**closed, "additionalProperties": False} if "patternProperties" in closed else closed


def _members(model: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """The models of the union that belongs there."""
    (union,) = (one for one in typing.get_args(model.model_fields[key].annotation) if one is not type(None))
    return list(typing.get_args(typing.get_args(union)[0]))


def _table(tag: str, models: list[type[BaseModel]]) -> Iterator[str]:
    """Markdown, a row for each key; with a `tag` also one for each model, which is one of its values."""
    yield _row(*([f"`{tag}`"] if tag else []), "key", "means", "if left out")
    yield "|---" * (4 if tag else 3) + "|"
    for model in models:
        fields = dict(model.model_fields)
        if tag:
            (kind,) = typing.get_args(fields.pop("kind").annotation)
            yield _row(f"`{kind}`", "", inspect.cleandoc(model.__doc__ or "").splitlines()[0], "")
        for name, info in fields.items():
            yield _row(*([""] if tag else []), f"`{name}`", _means(info), _left_out(info))


def _means(info: FieldInfo) -> str:
    examples = [f"For example `{example}`." for example in info.examples or ()]
    return " ".join([info.description or "", *examples])


def _left_out(info: FieldInfo) -> str:
    if info.is_required():
        return "refused"
    return "nothing" if info.default in (None, ()) else str(info.default).lower()


def _row(*cells: str) -> str:
    return "".join(f"| {cell} ".replace("|  ", "| ") for cell in cells) + "|"


if __name__ == "__main__":
    main()
