"""The JSON Schema of an inventory, for editors; published as inventory/inventory.schema.json. Pure.

Publish it again after a change of the models:

    python -c 'import harness.lab.inventory.schema as s; print(s.schema_text(), end="")' \\
        > inventory/inventory.schema.json

A self-test fails while the published file is not what this module says. What no schema can say (a device or an address
given twice, a console that needs its power, endings that there are) is said by `load_inventory`.
"""

from __future__ import annotations

import json
from typing import Any

from harness.lab.inventory.models import Inventory


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


def _closed(node: Any) -> Any:  # noqa: ANN401 - JSON
    """Where keys have a pattern none other is allowed; pydantic checks that but does not write it down."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    return {**closed, "additionalProperties": False} if "patternProperties" in closed else closed
