"""The JSON Schemas of results.json, mutants.json and certificate.json, published as docs/*.schema.json. Pure.

Publish them again after a change of the models:

    ./tools/maskall schema > docs/results.schema.json
    ./tools/maskall schema --mutants > docs/mutants.schema.json
    ./tools/maskall schema --certificate > docs/certificate.schema.json

A self-test fails while a published file is not what this module says.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from harness.report import matrix, results
from harness.report.bundle import certificate


def schema() -> dict[str, Any]:
    """The schema of what `store.dump` writes: every key is there, none other is."""
    return _schema(results.RunResult, f"maskall results, schema version {results.SCHEMA_VERSION}")


def mutants_schema() -> dict[str, Any]:
    """The schema of what `maskall mutants` writes."""
    return _schema(matrix.KillMatrix, f"maskall kill matrix, schema version {matrix.SCHEMA_VERSION}")


def certificate_schema() -> dict[str, Any]:
    """The schema of certificate.json, which `maskall certify` writes."""
    return _schema(certificate.Certificate, f"maskall certificate, schema version {certificate.VERSION}")


def schema_text(made: dict[str, Any]) -> str:
    """The published file, byte for byte."""
    return json.dumps(made, indent=2, ensure_ascii=True) + "\n"


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    made = model.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": title}
