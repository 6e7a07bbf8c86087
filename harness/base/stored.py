"""What a run leaves on disk as JSON: written whatever bytes a host put into it, read back strictly. Pure."""

from __future__ import annotations

from typing import TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from harness.base.errors import EvidenceError, ParseError, UsageError
from harness.base.text import inert, storable

Model = TypeVar("Model", bound=BaseModel)


class _Version(BaseModel):
    schema_version: str


def to_json(model: BaseModel) -> bytes:
    """`model` in UTF-8. Lone surrogates are escaped: guests and devices choose what they are called."""
    return pydantic_core.to_json(storable_json(model.model_dump(mode="json")), indent=2) + b"\n"


def storable_json(value: object) -> object:
    """The same JSON without lone surrogates."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [storable_json(one) for one in value]
    if isinstance(value, dict):
        return {name: storable_json(one) for name, one in value.items()}
    return value


def from_json(model: type[Model], content: bytes, *, file: str) -> Model:
    """What `to_json` wrote of a `model` that has a `schema_version`.

    UsageError for another schema version, EvidenceError for what is no such file; both name `file`.
    """
    try:
        found = _Version.model_validate_json(content).schema_version
        known = model.model_fields["schema_version"].default
        if found != known:
            raise UsageError(
                f"{file}: schema version {inert(found)}, and this maskall reads version {known} only",
                hint="read it with the maskall that wrote it, or play it again",
            )
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _unreadable(file, f"{place}: {first['msg']}") from error
    except ParseError as error:  # of a register that holds too much
        raise _unreadable(file, error.message) from error


def _unreadable(file: str, why: str) -> EvidenceError:
    return EvidenceError(f"{file}: {inert(why)}", hint="it is not what maskall writes")
