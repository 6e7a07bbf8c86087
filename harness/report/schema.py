"""The JSON Schema of `results.json`, published as docs/results.schema.json. Pure.

Publish it again after a change of the models:

    python -c 'from harness.report.schema import schema_text; print(schema_text(), end="")' > docs/results.schema.json

A self-test fails while the published file is not what this module says.
"""

from __future__ import annotations

import json
from typing import Any

from harness.report.results import SCHEMA_VERSION, RunResult


def schema() -> dict[str, Any]:
    """The schema of what `store.dump` writes: every key is there, none other is."""
    made = RunResult.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": f"maskall results, schema version {SCHEMA_VERSION}",
    }


def schema_text() -> str:
    """The published file, byte for byte."""
    return json.dumps(schema(), indent=2, ensure_ascii=True) + "\n"
