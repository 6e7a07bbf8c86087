"""What `maskall list` prints."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from harness.host.stacks import stack, stacks
from harness.judge.forecast import foresee
from harness.judge.known import known_issues
from harness.mutants.catalogue import Mutant
from harness.mutants.catalogue import catalogue as known_mutants
from harness.mutants.change import Returns, TextChange
from harness.nested import devices
from harness.nested.cache import Cache
from harness.nested.emulator import known_emulator
from harness.play.catalogue import catalogue
from harness.play.verbs import VERBS
from harness.report.announce import announced
from harness.run.options import DEFAULT_CONTROL, RunOptions
from harness.scenario.choose import all_scenarios, select
from harness.scenario.spec import Ending, FollowOn
from harness.xen.keys.fixes import registry


def overview() -> Iterator[str]:
    """Everything there is, with what it does and what it expects."""
    known = catalogue()
    usual = devices.candidates({name: devices.catalogue()[name] for name in RunOptions().device_names})
    everything = devices.candidates(devices.catalogue())
    yield "A scenario is ENDING-FOLLOWON-GUEST-DEVICE, for example E14-F1-hvm-nvme.\n"
    yield "endings: how the domain of guest A ends"
    for name, ending in known.endings.items():
        yield from _ending(name, ending)
    yield "\nfollow-ons: what becomes of the device afterwards"
    for name, follow_on in known.follow_ons.items():
        yield from _follow_on(name, follow_on)
    yield "\nverbs: the steps of both"
    for verb in VERBS.values():
        yield f"  {verb.name:<26} {verb.meaning}"
    yield "\nguests\n  hvm       fully virtualised, kernel and modules of dom0"
    yield "\ndevices"
    yield from _devices()
    yield "\nstacks"
    for name, one in stacks().items():
        yield f"  {name:<9} {one.description}{' (default)' if name == stack().name else ''}"
    yield "\nmutants: known-bad hypervisors, device models and dom0 kernels"
    for name, mutant in known_mutants().items():
        yield f"  {name}{' (default control)' if name == DEFAULT_CONTROL else ''}"
        yield f"            {mutant.layer}: {mutant.stands_for}; {_noticed(mutant)}"
    yield "\nprofiles"
    for name, profile in known.profiles.items():
        count = len(select(known, usual, [], name))
        yield f"  {name:<9} {count} scenario{'s' if count > 1 else ''}: {profile.why}"
    yield f"\n{len(all_scenarios(known, everything))} scenarios in all: maskall list --all"


def _ending(name: str, ending: Ending) -> Iterator[str]:
    yield f"  {name:<9} {ending.title}"
    yield f"            {ending.why}"
    steps = [verb.replace("_", " ") for verb in (*ending.fault, *ending.end)]
    needs = f"; needs a host with {', '.join(ending.needs)}" if ending.needs else ""
    yield f"            steps: {', '.join(steps)}{needs}"
    if ending.hazard:
        yield "            expects: Xen sets MASKALL as guest A ends; a run in which it did not proves nothing"
    else:
        yield "            expects: the device works for guest A and goes away cleanly"


def _follow_on(name: str, follow_on: FollowOn) -> Iterator[str]:
    yield f"  {name:<9} {follow_on.title}"
    cures = "must work even on a hypervisor without the fix" if follow_on.cures else "the device delivers interrupts"
    yield f"            expects: {cures}"


def _devices() -> Iterator[str]:
    emulator = known_emulator(Cache())
    for name, model in devices.catalogue().items():
        if emulator is None:
            there = "not known yet whether QEMU has it, which comes with the first run"
        else:
            has = "offered" if model.model in emulator.models else "NOT offered"
            there = f"{has} by QEMU {emulator.version}"
        yield f"  {name:<11} {model.identity}, reset {model.reset}; {there}"


def expected_on(name: str) -> Iterator[str]:
    """What is expected of every scenario on a stack, as far as its releases tell before it is built."""
    chosen = stack(name)
    facts = {"stack": chosen.name, "xen_version": chosen.xen}
    issues = known_issues()
    yield f"{chosen.name}: {chosen.description}\n"
    rows = all_scenarios(catalogue(), devices.candidates(devices.catalogue()))
    yield from announced({row.id: foresee(row, facts, registry(), issues) for row in rows})


def all_ids() -> Iterator[str]:
    """Every id, with its title where the terminal has room."""
    width = shutil.get_terminal_size().columns
    rows = all_scenarios(catalogue(), devices.candidates(devices.catalogue()))
    longest = max(len(row.id) for row in rows)
    for row in rows:
        line = f"{row.id:<{longest}}  {row.title}"
        yield line if len(line) <= width else row.id


def mutants_in_full() -> Iterator[str]:
    """Each mutant as its file says it."""
    for name, mutant in known_mutants().items():
        yield f"{name} ({mutant.layer})"
        yield f"  {mutant.stands_for}"
        yield f"  {_noticed(mutant)}"
        yield from (f"  any       {change}" for change in mutant.changes(None) if isinstance(change, Returns))
        for build, changes in mutant.builds.items():
            for change in changes:
                where = change.symbol if isinstance(change, TextChange) else "device model"
                yield f"  {build:<9} {where}: {' '.join(change.find)} -> {' '.join(change.replace)}"


def _noticed(mutant: Mutant) -> str:
    if mutant.equivalent:
        return f"cannot be noticed: {mutant.equivalent}"
    return f"must be noticed by {', '.join(mutant.notices)}"
