"""YAML files of ours or of the user's, read into pydantic models; whatever is wrong is one line with its place.

The place (line and column) of every key and value is kept, so that an error found by a model much later than the
parser still points into the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness.base.errors import InventoryError
from harness.base.modelpath import Loc, Spot, locate

M = TypeVar("M", bound=BaseModel)

MAX_BYTES = 4_000_000
MAX_NODES = 100_000
"""An alias may stand for a large part of the file, and that part for another: counted after expansion."""

MAX_DEPTH = 64

MAX_BITS = 256
"""Of a number: Python refuses to print those of some ten thousand."""

_OURS = Path(__file__).parents[1]
_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""For files of the package, which every start reads: libyaml takes a fifteenth of the time, but knows no limit to how
deep it goes into what somebody else wrote."""

_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})

_OCTAL = re.compile(r"[-+]?0[0-7_]+$")
"""022 is 18, and the device 0100 would be 64."""

_SHOWN = 60  # characters of what was given that an error repeats at most


@dataclass(frozen=True)
class YamlPlace:
    """Where in a file, counted from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, mark: yaml.Mark | None) -> YamlPlace:
        return cls(mark.line + 1, mark.column + 1) if mark else cls(0, 0)


@dataclass
class YamlDocument:
    """Plain data, and where each key and value of it stands."""

    file: str
    data: Any = field(default=None, repr=False)  # what YAML can say: dict, list, str, int, float, bool, None, date
    values: dict[Loc, YamlPlace] = field(default_factory=dict, repr=False)
    keys: dict[Loc, YamlPlace] = field(default_factory=dict, repr=False)

    def place(self, loc: Iterable[str | int], *, key: bool = False) -> YamlPlace:
        """The place of the value (or key) at `loc`, or of the nearest thing around it."""
        path = tuple(loc)
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, YamlPlace(1, 1))

    def error(self, message: str, place: YamlPlace, *, hint: str = "") -> InventoryError:
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
        return parse_yaml(raw.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    raise InventoryError("is not UTF-8 text", file=file, line=line)  # out here: Python's error holds the whole file


def parse_yaml(text: str, file: str = "<text>") -> YamlDocument:
    """The same for text in hand. Accepted format: one YAML 1.1 document of plain data, keys are words."""
    document = YamlDocument(file)
    try:
        root = yaml.compose(text, Loader=_QUICK if Path(file).is_relative_to(_OURS) else yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        problem = _unquoted(" ".join(part for part in (error.context, error.problem) if part))
        wrong = document.error(f"not YAML: {problem}", YamlPlace.of(error.problem_mark or error.context_mark))
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        place = YamlPlace(before.count("\n") + 1, len(before) - before.rfind("\n"))
        wrong = document.error("not YAML: a character that YAML does not allow", place)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        wrong = document.error(f"not YAML: {_unquoted(str(error))}", YamlPlace(1, 1))
    except RecursionError:
        wrong = document.error("nested too deeply", YamlPlace(1, 1))
    else:
        return _built(document, root)
    raise wrong  # out here: PyYAML's error holds the whole file and prints the lines in question


def _built(document: YamlDocument, root: yaml.Node | None) -> YamlDocument:
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == "tag:yaml.org,2002:null"):
        raise document.error("is empty", YamlPlace(1, 1))
    document.data = _Builder(document).value(root, ())
    return document


def validate(document: YamlDocument, model: type[M]) -> M:
    """`document` as a `model`. Raises InventoryError at the first thing wrong, counting the others."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        wrong = _first_of(error, document, model)
    except RecursionError:
        wrong = document.error("nested too deeply", YamlPlace(1, 1))
    raise wrong  # out here, so that nothing hangs on to pydantic's error: it repeats what it was given, secrets too


