"""Which scenarios the options of a run ask for, and whether they can be played with them. Every wrong one ends here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.base.errors import UsageError
from harness.guest.drivers import drivers
from harness.host.stacks import stack
from harness.lab.provision.oneboot import refuse_forbidden
from harness.lab.safety.livepatch_gate import ALLOWED_MUTANTS
from harness.mutants.catalogue import HypervisorMutant
from harness.nested.apt_sources import from_option
from harness.nested.devices import candidates
from harness.nested.devices import catalogue as models
from harness.nested.devices import select as select_devices
from harness.play.catalogue import catalogue
from harness.run.challenge import answerable
from harness.run.history import check, times
from harness.run.option import Only
from harness.run.options import TABLE, RunOptions
from harness.run.shard import parsed, shard
from harness.scenario.choose import Candidate, select, why_not_through
from harness.scenario.repeats import parted, repeated
from harness.scenario.spec import Next, Scenario


def checked(options: RunOptions) -> list[Candidate]:
    """The devices that the options name. Raises UsageError or InventoryError for any option that is wrong by itself."""
    _refuse_for_another_kind(options)
    devices = _lab_candidates(options) if options.in_lab else _nested_candidates(options)
    options.toolstack_name()
    options.known_mutants()
    options.issues()
    _ = options.last_begin  # its time runs from now on
    if options.challenge is not None:
        answerable(options.challenge)
    if options.shard is not None:
        parsed(options.shard)
    if options.history is not None:
        check(options.history)
    if options.resume is None:
        _refuse_used(options.results)
    return devices


def refuse_mistakes(options: RunOptions) -> None:
    """Raises UsageError or InventoryError for any option that is wrong, whether scenarios are played or not."""
    if options.scenario:
        chosen(options)
    else:
        checked(options)


def chosen(options: RunOptions) -> list[Scenario]:
    """The rows asked for. Raises as `checked`, and UsageError where there are none."""
    devices = checked(options)
    rows = _repeated(options, _playable(options, _selected(options, devices)))
    _refuse_to_strand(options, rows)
    if options.shard is not None:
        known = options.history is not None and options.history.exists()
        rows = shard(rows, options.shard, times(options.history) if known and options.history else {})
    if not options.rounds:
        return rows
    if not any(row.follow.rounds for row in rows):
        raise UsageError("--rounds is for scenarios that have rounds", hint="name one: 'maskall run E3-F7'")
    return [row.with_rounds(options.rounds) for row in rows]


def _selected(options: RunOptions, devices: list[Candidate]) -> list[Scenario]:
    """By patterns, each of which may say which time is meant (ROW@2), or by the profile."""
    found: dict[str, Scenario] = {}
    for pattern in options.scenario:
        row, number = parted(pattern)
        named = [replace(one, repeat=number) for one in select(catalogue(), devices, [row], options.profile)]
        found |= {one.id: one for one in named}
    return list(found.values()) or select(catalogue(), devices, [], options.profile)


def _repeated(options: RunOptions, rows: list[Scenario]) -> list[Scenario]:
    """As often as it was asked for, or as the profile that chose them says."""
    profile = catalogue().profile(options.profile)

    def times(row: Scenario) -> int:
        return options.repeat or (1 if options.scenario else profile.times(row))

    return repeated(rows, times)


def _refuse_for_another_kind(options: RunOptions) -> None:
    """An option that says nothing on this host is a misunderstanding."""
    other = Only.NESTED if options.in_lab else Only.LAB
    for row in TABLE:
        if row.only is other and getattr(options, row.name) != row.default:
            told = f"{row.flag} is for {other}"
            if other is Only.LAB:
                raise UsageError(told, hint="name one with --host and --inventory")
            raise UsageError(f"{told}: {row.why}")


def _playable(options: RunOptions, rows: list[Scenario]) -> list[Scenario]:
    """Those that the toolstack can play; UsageError when there is none."""
    holes = {row.id: hole for row in rows if (hole := why_not_through(row, options.toolstack))}
    if rows and len(holes) == len(rows):
        raise UsageError(f"{rows[0].id} cannot be: {holes[rows[0].id].reason}", hint="see maskall coverage")
    return [row for row in rows if row.id not in holes]


def _refuse_to_strand(options: RunOptions, rows: list[Scenario]) -> None:
    """virNodeDeviceReAttach leaves the device in Xen's quarantine: dom0's driver has it, and it cannot work."""
    if not (options.in_lab and options.libvirt):
        return
    for row in rows:
        if row.follow.next is Next.BACK_TO_DOM0:
            raise UsageError(
                f"{row.id}: through libvirt a device does not get back to dom0 in working order",
                hint="on a lab host take another follow-on, or --toolstack xl",
            )


def _nested_candidates(options: RunOptions) -> list[Candidate]:
    if options.mirror is not None:
        from_option(options.mirror)
    chosen = stack(options.stack_name)
    if options.control_xen and (options.mutant or options.no_control):
        other = "--no-control" if options.no_control else "--mutant"
        raise UsageError(f"--control-xen and {other} contradict each other", hint="give one of them")
    devices = options.device_names
    offer = frozenset(model.model for model in models().values())  # whether QEMU has it is seen when it is asked
    found = select_devices(devices, offer)
    if not devices:
        raise UsageError("the host has no device to borrow", hint="name one in the inventory, or with --device")
    for xen in dict.fromkeys((options.xen, options.control_xen or options.xen)):
        options.own_parts(xen).fit(chosen, [drivers()[model.driver] for model in found.values()])
    _fit_control(options)
    return candidates(found)


def _fit_control(options: RunOptions) -> None:
    """The mutant of the run must fit the hypervisor that it is planted into, where that is not the stack's."""
    own, name = options.own_parts().xen, options.under_test or options.control
    mutant = options.known_mutants().get(name) if name else None
    if own is None or name is None or not isinstance(mutant, HypervisorMutant):
        return
    changes = mutant.changes(None)
    if not changes:
        hint = "hold it against another, --mutant NAME, or against a build that has the defect, --control-xen FILE"
        raise UsageError(f"mutant {name} is bytes of {', '.join(mutant.builds)} only", hint=hint)
    own.fit_control(name, changes)


def _lab_candidates(options: RunOptions) -> list[Candidate]:
    _ = options.accepted
    if options.own_parts().xen is not None:
        refuse_forbidden(options.site.name, options.site.entry)
    if options.mutant is not None:
        if not options.site.entry.allow_livepatch:
            hint = "allow_livepatch: true in the inventory permits it"
            raise UsageError("--mutant: the inventory does not allow to livepatch this host", hint=hint)
        if options.mutant not in ALLOWED_MUTANTS:
            hint = f"there may be {', '.join(ALLOWED_MUTANTS)}"
            raise UsageError(f"--mutant: {options.mutant} is none for a lab host", hint=hint)
    return options.site.candidates(options.device)


def _refuse_used(folder: Path | None) -> None:
    """Evidence is never written over other evidence."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a directory", hint="--results wants a new or an empty directory")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="give --results a new directory, or remove this one")
