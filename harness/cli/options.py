"""The table of options as typer sees it: a command declares only what is its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo

from harness.run.option import Option, with_kind
from harness.run.options import TABLE, RunOptions

_ROWS = {row.name: row for row in TABLE}
HOST = typer.Argument(help="Name of a host in the inventory.", metavar="HOST")
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def takes(command: str, **otherwise: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401
    """Gives a function the options that the table has for `command`, in place of its parameter `options: RunOptions`.

    `otherwise` is what this command has otherwise than the table: a `typer.Argument` in place of an option, optional
    where there may be several; or a value, the default of an option, and fixed where the command does not offer it.
    """
    arguments = {name: info for name, info in otherwise.items() if isinstance(info, ArgumentInfo)}
    defaults = {name: value for name, value in otherwise.items() if name not in arguments}
    offered = [_argument(_ROWS[name], info) for name, info in arguments.items()]
    offered += [
        _option(row, defaults.get(row.name, row.default), of_run=command == "run")
        for row in TABLE
        if command in row.on and row.name not in arguments
    ]

    taken = {one.name for one in offered}  # a command may have another option of the same name

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(function, eval_str=True).parameters

        def called(**given: Any) -> Any:  # noqa: ANN401
            values = {
                name: row.stored(given.get(name, defaults.get(name)) if name in taken else defaults.get(name))
                for name, row in _ROWS.items()
            }
            return function(options=RunOptions(**values), **{name: given[name] for name in own if name != "options"})

        parameters = [
            one.replace(kind=_KEYWORD)
            for mine in own.values()
            for one in (offered if mine.name == "options" else [mine])
        ]
        called.__name__, called.__doc__ = function.__name__, function.__doc__
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return called

    return decorated


def _argument(row: Option, info: ArgumentInfo) -> inspect.Parameter:
    if row.several:
        return inspect.Parameter(row.name, _KEYWORD, default=None, annotation=Annotated[list[str] | None, info])
    return inspect.Parameter(row.name, _KEYWORD, annotation=Annotated[row.type, info])


def _option(row: Option, default: Any, *, of_run: bool) -> inspect.Parameter:  # noqa: ANN401
    names = (row.flag, row.short) if row.short else (row.flag,)
    text = with_kind(row) if of_run else row.help
    info = typer.Option(*names, help=text, metavar=row.metavar, min=row.least, max=row.most)
    kind = list[str] if row.several else row.type
    if row.several or (row.least is not None and default < row.least):  # a default that is not to be shown
        default, kind = None, kind | None
    return inspect.Parameter(row.name, _KEYWORD, default=default, annotation=Annotated[kind, info])
