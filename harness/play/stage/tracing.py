"""A trace of a whole scenario: what became of its device's interrupts in Xen, and who asked for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.base.deadline import Deadline
from harness.base.errors import HarnessBug
from harness.model.config import ConfigSpace
from harness.play.stage.stage import Stage
from harness.xen.trace.calls import completed, in_full, merged
from harness.xen.trace.linux import parse_kallsyms
from harness.xen.trace.symbols import parse_xensyms
from harness.xen.trace.tracer import Tracer

_SECONDS = 120.0


@contextlib.contextmanager
def traced(stage: Stage) -> Iterator[None]:
    """Everything inside is traced, into the record of the device that the scenario is about.

    Meanwhile whoever wants the host's debugger shares it with the tracer.
    """
    host, debugger = stage.host, stage.host.debugger
    if debugger is None:
        raise HarnessBug("a scenario is traced on a host without a debugger")
    tracer = _tracer(stage)
    try:
        with tracer.tracing(debugger) as shared:
            host.debugger = shared
            yield
    finally:
        host.debugger = debugger
        stage.record.trace = merged(completed(tracer.events))
        stage.record.trace_raw = stage.collector.keep("trace.txt", in_full(stage.record.trace).encode())


def _tracer(stage: Stage) -> Tracer:
    transport, device = stage.host.transport, stage.device.address

    def read(path: str) -> bytes:
        return transport.run(["cat", path], deadline=Deadline.after(_SECONDS)).check().stdout

    with stage.progress.phase("symbols of Xen and of dom0's kernel"):
        xen = parse_xensyms(read("/proc/xen/xensyms").decode(), file="xensyms")
        dom0 = parse_kallsyms(read("/proc/kallsyms").decode(), file="kallsyms")
        capability = ConfigSpace(read(f"/sys/bus/pci/devices/{device}/config")).msix
    offset = capability.offset if capability else None
    return Tracer(xen, dom0, device, offset, lambda: stage.collector.seconds)
