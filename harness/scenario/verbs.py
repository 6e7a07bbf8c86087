"""The steps scenarios are made of. Each does one thing to the host and notes how it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.errors import HarnessBug
from harness.journal.change import Change, Kind
from harness.lab.transport.base import CommandResult
from harness.scenario.checkpoint import Checkpoint
from harness.scenario.spec import Verb
from harness.scenario.stage import Stage, outcome
from harness.xen.callchain import decode_off_at_teardown, ecam_base
from harness.xen.symbols import parse_xensyms
from harness.xen.toolstack import Signal

_ENABLE = 0x8000  # message control, bit 15
_GONE_SECONDS = 30.0


def _unload_driver(stage: Stage) -> None:
    _in_guest(stage, Verb.UNLOAD_DRIVER, f"unload_driver {stage.target.identity}")


def _in_guest(stage: Stage, verb: Verb, command: str) -> None:
    agent = stage.guest.agent
    with stage.acting(verb, Checkpoint.C3) as note:
        if agent is None:
            note(False, "the guest has no agent", b"")
            return
        answer = agent.run(f". /actions; {command}", stage.deadline())
        note(answer.status == 0, f"status {answer.status}", answer.output)


def _kill_device_model(stage: Stage) -> None:
    stage.act(
        Verb.KILL_DEVICE_MODEL,
        Checkpoint.C3,
        lambda: stage.toolstack.signal_device_model(stage.guest.domid, Signal.KILL, stage.deadline()).result,
    )


def _decode(stage: Stage, verb: Verb, value: str) -> None:
    device = str(stage.borrowed.address)
    stage.host.ledger.about_to(
        Change(Kind.CONFIG, device, f"write COMMAND={value} of {device}", "write COMMAND back as it was")
    )
    command = ["setpci", "-s", device, f"COMMAND={value}"]
    stage.act(verb, Checkpoint.C3, lambda: stage.host.transport.run(command, deadline=stage.deadline(), changes=True))


def _guest_clears_enable(stage: Stage) -> None:
    """One 16-bit write to message control from inside the guest: qemu unmaps and unbinds its pirqs."""
    seen = stage.record.at(Checkpoint.C2)
    offset = stage.collector.msix_offset
    if seen is None or seen.guest is None or seen.guest.control is None or offset is None:
        raise HarnessBug("inject-unbind needs the guest's view of C2")
    value = seen.guest.control.value & ~_ENABLE
    low, high = (f"{byte:03o}" for byte in value.to_bytes(2, "little"))
    command = f"write_control {stage.target.identity} {offset + 2} {low} {high}"
    _in_guest(stage, Verb.GUEST_CLEARS_ENABLE, command)


def _end_by_guest(stage: Stage, verb: Verb, command: str) -> None:
    guest = stage.guest
    with stage.acting(verb, Checkpoint.C4) as note:
        if guest.agent is None:
            note(False, "the guest has no agent", b"")
            return
        guest.agent.post(f". /actions; {command}", stage.deadline())
        _await_gone(stage, note)


def _power_off_with_msix_on(stage: Stage) -> None:
    _end_by_guest(stage, Verb.POWER_OFF_WITH_MSIX_ON, "power_off_by_hand")


def _await_gone(stage: Stage, note: Callable[[bool, str, bytes], None]) -> None:
    gone = stage.toolstack.await_gone(stage.guest.domid, stage.borrowed.address, stage.deadline(_GONE_SECONDS))
    note(gone.ok, "gone" if gone.ok else "the domain is still there", gone.stdout + gone.stderr)


def _destroy(stage: Stage) -> None:
    with stage.acting(Verb.DESTROY, Checkpoint.C4) as note:
        result = stage.toolstack.destroy(stage.guest.domid, stage.deadline())
        if not result.ok:
            note(False, outcome(result), result.stdout + result.stderr)
            return
        _await_gone(stage, note)


def _destroy_with_decode_off(stage: Stage) -> None:
    debugger = stage.host.debugger
    if debugger is None:
        raise HarnessBug("this ending needs a debugger and should have been skipped")
    transport, domid = stage.host.transport, stage.guest.domid
    with stage.acting(Verb.DESTROY_WITH_DECODE_OFF, Checkpoint.C4) as note:
        symbols_text = transport.run(["cat", "/proc/xen/xensyms"], deadline=stage.deadline()).check()
        symbols = parse_xensyms(symbols_text.text, file="xensyms")
        ring = transport.run(["xl", "dmesg"], deadline=stage.deadline()).check().text
        running = []
        seen = decode_off_at_teardown(
            debugger,
            symbols,
            stage.borrowed.address,
            ecam=ecam_base(ring, stage.borrowed.address),
            identity=stage.target.identity,
            begin=lambda: running.append(stage.toolstack.start_destroy(domid, stage.deadline())),
            deadline=stage.deadline(60),
        )
        chain = "".join(f"{frame.address:#x} {frame}\n" for frame in seen.chain)
        text = f"COMMAND {seen.command_before:#06x} -> {seen.command_after:#06x} in the teardown\n{chain}"
        stage.record.call_chain = seen.chain
        stage.record.call_chain_raw = stage.keep("call_chain.txt", text.encode())
        _await_gone(stage, note)
        running[0].close()


def _next_guest(stage: Stage, verb: Verb, name: str) -> None:
    spec = replace(stage.guests[0].spec, name=name)
    stage.progress.note(f"creating guest {name}")
    created = stage.bring_up(spec, "B", verb, Checkpoint.C5)
    stage.observe(Checkpoint.C5)
    if created:
        stage.await_userland()
        stage.observe(Checkpoint.C6)


def _back_to_dom0(stage: Stage) -> None:
    stage.act(Verb.BACK_TO_DOM0, Checkpoint.C7, stage.borrowed.give_back)
    stage.observe(Checkpoint.C7)


def _rebind(stage: Stage) -> None:
    def deed() -> CommandResult:
        off = stage.borrowed.unbind()
        return stage.borrowed.bind() if off.ok else off

    stage.act(Verb.REBIND, Checkpoint.C5, deed)


VERBS: dict[Verb, Callable[[Stage], None]] = {
    Verb.UNLOAD_DRIVER: _unload_driver,
    Verb.KILL_DEVICE_MODEL: _kill_device_model,
    Verb.DECODE_OFF: lambda stage: _decode(stage, Verb.DECODE_OFF, "0:2"),
    Verb.GUEST_CLEARS_ENABLE: _guest_clears_enable,
    Verb.DECODE_ON: lambda stage: _decode(stage, Verb.DECODE_ON, "2:2"),
    Verb.SHUT_DOWN: lambda stage: _end_by_guest(stage, Verb.SHUT_DOWN, "poweroff -f"),
    Verb.POWER_OFF_WITH_MSIX_ON: _power_off_with_msix_on,
    Verb.DESTROY: _destroy,
    Verb.DESTROY_WITH_DECODE_OFF: _destroy_with_decode_off,
    Verb.SAME_GUEST: lambda stage: _next_guest(stage, Verb.SAME_GUEST, "maskall-a"),
    Verb.OTHER_GUEST: lambda stage: _next_guest(stage, Verb.OTHER_GUEST, "maskall-b"),
    Verb.BACK_TO_DOM0: _back_to_dom0,
    Verb.REBIND: _rebind,
}
