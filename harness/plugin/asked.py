"""What a test asks for by its fixtures and marks, checked before anything runs: every mistake is one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from harness.base.errors import UsageError
from harness.base.yamlfile import nearest
from harness.plugin.marks import usage

if TYPE_CHECKING:
    import pytest

    from harness.model.guestspec import GuestWishes
    from harness.run.options import RunOptions

STOCK = "stock"


@dataclass(frozen=True)
class Asked:
    """One test's wishes. `hypervisors`: it is played on each; a second one is the control."""

    devices: tuple[str, ...] = ()
    hypervisors: tuple[str, ...] = (STOCK,)
    control: str | None = None
    stacks: tuple[str, ...] = ()
    guest: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, bool] = field(default_factory=dict)  # a power of the host: whether the test insists on it

    def wishes(self) -> GuestWishes:
        from harness.model.guestspec import GuestWishes

        return guest_wishes(GuestWishes(), self.guest)


def asked(node: Any, options: RunOptions) -> Asked:  # noqa: ANN401 - a pytest item, or the definition of several
    """What the test asks for. UsageError for whatever there is not, InventoryError."""
    control = _control(node, options)
    tested = options.under_test or STOCK
    wanted = Asked(
        devices=_devices(node, options),
        hypervisors=(tested,) if control is None else (tested, control),
        control=control,
        stacks=_stacks(node),
        guest=_guest(node),
        needs=_needs(node),
    )
    if wanted.guest:
        wanted.wishes()
    return wanted


def where(node: Any) -> str:  # noqa: ANN401
    """File, line and name of a test."""
    path, line, _ = node.location
    return f"{path}:{(line or 0) + 1}: {node.name}"


def _mark(node: Any, name: str) -> pytest.Mark | None:  # noqa: ANN401
    mark: pytest.Mark | None = node.get_closest_marker(name)
    return mark


def _words(mark: pytest.Mark, *, most: int | None = None, known: Sequence[str] = ()) -> tuple[str, ...]:
    for name in mark.kwargs:
        if name not in known:
            raise UsageError(f"the mark '{mark.name}' has no argument {name!r}", hint=usage(mark.name))
    for word in mark.args:
        if not isinstance(word, str):
            raise UsageError(f"the mark '{mark.name}' takes names, not {word!r}", hint=usage(mark.name))
    if most is not None and len(mark.args) > most:
        raise UsageError(f"the mark '{mark.name}' takes {most} name, not {len(mark.args)}", hint=usage(mark.name))
    return mark.args


def _devices(node: Any, options: RunOptions) -> tuple[str, ...]:  # noqa: ANN401
    """What its fixtures borrow, in their order. A parametrized pci_device is told by its parameter."""
    one, several = "pci_device" in node.fixturenames, "pci_devices" in node.fixturenames
    if not one and not several:
        return ()
    if one and several:
        raise UsageError("pci_device and pci_devices would borrow the same device", hint="ask for one of them")
    mark = _mark(node, "device")
    names = _words(mark) if mark is not None else ()
    if mark is not None and not names:
        raise UsageError("the mark 'device' names no device", hint=usage("device"))
    given = getattr(node, "callspec", None)
    if given is not None and isinstance(given.params.get("pci_device"), str):
        names = (given.params["pci_device"],)
    known = options.known_devices
    for name in names:
        if name not in known:
            raise UsageError(f"there is no device {name!r}", hint=nearest(name, known))
        if names.count(name) > 1:
            raise UsageError(f"the device {name!r} is wanted twice", hint="each can be borrowed once")
    if one and len(names) > 1:
        raise UsageError(f"pci_device is one device, and the mark names {len(names)}", hint="ask for pci_devices")
    chosen = names or tuple(options.device_names)[: 1 if one else None]
    if not chosen:
        raise UsageError("the host has no device to borrow", hint="name one with the mark 'device'")
    return chosen


def _control(node: Any, options: RunOptions) -> str | None:  # noqa: ANN401
    """The mutant: what the command line says, else the mark, else the usual one."""
    from harness.lab.safety.livepatch_gate import ALLOWED_MUTANTS
    from harness.run.options import DEFAULT_CONTROL

    mark = _mark(node, "control")
    if mark is None:
        return None
    names = _words(mark, most=1)
    known = options.known_mutants()
    for name in names:
        if name not in known:
            raise UsageError(f"there is no mutant {name!r}", hint=nearest(name, known))
    if options.control is None:
        return None
    chosen = options.mutant or (names[0] if names else DEFAULT_CONTROL)
    return None if options.in_lab and chosen not in ALLOWED_MUTANTS else chosen


def _stacks(node: Any) -> tuple[str, ...]:  # noqa: ANN401
    mark = _mark(node, "stack")
    if mark is None:
        return ()
    from harness.host.stacks import stack

    names = _words(mark)
    if not names:
        raise UsageError("the mark 'stack' names no stack", hint=usage("stack"))
    for name in names:
        stack(name)
    return names


def _needs(node: Any) -> dict[str, bool]:  # noqa: ANN401
    mark = _mark(node, "needs")
    if mark is None:
        return {}
    from harness.scenario.spec import HostPower

    names, known = _words(mark, known=["insist"]), [str(one) for one in HostPower]
    for name in names:
        if name not in known:
            raise UsageError(f"no host is asked for {name!r}", hint=nearest(name, known))
    if not names:
        raise UsageError("the mark 'needs' names nothing", hint=usage("needs"))
    return dict.fromkeys(names, bool(mark.kwargs.get("insist", False)))


def _guest(node: Any) -> dict[str, Any]:  # noqa: ANN401
    mark = _mark(node, "guest")
    if mark is None:
        return {}
    if mark.args:
        raise UsageError(f"the mark 'guest' takes named arguments, not {mark.args[0]!r}", hint=usage("guest"))
    return dict(mark.kwargs)


def guest_wishes(usual: GuestWishes, given: dict[str, Any]) -> GuestWishes:
    """`usual`, but for what is given. UsageError for a name or a value that there is not."""
    from dataclasses import replace

    from harness.model.guestspec import GuestType, OnEvent

    known = [one.name for one in fields(usual)]
    words = {"type": GuestType, "on_reboot": OnEvent, "on_crash": OnEvent}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"a guest has no {name!r}", hint=nearest(name, known))
        if name in words:
            choices = [str(one) for one in words[name]]
            if value not in choices:
                raise UsageError(f"a guest's {name} cannot be {value!r}", hint=nearest(str(value), choices))
            values[name] = words[name](value)
        elif name == "cmdline":
            if not isinstance(value, str) or any(one in value for one in '"\n'):
                raise UsageError(f"a guest's cmdline cannot be {value!r}", hint="text on one line without quotes")
            values[name] = value
        else:
            least, most = {"vcpus": (1, 8), "memory": (64, 4096)}[name]
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise UsageError(f"a guest's {name} cannot be {value!r}", hint=f"{least} to {most}")
            values[name] = value
    return replace(usual, **values)
