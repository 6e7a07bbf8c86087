"""A way is a file: each file of a folder is one way to do a thing, found by its name and loaded when it is needed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from harness.base.errors import HarnessBug

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")

BASE = "base"
"""The file of such a folder that is no way: it says what every way promises."""


def names(folder: ModuleType) -> tuple[str, ...]:
    """The ways of a package, in alphabetical order; none is loaded.

    `base.py` is none. `qmp_wire.py` beside `qmp.py` is a part of qmp.
    """
    stems = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return tuple(stem for stem in stems if stem != BASE and not any(stem.startswith(f"{whole}_") for whole in stems))


def load(folder: ModuleType, name: str, promise: type[T]) -> type[T]:
    """The class of the way `name`: the one in its file that is a `promise`. HarnessBug when there is none, or two."""
    module = importlib.import_module(f"{folder.__name__}.{name}")
    found = [
        one
        for _, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, promise) and one.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise HarnessBug(
            f"{module.__file__}: {len(found)} classes are a {promise.__name__}, a way has one",
            hint=f"a part of another way is called WAY_PART.py; what all ways share stands in {BASE}.py",
        )
    return found[0]


def entries(folder: ModuleType, promise: type[BaseModel]) -> Any:  # noqa: ANN401 - a type expression
    """The type of a key of a YAML file whose `kind` names a way: one of the models of all files of the folder.

    HarnessBug for a model whose `kind` is not the name of its file.
    """
    from pydantic import Field  # `--help` names ways and does not wait for it

    models = []
    for name in names(folder):
        model = load(folder, name, promise)
        kind = model.model_fields["kind"].annotation
        if get_origin(kind) is not Literal or get_args(kind) != (name,):
            raise HarnessBug(f"{inspect.getfile(model)}: {model.__name__} is not of kind Literal[{name!r}]")
        models.append(model)
    return Annotated[Union[tuple(models)], Field(discriminator="kind")]  # noqa: UP007 - made of a list
