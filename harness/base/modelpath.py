"""From the path that pydantic gives an error to the path in the file, and what the models say about that spot. Pure.

pydantic puts the tag of a discriminated union, or the name of the chosen member of any other, in between; no such key
is in the file. Walking the types, not the data, tells the two apart whatever the file's keys are called.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

Loc = tuple[str | int, ...]

_KEY = "[key]"
"""pydantic's word for: not the value of this entry is wrong, but its key."""


class Hidden:
    """Marks (inside Annotated) what may hold a secret, or a mistake for one: no error repeats what was given there."""


HIDDEN = Hidden()


def misplaced(message: str, *at: str | int) -> PydanticCustomError:
    """To be raised by a validator of a whole model for the spot `at` below it: the error then points there."""
    return PydanticCustomError("misplaced", "{message}", {"message": message, "at": at})


@dataclass(frozen=True)
class Spot:
    """One place in the file, and what belongs there."""

    loc: Loc
    type: Any  # without Annotated and without `| None`; None where the models know nothing
    discriminator: str = ""  # of the union that belongs there
    examples: tuple[str, ...] = ()
    hidden: bool = False  # this or something around it
    key: bool = False  # the key at `loc` is meant, not its value

    @property
    def keys(self) -> list[str]:
        """The keys that a mapping here may have."""
        return [name for model in _members(self.type) for name in _fields(model)]

    @property
    def tags(self) -> list[str]:
        """The values of the discriminator that there are."""
        return [tag for model in _members(self.type) for tag in _tags(model, self.discriminator)]


def locate(model: Any, loc: Loc) -> Spot:  # noqa: ANN401 - a type expression has no better type
    """The spot that pydantic means by `loc` when it validates `model`. Unknown parts are taken as they stand."""
    spot = _here(Spot((), None), model)
    words = list(loc)
    while words:
        word = words.pop(0)
        members = _members(spot.type)
        if len(members) > 1:
            chosen = [one for one in members if word in _tags(one, spot.discriminator) or word == _name(one)]
            spot = _here(spot, chosen[0] if chosen else None)
            continue
        below = replace(spot, loc=(*spot.loc, word), examples=())
        origin, inner = typing.get_origin(spot.type), typing.get_args(spot.type)
        field = _fields(spot.type).get(str(word))
        if field is not None:
            spot = _here(below, field.annotation, [field, *field.metadata])
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            spot = replace(below, key=words[:1] == [_KEY])
            spot = _here(spot, inner[0 if spot.key else 1])
            words = words[1:] if spot.key else words
        elif inner and isinstance(word, int):
            spot = _here(below, inner[0] if inner[-1] is ... else inner[min(word, len(inner) - 1)])
        else:
            spot = replace(below, type=None, discriminator="")
    return spot


def _here(spot: Spot, annotation: Any, metadata: typing.Iterable[Any] = ()) -> Spot:  # noqa: ANN401
    """`spot` with this annotation: its wrappings taken off and remembered."""
    found, discriminator = list(metadata), ""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *more = typing.get_args(annotation)
            found += more
        elif len(members := _members(annotation)) == 1 and members[0] is not annotation:
            annotation = members[0]
        elif isinstance(annotation, type) and issubclass(annotation, RootModel):
            annotation = annotation.model_fields["root"].annotation
        else:
            break
    examples = list(spot.examples)
    for one in found:
        if isinstance(one, FieldInfo):
            discriminator = one.discriminator if isinstance(one.discriminator, str) else discriminator
            examples += [str(example) for example in one.examples or ()]
    hidden = spot.hidden or any(isinstance(one, Hidden) for one in found)
    return replace(spot, type=annotation, discriminator=discriminator, examples=tuple(examples), hidden=hidden)


def _members(annotation: Any) -> list[Any]:  # noqa: ANN401
    """What a union may be, None apart; of anything else itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for member in typing.get_args(annotation) if member is not types.NoneType]
    return [annotation]


def _fields(annotation: Any) -> dict[str, FieldInfo]:  # noqa: ANN401
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {info.alias or name: info for name, info in annotation.model_fields.items()}
    return {}


def _tags(annotation: Any, discriminator: str) -> tuple[Any, ...]:  # noqa: ANN401
    field = _fields(annotation).get(discriminator)
    return typing.get_args(field.annotation) if field else ()


def _name(annotation: Any) -> str:  # noqa: ANN401
    return getattr(annotation, "__name__", "")
