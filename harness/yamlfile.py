"""YAML files of ours or of the user's, read into pydantic models; whatever is wrong is one line with its place.

The place (line and column) of every key and value is kept, so that an error found by a model much later than the
parser still points into the file.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness.errors import InventoryError

M = TypeVar("M", bound=BaseModel)
Loc = tuple[str | int, ...]

MAX_BYTES = 4_000_000
MAX_NODES = 100_000
"""An alias may stand for a large part of the file, and that part for another: counted after expansion."""

MAX_DEPTH = 64

MAX_BITS = 256
"""Of a number: Python refuses to print those of some ten thousand."""


@dataclass(frozen=True)
class Place:
    """Where in a file, counted from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, mark: yaml.Mark | None) -> Place:
        return cls(mark.line + 1, mark.column + 1) if mark else cls(0, 0)


@dataclass
class YamlDocument:
    """Plain data, and where each key and value of it stands."""

    file: str
    data: Any = None  # what YAML can say: dict, list, str, int, float, bool, None, date
    values: dict[Loc, Place] = field(default_factory=dict)
    keys: dict[Loc, Place] = field(default_factory=dict)

    def place(self, loc: Iterable[str | int], *, key: bool = False) -> Place:
        """The place of the value (or key) at `loc`, or of the nearest thing around it."""
        path = tuple(loc)
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(1, 1))

    def error(self, message: str, place: Place, *, hint: str = "") -> InventoryError:
        """An error that points at `place` in this file."""
        return InventoryError(_one_line(message), file=self.file, line=place.line, column=place.column, hint=hint)


def load_models(path: Path, model: type[M]) -> M:
    """Read `path` and validate it as `model`. Raises InventoryError and nothing else, whatever the file holds."""
    document = load_yaml(path)
    return validate(document, model)


def load_yaml(path: Path) -> YamlDocument:
    """Read one YAML document. Raises InventoryError: unreadable, empty, malformed, a key given twice."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InventoryError(f"cannot be read: {reason}", file=file) from error
    if len(raw) > MAX_BYTES:
        raise InventoryError(f"is larger than {MAX_BYTES} bytes", file=file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InventoryError("is not UTF-8 text", file=file, line=line) from error
    return parse_yaml(text, file)


def parse_yaml(text: str, file: str = "<text>") -> YamlDocument:
    """The same for text in hand. Accepted format: one YAML 1.1 document of plain data, keys are words."""
    document = YamlDocument(file)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise document.error(f"not YAML: {problem}", Place.of(error.problem_mark or error.context_mark)) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise document.error("not YAML: a character that YAML does not allow", place) from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise document.error(f"not YAML: {error}", Place(1, 1)) from error
    except RecursionError:
        raise document.error("nested too deeply", Place(1, 1)) from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == "tag:yaml.org,2002:null"):
        raise document.error("is empty", Place(1, 1))
    document.data = _Builder(document).value(root, ())
    return document


def validate(document: YamlDocument, model: type[M]) -> M:
    """`document` as a `model`. Raises InventoryError at the first thing wrong, counting the others."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        # a misspelt key is both unknown and missing: say the word that stands there
        problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
        loc: Loc = problem["loc"]
        name = loc[-1] if loc else ""
        hint = ""
        if problem["type"] == "extra_forbidden":
            message, place = f"unknown key '{name}'", document.place(loc, key=True)
            hint = nearest(str(name), field_names(model, loc[:-1]))
        elif problem["type"] == "missing":
            message, place = f"the key '{name}' is missing", document.place(loc)
        else:
            given = f", not {problem['input']!r:.60}" if not isinstance(problem["input"], dict | list) else ""
            where = f"{'.'.join(map(str, loc))}: " if loc else ""
            message, place = f"{where}{problem['msg'].removeprefix('Value error, ')}{given}", document.place(loc)
            choices = re.findall(r"'([^']+)'", str(problem.get("ctx", {}).get("expected", "")))
            hint = nearest(str(problem["input"]), choices)
        raise document.error(message + more, place, hint=hint) from error
    except RecursionError:
        raise document.error("nested too deeply", Place(1, 1)) from None


def nearest(word: str, right: Iterable[str]) -> str:
    """The hint for a wrong word: the nearest right one, else all if they are few, else nothing."""
    known = list(dict.fromkeys(right))
    near = difflib.get_close_matches(word[:100], known, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"there are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def field_names(annotation: Any, loc: Loc) -> list[str]:  # noqa: ANN401 - a type expression has no better type
    """The keys that `annotation` knows at `loc`, looking through lists, dicts, unions and nested models."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [name for choice in typing.get_args(annotation) for name in field_names(choice, loc)]
    if typing.get_origin(annotation) is typing.Annotated:
        return field_names(typing.get_args(annotation)[0], loc)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {info.alias or name: info for name, info in annotation.model_fields.items()}
        if not loc:
            return list(fields)
        if loc[0] in fields:
            return field_names(fields[str(loc[0])].annotation, loc[1:])
        return field_names(annotation, loc[1:])  # pydantic names the chosen member of a union in between
    inner = typing.get_args(annotation)
    if loc and inner and not issubclass(typing.get_origin(annotation) or object, Enum):
        return field_names(inner[-1], loc[1:])
    return []


class _Builder:
    """Nodes to plain data, as yaml.SafeLoader does, but noting places and refusing what it lets pass."""

    def __init__(self, document: YamlDocument) -> None:
        self.document = document
        self.scalars = yaml.constructor.SafeConstructor()
        self.nodes = 0

    def value(self, node: yaml.Node, loc: Loc) -> Any:  # noqa: ANN401 - YAML data
        self.nodes += 1
        place = Place.of(node.start_mark)
        if self.nodes > MAX_NODES or len(loc) > MAX_DEPTH:
            raise self.document.error("nested too deeply" if len(loc) > MAX_DEPTH else "too large", place)
        self.document.values[loc] = place
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*loc, number)) for number, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = Place.of(key_node.start_mark)
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise self.document.error("merge keys ('<<') are not supported", place, hint="write the keys out")
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise self.document.error("a key must be a word", place, hint="put it in quotes")
            if key in found:
                first = self.document.keys[(*loc, key)]
                raise self.document.error(f"the key '{key}' is given twice", place, hint=f"first in line {first.line}")
            self.document.keys[(*loc, key)] = place
            found[key] = self.value(value_node, (*loc, key))
        return found

    def _scalar(self, node: yaml.Node) -> Any:  # noqa: ANN401 - YAML data
        try:
            value = self.scalars.construct_object(node)
            if isinstance(value, int) and value.bit_length() > MAX_BITS:
                raise ValueError("too large")
            return value
        except yaml.MarkedYAMLError as error:
            raise self.document.error(f"not plain data: {error.problem}", Place.of(node.start_mark)) from error
        except (ValueError, TypeError, OverflowError, KeyError, IndexError, AttributeError) as error:
            message = f"not a value: {str(getattr(node, 'value', ''))!r:.60}"
            raise self.document.error(message, Place.of(node.start_mark)) from error


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
