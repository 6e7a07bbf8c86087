"""An example run with one scenario per conclusion, built from the dataclasses as a real run is.

Its stored form is data/report/results.json, which the report tests read; after a change of the models write it again
with `store.dump(build(scenarios()), ...)` and read the difference.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from harness.judge.forecast import Forecast
from harness.judge.judgement import Check, Hazard, Judgement, Outcome, Verdict
from harness.judge.known import KnownIssue
from harness.model.address import Bdf
from harness.model.config import CommandRegister, MsixControl
from harness.model.guestspec import GuestType
from harness.model.message import Meaning, Message, Origin
from harness.model.observation import (
    Checkpoint,
    GuestView,
    HardwareView,
    Observation,
    RawRef,
    TableView,
    VectorMask,
    XenView,
)
from harness.model.trace import Actor, Caller, Dom0Call, Event, Frame
from harness.mutants.code import CodePlace, Replaced
from harness.report.results import NESTED_LABEL, Attempt, Control, HostSummary, RunResult, ScenarioResult, Side
from harness.scenario.record import Record
from harness.scenario.spec import ControlRole, Ending, FollowOn, Scenario
from suites.selftest.fakes.logline import by_rule

NVME = Bdf.parse("0000:04:00.0")


PLAYED = Scenario(  # of no catalogue, so that a change of that changes nothing here
    "E14",
    "F1",
    GuestType.HVM,
    "nvme",
    Ending(title="an ending", why="a sample", hazard=True),
    FollowOn(title="the same guest again", steps=()),
)


def raw(name: str, line: int = 0) -> RawRef:
    return RawRef(f"raw/{name}.txt", f"{len(name):02x}" * 32, line)


def said(name: str, text: str, line: int, lines: int = 1, *, expected: bool = False) -> Message:
    return by_rule(name, Checkpoint.C3, raw("xl-dmesg", line), text, lines=lines, expected=expected)


SAID = (
    said("maskall-set", "cannot mask IRQ 45: masking MSI-X on Dom32753's 0000:04:00.0", 311, expected=True),
    said("key-M", "MSI information:", 312, 19),
    said("pirq-already-unmapped", "xen:events: domain 3 does not have 54 anymore", 2),
    said("pirq-already-unmapped", "xen:events: domain 3 does not have 53 anymore", 3),
)
UNKNOWN = Message(Checkpoint.C6, Origin.DOM0, Meaning.UNKNOWN, "a line \x1b[31mof 17 words", raw("dmesg", 9))


def observe(checkpoint: Checkpoint, seconds: float, command: int, control: int, *, delta: int | None) -> Observation:
    """One checkpoint; the guest is absent where `delta` is None, and its vector is masked where `delta` is 0."""
    up = delta is not None
    name = checkpoint.value.lower()
    return Observation(
        checkpoint,
        NVME,
        seconds,
        HardwareView(False, CommandRegister(command), MsixControl(control), "pciback", raw(f"{name}-lspci", 1)),
        TableView((not up or not delta, True, True, False), raw(f"{name}-table")) if up else None,
        XenView(
            "d3" if up else "DomIO",
            (44, 45) if up else (),
            (VectorMask(44, False, not delta, None, 61),) if up else (),
            (41,) if checkpoint is Checkpoint.C6 else (),
            raw(f"{name}-keys"),
            owner_line=17,
        ),
        GuestView("b", None, MsixControl(control), 2, 100, 100 + (delta or 0), bool(delta), "nvme", raw(f"{name}-b"))
        if up
        else None,
    )


def judge(verdict: Verdict, reason: str, *, taken: bool, promised: bool = True, seen: int = 12) -> Judgement:
    how = "(XEN) cannot mask IRQ 45: masking MSI-X on Dom32753's 0000:04:00.0" if taken else ""
    outcome, table = (Outcome.MET, Outcome.MET) if seen > 0 else (Outcome.VIOLATED, Outcome.MISSING)
    return Judgement(
        verdict,
        reason,
        Hazard(promised, taken, how, raw("xl-dmesg", 311) if taken else None),
        (
            Check(Checkpoint.C5, "toolstack", "create", "returns 0", "0", Outcome.MET, raw("c5-create", 1)),
            Check(Checkpoint.C6, "guest", "interrupts", "more than 0", str(seen), outcome, raw("c6-b", 7)),
            Check(Checkpoint.C6, "table", "vector 0", "unmasked", "unmasked" if seen else "", table),
        ),
    )


def side(
    name: str,
    judgement: Judgement,
    hypervisor: str = "stock",
    attempts: tuple[Attempt, ...] = (),
    **more: Any,  # noqa: ANN401 - any field of a record
) -> Side:
    read = judgement.verdict not in (Verdict.ERROR, Verdict.SKIP)
    delta = 12 if judgement.verdict is Verdict.PASS else 0
    record = Record(
        PLAYED,
        reset_effective=True,
        observations=[
            observe(Checkpoint.C2, 21.34, 0x0406, 0x8040, delta=12),
            observe(Checkpoint.C4, 28.0, 0x0402, 0x4040, delta=None),
            observe(Checkpoint.C6, 49.9, 0x0406, 0x8040 if delta else 0xC040, delta=delta),
        ],
        messages=[*SAID, *([] if hypervisor == "stock" else [UNKNOWN])] if read else None,
        **more,
    )
    return Side(
        hypervisor=hypervisor,
        judgement=judgement,
        record=record,
        phases={"restore": 0.912, "create": 3.2},
        attempts=attempts,
        raw_directory=f"raw/{name}",
        log=f"{name}.log",
    )


def known(name: str, **where: object) -> Forecast:
    """What is expected where this issue shows: guest B gets no interrupts."""
    issue = {
        "title": "guest B gets no interrupts",
        "scenarios": ["*"],
        "violated": [{"at": "C6", "view": "guest", "subject": "interrupts"}],
        "also": [{"at": "C6", "view": "table", "subject": "vector *"}],
        **where,
    }
    because = (
        f"known issue {name}, docs/findings/{name}.md" if "document" in where else "fix 913751d7af is not in Xen 4.14.6"
    )
    return Forecast(because, ((name, KnownIssue.model_validate(issue)),))


def scenario(
    id: str, kind: str, stock: Side, control: Side | None, role: ControlRole, forecast: Forecast | None = None
) -> ScenarioResult:
    ending, _, follow_on = id.rpartition("-")
    return ScenarioResult.of(
        forecast or Forecast(),
        stock,
        control,
        role,
        id=id,
        title=f"{ending}, then {follow_on}",
        ending=ending,
        follow_on=follow_on,
        guest="hvm",
        device=str(NVME),
        device_kind=kind,
        seconds=52.4,
        command_to_repeat=f"./tools/maskall run {id} --device {kind}",
    )


def scenarios() -> list[ScenarioResult]:
    good = judge(Verdict.PASS, "every expectation was met", taken=True)
    bad = judge(Verdict.FAIL, "guest B gets no interrupts", taken=True, seen=0)
    calm = judge(Verdict.PASS, "every expectation was met", taken=False, promised=False)
    lost = judge(Verdict.ERROR, "the host \x1b[31mhung\r", taken=False)
    absent = Judgement(Verdict.SKIP, "QEMU 7.2 has no igb", Hazard(True, False))
    chain = (
        Frame(-1, 0xFFFF82D0402D77F0, "msi_set_mask_bit.cold", 0),
        Frame(2, 0xFFFF82D0402B1234, "pci_release_devices", 0x1C4),
        Frame(5, 0xFFFF82D040205A41, "domain_kill", 0xA1),
    )
    fault = Attempt(reason="triple fault inside the hypervisor's text", seconds=31.5, raw=raw("e14-f1-attempt-1", 88))
    mutant = "no-maskall-reset"
    zombie = known("zombie-keeps-irqs", document="docs/findings/zombie-keeps-irqs.md", xen=["4.20"])
    unfixed = known("maskall-at-boot", fix="913751d7af")
    kill = Caller(Actor.XEN, "domain_kill", "for toolstack (xl, domctl destroydomain)")
    inner = (Frame(-1, 0xFFFF82D0403130C0, "unmap_domain_pirq", 0), Frame(0, 0xFFFF82D040313511, "domain_kill", 0x91))
    xl = Dom0Call("xl", (Frame(-1, 0xFFFFFFFF81D0E069, "xen_hypercall_pv", 9),))
    trace = [
        Event(27.31, "unbind", "__pirq_guest_unbind", kill, inner, xl, 3, 55, 44, 0),
        Event(27.32, "mask", "msi_set_mask_bit", kill, inner, xl, 3, 55, 44, 0, "host 1 guest 1", times=2),
        Event(27.33, "unbind", "__pirq_guest_unbind", kill, inner, xl, 3, 54, 45, 1),
    ]
    traced = side(
        "replay/stock", good, call_chain=chain, call_chain_raw=raw("chain", 3), trace=trace, trace_raw=raw("trace")
    )
    traced_control = side("replay/control", bad, mutant, call_chain=chain)
    return [
        scenario("E14-F1", "nvme", side("e14-f1/stock", good, attempts=(fault,)), side("e14-f1/control", bad, mutant),
                 ControlRole.NOTICES),
        scenario("decode-off-at-teardown-F1", "virtio-rng", traced, traced_control, ControlRole.NOTICES),
        scenario("E1-F2", "nvme", side("e1-f2/stock", calm), None, ControlRole.NONE),
        scenario("E14-F2", "nvme", side("e14-f2/stock", good), side("e14-f2/control", good, mutant),
                 ControlRole.NOTICES),
        scenario("E3-F1", "e1000e", side("e3-f1/stock", bad), None, ControlRole.NOTICES),
        scenario("E14-F8", "nvme", side("e14-f8/stock", good), side("e14-f8/control", lost, mutant),
                 ControlRole.CURES),
        scenario("E21-F1", "igb", side("e21-f1/stock", absent), None, ControlRole.NONE),
        scenario("E5-F1", "nvme", side("e5-f1/stock", bad), None, ControlRole.NONE, zombie),
        scenario("E17-F1", "nvme", side("e17-f1/stock", good), None, ControlRole.NONE, unfixed),
    ]  # fmt: skip


def build(several: list[ScenarioResult], **more: Any) -> RunResult:  # noqa: ANN401 - as RunResult.of
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return RunResult.of(
        several,
        tool_version="0.1.0",
        run_id="20260102-030405-abcd",
        started=started,
        ended=started + timedelta(seconds=370),
        host=HostSummary(
            name="nested-trixie",
            nested=True,
            label=NESTED_LABEL,
            facts={
                "xen_version": "4.20.4-pre (Debian 4.20.2+37-g61ff35323e-0+deb13u1)",
                "kernel": "6.12.57+deb13-amd64",
                "qemu": "7.2.19",
                "accelerator": "tcg",
                "stack": "trixie",
            },
            packages={"xen-hypervisor-4.20-amd64": "4.20.2+37-g61ff35323e-0+deb13u1"},
        ),
        controls=[
            Control(
                name="no-maskall-reset",
                layer="hypervisor",
                stands_for="fix 575e18d54d19 is missing",
                changes=(
                    Replaced(
                        CodePlace("pci_reset_msix_state", 0, 0xFFFF82D0402D8C10),
                        bytes.fromhex("f3 0f 1e"),
                        bytes.fromhex("31 c0 c3"),
                    ),
                ),
            )
        ],
        overhead_seconds=11.1,
        **more,
    )