def nearest(word: str, right: Iterable[str]) -> str:
    """The hint for a wrong word: the nearest right one, else all if they are few, else nothing."""
    known = list(dict.fromkeys(right))
    near = difflib.get_close_matches(word[:100], known, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"there are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _first_of(error: ValidationError, document: YamlDocument, model: type[BaseModel]) -> InventoryError:
    """What to say of the most telling problem; a misspelt key is both unknown and missing: say what stands there."""
    problems = error.errors(include_url=False)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    context = problem.get("ctx", {})
    if problem["type"] in ("extra_forbidden", "missing"):
        around = locate(model, problem["loc"][:-1])
        name = str(problem["loc"][-1])
        if problem["type"] == "missing":
            return document.error(f"the key '{name}' is missing{more}", document.place(around.loc))
        return _unknown_key(document, around, name, more)
    spot = locate(model, problem["loc"])
    if problem["type"] == "union_tag_not_found":
        present = [key for key in problem["input"] if key not in spot.keys]
        near = difflib.get_close_matches(spot.discriminator, present, n=1)
        if near:
            return _unknown_key(document, replace(spot, type=None), near[0], more, [spot.discriminator])
        message = f"{_where(spot.loc)}the key '{spot.discriminator}' is missing{more}"
        return document.error(message, document.place(spot.loc), hint=f"there are {', '.join(spot.tags)}")
    if problem["type"] == "union_tag_invalid":
        loc = (*spot.loc, spot.discriminator)
        message = f"{_where(loc)}there is no {spot.discriminator} {_shown(context['tag'])}{more}"
        return document.error(message, document.place(loc), hint=nearest(context["tag"], spot.tags))
    loc = (*spot.loc, *context.get("at", ()))
    told = "Input should be a mapping of keys to values"
    said = told if problem["type"] == "model_attributes_type" else problem["msg"].removeprefix("Value error, ")
    plain = not isinstance(problem["input"], dict | list | BaseModel)
    given = f", not {_shown(problem['input'])}" if plain and not spot.hidden else ""
    choices = re.findall(r"'([^']+)'", str(context.get("expected", "")))
    hint = nearest(str(problem["input"]), choices)
    if problem["type"] == "string_type" and plain and not hint:
        hint = "put it in quotes"  # 10:20 is a number to YAML, and so is many a MAC address
    if not hint and spot.examples:
        hint = f"for example {spot.examples[0]}"
    # the key itself is wrong: it is shown once, as what was given
    place = document.place(loc, key=spot.key)
    return document.error(f"{_where(loc[:-1] if spot.key else loc)}{said}{given}{more}", place, hint=hint)


def _unknown_key(
    document: YamlDocument, around: Spot, name: str, more: str, right: Iterable[str] = ()
) -> InventoryError:
    place = document.place((*around.loc, name), key=True)
    return document.error(f"unknown key {_shown(name)}{more}", place, hint=nearest(name, [*around.keys, *right]))


def _where(loc: Loc) -> str:
    return ".".join(_shown(part)[1:-1] if isinstance(part, str) else str(part) for part in loc) + ": " if loc else ""


def _shown(given: object) -> str:
    """As a Python literal in ASCII: a Cyrillic letter that looks like a Latin one is seen to be another."""
    if given is None:
        return "nothing"
    text = ascii(given[:_SHOWN] if isinstance(given, str) else given)
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}..."


class _Builder:
    """Nodes to plain data, as yaml.SafeLoader does, but noting places and refusing what it lets pass."""

    def __init__(self, document: YamlDocument) -> None:
        self.document = document
        self.scalars = yaml.constructor.SafeConstructor()
        self.nodes = 0

    def value(self, node: yaml.Node, loc: Loc) -> Any:  # noqa: ANN401 - YAML data
        self.nodes += 1
        place = YamlPlace.of(node.start_mark)
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
            place = YamlPlace.of(key_node.start_mark)
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise self.document.error("merge keys ('<<') are not supported", place, hint="write the keys out")
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise self.document.error("a key must be a word", place, hint="put it in quotes")
            if key in found:
                first = self.document.keys[(*loc, key)]
                raise self.document.error(
                    f"the key {_shown(key)} is given twice", place, hint=f"first in line {first.line}"
                )
            self.document.keys[(*loc, key)] = place
            found[key] = self.value(value_node, (*loc, key))
        return found

    def _scalar(self, node: yaml.Node) -> Any:  # noqa: ANN401 - YAML data
        # What was given is not repeated and not chained: nobody knows yet whether this is where a password belongs.
        if node.tag in _NUMBERS and ":" in node.value:
            # 1:20 is 80 in YAML 1.1. Nobody means that, many a MAC address looks so, and reading a long one is slow.
            message, hint = "not a value: it looks like a number to the base 60", "put it in quotes"
            raise self.document.error(message, YamlPlace.of(node.start_mark), hint=hint)
        if node.tag in _NUMBERS and _OCTAL.match(node.value):
            message = "not a value: YAML reads a number that begins with 0 to the base 8"
            hint = "leave the 0 out, or put it in quotes"
            raise self.document.error(message, YamlPlace.of(node.start_mark), hint=hint)
        try:
            value = self.scalars.construct_object(node)
        except yaml.MarkedYAMLError:
            message, hint = "not plain data: a tag that is not YAML's own", "put a value that begins with ! in quotes"
        except (ValueError, TypeError, OverflowError, KeyError, IndexError, AttributeError):
            message, hint = "not a value: it looks like a number or a date and is none", "put it in quotes"
        else:
            if not isinstance(value, int) or value.bit_length() <= MAX_BITS:
                return value
            message, hint = "not a value: the number is too large", ""
        raise self.document.error(message, YamlPlace.of(node.start_mark), hint=hint)


def _unquoted(problem: str) -> str:
    """What PyYAML says without the words of the file that it repeats; single characters and its `<...>` may stay."""
    return re.sub(r"'(?!<)[^']{2,}'", "'...'", problem)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
