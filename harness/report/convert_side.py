"""From the frozen dataclasses of one run on one hypervisor to the models of what was seen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from harness.judge.judgement import Check, Hazard, Judgement
from harness.model.config import Command, MsixControl
from harness.model.observation import GuestView, Observation, XenView
from harness.model.raw import RawRef
from harness.report.model import Source
from harness.report.seen import (
    Attempt,
    CheckSeen,
    Frame,
    GuestSeen,
    HazardSeen,
    Leak,
    MaskRow,
    MessageSeen,
    MessagesSeen,
    Moment,
    Register,
    RoundSeen,
    Side,
    Traced,
)
from harness.scenario.messages import Message, kinds
from harness.scenario.record import Round
from harness.xen.keys.leaks import Growth, growth
from harness.xen.keys.messages import Meaning
from harness.xen.trace.calls import Event


def source(raw: RawRef) -> Source:
    return Source(file=raw.path, line=raw.line, sha256=raw.sha256)


def register(value: Command | MsixControl | None) -> Register | None:
    """A register of config space; four digits, as lspci and setpci write it."""
    return None if value is None else Register(text=str(value), raw=f"0x{value.value:04x}")


def frame(address: int, symbol: str, offset: int) -> Frame:
    """A place on a call chain."""
    return Frame(address=f"{address:#x}", symbol=symbol, offset=offset)


def moment(observation: Observation) -> Moment:
    """An observation without its dataclasses; `sources` has the keys hardware, table, xen_keys, guest."""
    hardware, table, xen, guest = observation.hardware, observation.table, observation.xen, observation.guest
    control = hardware.control if hardware else None
    sources: dict[str, Source] = {}
    if hardware:
        sources["hardware"] = source(hardware.raw)
    if table:
        sources["table"] = source(table.raw)
    if xen:
        sources["xen_keys"] = source(xen.raw_keys.at(xen.owner_line))
    if guest:
        sources["guest"] = source(guest.raw)
    return Moment(
        checkpoint=observation.checkpoint,
        moment=observation.checkpoint.moment,
        seconds=observation.seconds,
        gone=bool(hardware and hardware.gone),
        driver=hardware.driver if hardware else None,
        command=register(hardware.command if hardware else None),
        control=register(control),
        enabled=control.enabled if control else None,
        masked=control.masked if control else None,
        owner=xen.owner if xen else None,
        irqs=xen.irqs if xen else None,
        unbound_irqs=xen.unbound if xen else None,
        masks=_masks(xen) if xen else None,
        masked_vectors=tuple(index for index, masked in enumerate(table.masked) if masked) if table else None,
        guest=_guest(guest) if guest else None,
        sources=sources,
    )


def hazard(seen: Hazard) -> HazardSeen:
    return HazardSeen(
        promised=seen.promised, taken=seen.taken, how=seen.how, raw=source(seen.raw) if seen.raw else None
    )


def check(held: Check) -> CheckSeen:
    return CheckSeen(
        checkpoint=held.checkpoint,
        view=held.view,
        subject=held.subject,
        expected=held.expected,
        seen=held.seen,
        outcome=held.outcome,
        raw=source(held.raw) if held.raw else None,
    )


def round_seen(one: Round) -> RoundSeen:
    guest = one.guest
    return RoundSeen(
        number=one.number,
        domid=one.domid,
        vectors=guest.vectors if guest else None,
        delta=guest.delta if guest else None,
        counts=one.counts,
        source=source(one.raw),
    )


def leak(one: Growth) -> Leak:
    return Leak(
        counter=one.counter.name,
        title=one.counter.title,
        first=one.first,
        last=one.last,
        noise=one.counter.noise,
        rises=one.rises,
        steps=one.steps,
        leaked=one.leaked,
    )


def messages(said: Sequence[Message]) -> MessagesSeen:
    """Counted, and one row for each kind."""
    lines: Counter[Meaning] = Counter()
    for one in said:
        lines[one.meaning] += one.lines
    return MessagesSeen(
        lines={meaning: lines[meaning] for meaning in Meaning},
        esrch=sum(one.rule is not None and one.rule.esrch for one in said),
        kinds=tuple(_kind(alike) for alike in kinds(said)),
    )


def _kind(alike: Sequence[Message]) -> MessageSeen:
    first = alike[0]
    return MessageSeen(
        meaning=first.meaning,
        rule=first.name,
        origin=first.origin,
        checkpoint=first.checkpoint,
        text=first.text,
        count=len(alike),
        expected=first.expected,
        reason=first.rule.reason if first.rule else "",
        raw=source(first.raw),
    )


def side(
    *,
    hypervisor: str,
    judgement: Judgement,
    observations: Sequence[Observation],
    raw_directory: str,
    log: str,
    phases: Mapping[str, float],
    call_chain: Sequence[Frame] = (),
    call_chain_raw: RawRef | None = None,
    trace: Iterable[Event] = (),
    trace_raw: RawRef | None = None,
    attempts: Sequence[Attempt] = (),
    rounds: Sequence[Round] = (),
    opened: datetime | None = None,
    said: Sequence[Message] | None = None,
) -> Side:
    """One run of a scenario; paths are relative to the run's directory."""
    return Side(
        hypervisor=hypervisor,
        verdict=judgement.verdict,
        reason=judgement.reason,
        hazard=hazard(judgement.hazard),
        checks=tuple(check(held) for held in judgement.checks),
        timeline=tuple(moment(observation) for observation in observations),
        call_chain=tuple(call_chain),
        call_chain_raw=source(call_chain_raw) if call_chain_raw else None,
        trace=tuple(traced(event) for event in trace),
        trace_raw=source(trace_raw) if trace_raw else None,
        phases={name: round(seconds, 3) for name, seconds in phases.items()},
        attempts=tuple(attempts),
        rounds=tuple(map(round_seen, rounds)),
        leaks=tuple(map(leak, growth([one.counts for one in rounds]))),
        opened=opened,
        messages=None if said is None else messages(said),
        raw_directory=raw_directory,
        log=log,
    )


def traced(event: Event) -> Traced:
    return Traced(
        seconds=round(event.seconds, 3),
        what=event.what,
        function=event.function,
        subject=event.subject,
        domid=event.domid,
        pirq=event.pirq,
        irq=event.irq,
        entry=event.entry,
        detail=event.detail,
        actor=event.caller.actor,
        caller=str(event.caller),
        times=event.times,
        chain=tuple(str(one) for one in event.chain),
        dom0_process=event.dom0.process if event.dom0 else None,
        dom0_chain=tuple(str(one) for one in event.dom0.chain) if event.dom0 else (),
    )


def attempt(reason: str, seconds: float, raw: RawRef | None = None) -> Attempt:
    """A try the emulator spoiled."""
    return Attempt(reason=reason, seconds=round(seconds, 3), raw=source(raw) if raw else None)


def _masks(xen: XenView) -> tuple[MaskRow, ...]:
    return tuple(
        MaskRow(irq=row.irq, host=row.host, guest=row.guest, hardware=row.hardware, line=row.line) for row in xen.masks
    )


def _guest(guest: GuestView) -> GuestSeen:
    control = guest.control
    return GuestSeen(
        domain=guest.domain,
        driver=guest.driver,
        command=register(guest.command),
        control=register(control),
        enabled=control.enabled if control else None,
        masked=control.masked if control else None,
        vectors=guest.vectors,
        delta=guest.delta,
        traffic_ok=guest.traffic_ok,
    )
