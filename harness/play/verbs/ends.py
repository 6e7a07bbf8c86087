"""The ways guest A's domain ends."""

from __future__ import annotations

from harness.base.deadline import poll
from harness.base.errors import HarnessBug
from harness.model.checkpoint import Checkpoint
from harness.play.stage.stage import Stage, outcome
from harness.scenario.spec import Fate, Verb
from harness.xen.keys.xl_output import parse_list
from harness.xen.trace.callchain import decode_off_at_teardown, ecam_base
from harness.xen.trace.symbols import parse_xensyms

_CRASH_SECONDS = 30.0
_CRASH = "echo c > /proc/sysrq-trigger"


def by_guest(stage: Stage, verb: Verb, command: str) -> None:
    """The guest ends itself; a domain that the toolstack starts again is awaited by the follow-on."""
    guest = stage.guest
    with stage.acting(verb, Checkpoint.C4) as note:
        if guest.agent is None:
            note(False, "the guest has no agent", b"")
            return
        guest.agent.post(f". /actions; {command}", stage.deadline())
        if stage.scenario.end.fate is Fate.RESTARTED:
            note(True, "sent", b"")
        else:
            stage.await_gone(guest, note)


def crash_and_stay(stage: Stage) -> None:
    """The guest's kernel panics; the domain must stay, in the state `c` of xl list."""
    guest = stage.guest
    with stage.acting(Verb.CRASH_AND_STAY, Checkpoint.C3) as note:
        if guest.agent is None:
            note(False, "the guest has no agent", b"")
            return
        guest.agent.post(_CRASH, stage.deadline())

        def crashed() -> bytes | None:
            output = stage.host.transport.run(["xl", "list"], deadline=stage.deadline()).check().stdout
            rows = parse_list(output.decode("utf-8", "replace"), file="xl list")
            return output if any(row.domid == guest.domid and row.crashed for row in rows) else None

        seen = poll(crashed, stage.deadline(_CRASH_SECONDS), every=0.3)
        note(seen is not None, "crashed" if seen else "not crashed", seen or b"")


def destroy(stage: Stage) -> None:
    """By the toolstack, and see it gone."""
    _destroy(stage, Verb.DESTROY, Checkpoint.C4, 0)


def destroy_former(stage: Stage) -> None:
    """What is left of guest A, under guest B."""
    _destroy(stage, Verb.DESTROY_FORMER, Checkpoint.C8, 0)


def _destroy(stage: Stage, verb: Verb, at: Checkpoint, place: int) -> None:
    guest = stage.guests[place]
    with stage.acting(verb, at) as note:
        result = stage.toolstack.destroy(guest.domid, stage.deadline())
        if not result.ok:
            note(False, outcome(result), result.stdout + result.stderr)
            return
        stage.await_gone(guest, note)


def destroy_to_zombie(stage: Stage) -> None:
    """The device model does not run, so the domain stays; the toolstack must come back all the same."""
    with stage.acting(Verb.DESTROY_TO_ZOMBIE, Checkpoint.C4) as note:
        result = stage.toolstack.destroy(stage.guest.domid, stage.deadline())
        note(result.ok, outcome(result), result.stdout + result.stderr)


def destroy_with_decode_off(stage: Stage) -> None:
    """At a breakpoint in the teardown memory decoding goes off; where MASKALL is set then is the call chain."""
    debugger = stage.host.debugger
    if debugger is None:
        raise HarnessBug("this ending needs a debugger and should have been skipped")
    transport, guest = stage.host.transport, stage.guest
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
            begin=lambda: running.append(stage.toolstack.start_destroy(guest.domid, stage.deadline())),
            deadline=stage.deadline(60),
        )
        chain = "".join(f"{frame.address:#x} {frame}\n" for frame in seen.chain)
        text = f"COMMAND {seen.command_before:#06x} -> {seen.command_after:#06x} in the teardown\n{chain}"
        stage.record.call_chain = seen.chain
        stage.record.call_chain_raw = stage.keep("call_chain.txt", text.encode())
        stage.await_gone(guest, note)
        running[0].close()
