"""What a run is asked for: the table of options, and what they come to together. Imports nothing heavy."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import UsageError
from harness.run.option import Only, joined, option, seconds_of, table_of

if TYPE_CHECKING:
    from harness.base.deadline import Deadline
    from harness.judge.known import KnownIssue
    from harness.lab.inventory.models import HostEntry
    from harness.lab.lease.claim_options import ClaimOptions
    from harness.lab.lease.site import Site
    from harness.mutants.catalogue import Mutant
    from harness.nested.ownparts import OwnParts
    from harness.xen.toolstack.choice import ToolstackName

DEFAULT_PROFILE = "ci"
DEFAULT_TOOLSTACK = "xl"
OUR_INVENTORY = Path(__file__).parents[2] / "inventory" / "nested.yaml"
DEFAULT_CONTROL = "no-maskall-reset"
CONTROL_XEN = "control-xen"
"""What a hypervisor that was given as the control is called in results."""
_MOST_PROCESSORS = 2
_WAITS = 1  # hosts more than processors: one of three waits, mostly for libxl, which gives an eject 10 s to come


@dataclass(frozen=True)
class RunOptions:
    """The table of options, a field for each: what a person may ask of `maskall run`, of pytest, and of other commands.

    A new one is a row here, and the place that goes by it.
    """

    scenario: tuple[str, ...] = option(
        (), "Id or glob, see 'maskall list'; may be repeated (default: the profile's).", "SCENARIO", on="mutants"
    )
    profile: str = option(
        DEFAULT_PROFILE,
        "Which scenarios: smoke, ci, certify, full or mutants.",
        "PROFILE",
        on="run mutants soak",
        ini=True,
    )
    inventory: Path | None = option(
        None,
        "The hosts (default: inventory/nested.yaml).",
        "FILE",
        on="run doctor plan provision unprovision restore certify",
        repeat=True,
        ini=True,
    )
    host: str | None = option(None, "Which host of the inventory.", "NAME", on="run", repeat=True, ini=True)
    stack: str | None = option(
        None,
        "Xen host to build, see 'maskall list' (default: the inventory's).",
        "STACK",
        on="mutants soak bisect",
        only=Only.NESTED,
        why="a lab host's hypervisor is not changed",
        repeat=True,
        ini=True,
    )
    toolstack: str = option(
        DEFAULT_TOOLSTACK,
        "xl or libvirt: who makes and ends the domains.",
        "NAME",
        on="run certify",
        repeat=True,
        ini=True,
    )
    device: tuple[str, ...] = option(
        (),
        "Target device, may be repeated (default: the inventory's).",
        "DEVICE",
        on="run mutants soak plan certify bisect",
        ini=True,
    )
    mutant: str | None = option(
        None,
        f"The known-bad control (default: {DEFAULT_CONTROL}).",
        "NAME",
        on="run",
        repeat=True,
    )
    xen: Path | None = option(
        None,
        "Your own hypervisor, xen.gz, in the place of the stack's; on a lab host for one boot.",
        "FILE",
        on="run",
        repeat=True,
    )
    xen_tools: Path | None = option(
        None,
        "Your own Xen tools, what 'make install-tools DESTDIR=DIR' left, laid over the host.",
        "DIR",
        on="run",
        only=Only.NESTED,
        why="install them there",
        repeat=True,
    )
    dom0_kernel: Path | None = option(
        None,
        "Your own kernel for dom0, a bzImage; its guests get it too.",
        "FILE",
        on="run",
        only=Only.NESTED,
        why="install it there, and boot it",
        repeat=True,
    )
    dom0_modules: Path | None = option(
        None,
        "Its modules, what 'make modules_install INSTALL_MOD_PATH=DIR' left.",
        "DIR",
        on="run",
        only=Only.NESTED,
        why="install them there",
        repeat=True,
    )
    guest_kernel: Path | None = option(
        None,
        "Your own kernel for the guests, a bzImage.",
        "FILE",
        on="run",
        only=Only.NESTED,
        why="its guests have dom0's kernel",
        repeat=True,
    )
    guest_modules: Path | None = option(
        None,
        "Its modules, as for dom0's.",
        "DIR",
        on="run",
        only=Only.NESTED,
        why="its guests have dom0's kernel",
        repeat=True,
    )
    qemu_dm: Path | None = option(
        None,
        "Your own device model, qemu-system-i386, in the place of the stack's.",
        "FILE",
        on="run",
        only=Only.NESTED,
        why="install it there",
        repeat=True,
    )
    control_xen: Path | None = option(
        None,
        "A hypervisor that has the defect, as the control; with --xen: PROVEN says that the change cures it.",
        "FILE",
        on="run",
        only=Only.NESTED,
        why="a lab host's hypervisor is not changed",
        repeat=True,
    )
    no_control: bool = option(False, "No control; with --mutant that one is under test.", on="run", repeat=True)
    fresh_controls: bool = option(
        False,
        "Play every control, also one whose proof is kept from an earlier run.",
        on="run",
        only=Only.NESTED,
        why="no proof is kept there",
    )
    mutants: Path | None = option(
        None, "YAML file with mutants of your own.", "FILE", on="run mutants", repeat=True, ini=True
    )
    known_issues: Path | None = option(
        None, "YAML file with known issues of your own.", "FILE", on="run", repeat=True, ini=True
    )
    results: Path | None = option(
        None, "New directory for the results (default: results/<UTC time>).", "DIR", on="run mutants soak bisect"
    )
    resume: Path | None = option(None, "Go on with the run in this directory, which was interrupted.", "RUN", on="run")
    failed: Path | None = option(None, "Play again what was not as expected in this run.", "RUN", on="run")
    challenge: str | None = option(
        None,
        "What a verifier gave you: guests answer it, so that the run was played after it was given.",
        "N",
        on="run certify",
        repeat=True,
    )
    shard: str | None = option(None, "Only this part of the scenarios, as 2/3; slowest first.", "I/N", on="run")
    history: Path | None = option(
        None, "Add the run to this SQLite file, see 'maskall history'.", "FILE", on="run", ini=True
    )
    keep: bool = option(
        False, "Leave host and guests running.", on="run", only=Only.NESTED, why="a lab host is always given back"
    )
    trace: bool = option(
        False,
        "Say who maps, binds, unbinds, unmaps and masks, by breakpoints in Xen.",
        on="run",
        only=Only.NESTED,
        why="a lab host has no debugger to stop its hypervisor with",
    )
    repeat: int = option(
        0,
        "How often each row is played (default: as the profile says; certify: 3 times what takes the hazard).",
        "N",
        on="run certify",
        least=1,
        most=20,
    )
    for_: str = option(
        "", "Begin nothing after this time: 2h, 90m. What had begun is played whole.", "TIME", on="run soak"
    )
    # Xen's console ring keeps 1 MiB, and a round adds some 15 KiB to what must be read in one piece at the end
    rounds: int = option(0, "Of F7, how many (default: 20).", "N", on="run", least=3, most=60, repeat=True)
    workers: int = option(
        0,
        f"Hosts at a time (default: one a processor, at most {_MOST_PROCESSORS}, and one more if memory allows).",
        "N",
        on="run mutants soak bisect",
        least=1,
        most=16,
        only=Only.NESTED,
        why="a lab host plays one scenario at a time",
        ini=True,
    )
    cold: bool = option(
        False, "Every scenario from its beginning, on no host frozen with guest A running.", on="run", repeat=True
    )
    accept: tuple[str, ...] = option(
        (),
        "Accept one refusal that can be accepted, with the reason; may be repeated.",
        "CHECK=REASON",
        on="run doctor plan certify",
        only=Only.LAB,
        repeat=True,
    )
    wait: int = option(
        0,
        "Seconds to wait for a host that somebody else uses.",
        "SECONDS",
        on="run provision unprovision restore certify",
        least=0,
        only=Only.LAB,
    )
    take_over: str | None = option(
        None,
        "Take a host from whoever claims it; the reason is recorded.",
        "REASON",
        on="run provision unprovision restore certify",
        only=Only.LAB,
    )
    mirror: str | None = option(
        None,
        "Debian mirror to build from: 'URI' or 'URI SECURITY-URI'.",
        "URIS",
        on="run mutants soak bisect nested practice",
        only=Only.NESTED,
        why="a lab host is not built",
        ini=True,
    )
    yes: bool = option(
        False,
        "Not root: install missing packages through sudo.",
        on="run mutants soak bisect nested practice",
        short="-y",
        ini=True,
    )

    @property
    def control(self) -> str | None:
        """The mutant the scenarios are held against."""
        if self.no_control:
            return None
        if self._entry.kind == "lab" and not self._entry.allow_livepatch:
            return None
        return CONTROL_XEN if self.control_xen else self.mutant or DEFAULT_CONTROL

    @property
    def hosts_at_a_time(self) -> int:
        """An emulated host keeps a processor busy but where it waits, and needs its memory; see docs/performance.md."""
        if self.in_lab:
            return 1
        from harness.nested.accelerator import room_for

        busy = min(_MOST_PROCESSORS, os.cpu_count() or 1)
        return self.workers or busy + (_WAITS if room_for(busy + _WAITS) else 0)

    @cached_property
    def last_begin(self) -> Deadline | None:
        """When nothing more is begun: --for after the first question; None: whenever its turn comes. UsageError."""
        from harness.base.deadline import Deadline

        return Deadline.after(seconds_of(self.for_)) if self.for_ else None

    @property
    def left_out(self) -> str:
        """Why something is left out that had not begun by then."""
        return f"left out: the time of --for {self.for_} was over before it began"

    @property
    def under_test(self) -> str | None:
        """The mutant that takes the place of the stock hypervisor."""
        return self.mutant if self.no_control else None

    @property
    def goes_on(self) -> bool:
        """Whether it stands for more than it says, as --resume and --failed do: see `settled` (resume.py)."""
        return self.resume is not None or self.failed is not None

    @classmethod
    def of_words(cls, text: str) -> RunOptions:
        """What `repeat_options` wrote. UsageError for a word that is none of this maskall's."""
        rows, words, values = {row.flag: row for row in TABLE}, iter(shlex.split(text)), dict[str, list[Any]]()
        for word in words:
            if word not in rows:
                raise UsageError(f"there is no option {word}", hint="the maskall that wrote it is another")
            row = rows[word]
            values.setdefault(row.name, []).append(True if row.is_switch else row.read(next(words, "")))
        named = {row.name: row for row in rows.values()}
        given = {name: many if named[name].several else many[-1] for name, many in values.items()}
        return cls(**{name: named[name].stored(value) for name, value in given.items()})

    @cached_property
    def _entry(self) -> HostEntry:
        from harness.lab.inventory.models import NestedEntry, load_inventory

        if self.inventory is None and not OUR_INVENTORY.exists():  # installed without a checkout
            return NestedEntry(kind="nested", devices=())
        return load_inventory(self._inventory).host(self.host)

    @property
    def _inventory(self) -> Path:
        return self.inventory or OUR_INVENTORY

    @property
    def site(self) -> Site:
        from harness.lab.lease.site import Site

        return Site.find(self._inventory, self.host)

    @property
    def in_lab(self) -> bool:
        """A machine on a bench, not one that the harness makes."""
        return self._entry.kind == "lab"

    @property
    def stack_name(self) -> str:
        """What was asked for, else the inventory's, else the usual one. Whether there is such a stack is not asked."""
        from harness.host.stacks import stack

        return self.stack or (self._entry.stack if self._entry.kind == "nested" else stack().name)

    @property
    def device_names(self) -> list[str]:
        """What was asked for, else the inventory's; each once."""
        return list(dict.fromkeys(self.device or self._entry.devices))

    @property
    def known_devices(self) -> list[str]:
        """All that the host can lend."""
        if self.in_lab:
            return list(self._entry.devices)
        from harness.nested.devices import catalogue

        return list(catalogue())

    @property
    def libvirt(self) -> bool:
        from harness.xen.toolstack.choice import ToolstackName

        return self.toolstack_name() is ToolstackName.LIBVIRT

    def toolstack_name(self) -> ToolstackName:
        """UsageError for a toolstack that there is not."""
        from harness.xen.toolstack.choice import ToolstackName

        return ToolstackName.of(self.toolstack)

    def own_parts(self, xen: Path | None = None) -> OwnParts:
        """What a developer gave to be put in the place of the stack's own; `xen` instead of --xen. UsageError."""
        from harness.nested.ownkernel import OwnKernel
        from harness.nested.ownparts import OwnParts, OwnXen
        from harness.nested.owntools import OwnTools
        from harness.nested.program import Program

        for kernel, modules in (("dom0_kernel", "dom0_modules"), ("guest_kernel", "guest_modules")):
            if getattr(self, modules) and not getattr(self, kernel):
                flags = [f"--{one.replace('_', '-')}" for one in (modules, kernel)]
                raise UsageError(
                    f"{flags[0]} without {flags[1]}", hint=f"give the kernel they belong to with {flags[1]}"
                )
        xen = xen or self.xen
        return OwnParts(
            OwnXen.read(xen) if xen else None,
            Program.read(self.qemu_dm) if self.qemu_dm else None,
            OwnTools.read(self.xen_tools) if self.xen_tools else None,
            OwnKernel.of_dom0(self.dom0_kernel, self.dom0_modules) if self.dom0_kernel else None,
            OwnKernel.of_guest(self.guest_kernel, self.guest_modules) if self.guest_kernel else None,
        )

    def known_mutants(self) -> dict[str, Mutant]:
        """Ours and the user's, once the one asked for is among them and theirs name endings that there are."""
        from harness.base.yamlfile import nearest
        from harness.mutants.catalogue import catalogue, pick

        known = catalogue(self.mutants)
        pick(self.mutant or DEFAULT_CONTROL, known)
        if self.mutants is None:
            return known
        from harness.play.catalogue import catalogue as scenarios

        endings = scenarios().endings
        for name, mutant in known.items():
            for ending in mutant.notices:
                if ending not in endings:
                    raise UsageError(
                        f"{self.mutants}: mutant {name}: there is no ending {ending!r}", hint=nearest(ending, endings)
                    )
        return known

    def issues(self) -> dict[str, KnownIssue]:
        """Ours and the user's."""
        from harness.judge.known import known_issues

        return known_issues(self.known_issues)

    def results_directory(self, *, make: bool = True) -> Path:
        """A new directory, made unless somebody else shall do it. Raises UsageError."""
        if self.resume is not None:
            return self.resume.absolute()
        named = self.results
        first = named or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        for number in range(1, 100):
            folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
            if not make and (named is not None or not folder.exists()):
                return folder.absolute()
            try:
                folder.mkdir(parents=True, exist_ok=named is not None)
                if named is not None and next(folder.iterdir(), None) is not None:
                    hint = "evidence is never written over: give --results a new directory, or an empty one"
                    raise UsageError(f"{folder} holds something already", hint=hint)
            except FileExistsError:
                if named is not None:
                    raise UsageError(f"{folder} is no directory", hint="give --results a directory") from None
                continue  # another run began in the same second
            except OSError as error:
                hint = "give --results a directory you can write to"
                raise UsageError(f"cannot make {folder}: {error.strerror}", hint=hint) from error
            return folder.absolute()
        raise UsageError(f"{first} and a hundred others exist", hint="give --results a directory")

    @cached_property
    def strict_messages(self) -> bool:
        """Whether a line of Xen or dom0 that no rule describes fails the side under test, as the profile says.

        Also when scenarios were named and it does not choose them.
        """
        from harness.play.catalogue import catalogue

        return catalogue().profile(self.profile).strict_messages

    @property
    def repeat_options(self) -> str:
        """What `maskall run` needs besides the scenario's name to do the same again; empty or with a leading blank."""
        rows = [row for row in TABLE if row.repeat or (row.name == "profile" and self.strict_messages)]
        words = joined((row, getattr(self, row.name)) for row in rows)
        return f" {shlex.join(words)}" if words else ""

    @property
    def accepted(self) -> dict[str, str]:
        """Checks whose refusal is accepted, with the reason. UsageError for one without a reason."""
        from harness.lab.lease.claim_options import accepted

        return accepted(self.accept)

    def wishes(self, reason: str) -> ClaimOptions:
        """What is asked of a lab host. UsageError for an acceptance without a reason."""
        from harness.lab.lease.claim_options import ClaimOptions

        return ClaimOptions(reason, self.accepted, self.wait, self.take_over)


TABLE = table_of(RunOptions)
