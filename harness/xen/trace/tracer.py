"""Drives a host's debugger to see what becomes of a device's interrupts: the thin edge of harness.xen.trace.calls."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.model.address import Bdf
from harness.model.trace import Dom0Call, Event
from harness.transport.debugger import Debugger, Registers, StoppedMachine
from harness.transport.shared_debugger import SharedDebugger
from harness.xen.trace.calls import attribute
from harness.xen.trace.frames import Linker, Read, words_of
from harness.xen.trace.linux import Dom0
from harness.xen.trace.structures import STACK_SIZE, Structures
from harness.xen.trace.symbols import SymbolTable
from harness.xen.trace.tracepoints import StopContext, Tracepoint, placed, request


@dataclass
class Tracer:
    """What it takes to make events of stops; they grow while `tracing` lasts, oldest first."""

    xen: SymbolTable
    dom0: SymbolTable
    device: Bdf
    msix_offset: int | None
    clock: Callable[[], float] = time.monotonic  # of the seconds that events carry
    events: list[Event] = field(default_factory=list)

    @contextlib.contextmanager
    def tracing(self, debugger: Debugger) -> Iterator[SharedDebugger]:
        """Trace until the end; meanwhile the one that is given is the host's debugger."""
        points = placed(self.xen)
        eyes: list[_Eyes] = []  # what they learned lasts for the session

        def serve(machine: StoppedMachine, at: Registers) -> None:
            if not eyes:
                eyes.append(_Eyes.of(machine, self))
            seconds = self.clock()
            event = eyes[0].event(seconds, *points[at.rip], at)
            if event is not None:
                self.events.append(event)

        with SharedDebugger(debugger, points, serve) as shared:
            yield shared


@dataclass(frozen=True)
class _Eyes:
    """Everything that is read of a machine while it stands at a tracepoint."""

    read: Read
    context: StopContext
    linker: Linker
    dom0: Dom0

    @classmethod
    def of(cls, machine: StoppedMachine, tracer: Tracer) -> _Eyes:
        context = StopContext(Structures(tracer.xen, machine.read), tracer.device, tracer.msix_offset)
        return cls(machine.read, context, Linker(tracer.xen, machine.read), Dom0(tracer.dom0, machine.read))

    def event(self, seconds: float, function: str, point: Tracepoint, at: Registers) -> Event | None:
        """None when it is about another device."""
        seen = point.decode(self.context, at.arguments)
        if seen is None or seen.ours is False:
            return None
        xen = self.context.xen
        chain = self.linker.chain(at.rip, words_of(self.read(at.rsp, STACK_SIZE - at.rsp % STACK_SIZE)))
        entered = xen.entered(at.rsp)
        running = None if entered is None else xen.domid_of_vcpu(entered.vcpu)
        dom0 = None
        if entered is not None and running == 0:
            process = self.dom0.process((at.gs_base, at.k_gs_base))
            dom0 = Dom0Call(process, self.dom0.chain(entered.rip, entered.rsp))
        asked = "" if entered is None else request(entered, xen)
        caller = attribute(chain, running, asked, dom0)
        return Event(
            seconds, seen.what, function, caller, chain, dom0, seen.domid, seen.pirq, seen.irq, seen.entry, seen.detail
        )
