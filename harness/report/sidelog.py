"""The log of one side of a scenario as text. Pure."""

from __future__ import annotations

from harness.base.text import inert
from harness.report import messages
from harness.report.results import Side
from harness.report.rounds import history
from harness.report.story import story
from harness.report.timeline import timeline


def side_log(side: Side) -> str:
    """The log of one side: verdict, timeline, every check, what Xen and dom0 said, the trace if any, every phase."""
    checks = "".join(
        inert(
            f"{check.outcome:9} {check.checkpoint} {check.view:9} {check.subject}: expected {check.expected}, "
            f"seen {check.seen}"
        )
        + "\n"
        for check in side.judgement.checks
    )
    record = side.record
    opened = f"C0 to C2 were played at {record.opened:%F %T %Z}, before the host was frozen\n" if record.opened else ""
    phases = "".join(f"{seconds:8.2f} s  {name}\n" for name, seconds in side.phases.items())
    said = "\n".join(messages.of_side(record.messages))
    seen = (timeline(record.observations), history(side), checks, said, story(record.trace), phases)
    parts = (inert(f"{side.hypervisor}: {side.verdict}: {side.reason}"), opened, *seen)
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"
