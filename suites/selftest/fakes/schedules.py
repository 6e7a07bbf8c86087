"""Two controllers and one host, step by step in an order that a seed decides: pauses, cuts, kills and take-overs.

The code of a stay is the real one; the host's shells are played here, each program in one step, as their locks make it
(the programs themselves are run for real in the tests of the claim, the fence and the journal). A controller whose
turn does not come is one that is stopped (SIGSTOP); it goes on where it was.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import HostHung, HostUnreachable, MaskallError
from harness.lab.lease import baseline, claim, fence, lease, ledger, leftovers, owners, undo
from harness.lab.lease.baseline import Baseline
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.lease import Lease
from harness.lab.lease.leftovers import Leftovers
from harness.lab.lease.state import HostState
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind
from harness.transport.base import Command, CommandResult, Script, lost_link
from suites.selftest.fakes.patience import soon

NIC = "0000:02:00.0"
CLEAN = Baseline(NIC, "8086 10d3 8086 a01f 0000:00:1c.1/00.0", "e1000e", None, "on", "pm", "", 6, 0, 0, False)
RUN = "/run/maskall"
_RUN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")  # the name of a journal, another one each time


class Killed(BaseException):
    """As SIGKILL: nothing of the controller runs after it but what Python insists on, and that reaches no host."""


@dataclass(frozen=True)
class Played(Script):
    """A program of the lease with what it was given."""

    program: str = ""
    more: Any = None


@dataclass
class PlayedHost:
    """What matters of a host. `violations`: what must never happen and did."""

    boot: int = 1
    uptime: float = 100.0
    files: dict[str, bytes] = field(default_factory=dict)
    device: Baseline = CLEAN
    domains: dict[str, int] = field(default_factory=dict)
    device_of: str = ""  # the domain that has it
    holders: dict[str, str] = field(default_factory=dict)  # token: who
    given_to: str = ""  # once somebody else works there
    ends_in: int = 0  # steps until a domain's end that hangs has ended
    violations: list[str] = field(default_factory=list)

    @property
    def dirty(self) -> bool:
        return self.device != CLEAN or any(name.startswith("maskall-") for name in self.domains)

    def reboot(self) -> None:
        self.given_to = ""  # with the boot their claim has ended
        self.boot, self.uptime, self.files, self.device, self.domains, self.device_of, self.ends_in = (
            self.boot + 1, 1.0, {}, CLEAN, {}, "", 0,
        )  # fmt: skip

    def ours_ends(self) -> None:
        """The guest is gone, and has let go of the device."""
        self.ends_in = 0
        self.domains.pop("maskall-a", None)
        self.device_of = "" if self.device_of == "maskall-a" else self.device_of

    def text(self, name: str) -> str:
        return self.files.get(f"{RUN}/{name}", b"").decode()

    def changing(self, who: str, what: str, *, device: bool = False) -> None:
        """Somebody changes something, the device itself or not."""
        holder = next((name for token, name in self.holders.items() if token in self.text("claim")), "nobody")
        if holder != who:
            self.violations.append(f"{who}: {what}, and the host is {holder}'s")
        if self.given_to:
            self.violations.append(f"{who}: {what}, and the host was given to {self.given_to}")
        if device and self.device_of == "bob":
            self.violations.append(f"{who}: {what}, and bob has the device")


def _closed() -> threading.Lock:
    """A gate: `release` lets one through that waits, or will wait, in `acquire`."""
    gate = threading.Lock()
    gate.acquire()
    return gate


@dataclass
class Schedule:
    """One order of things. `log` says what happened, a line each: what a seed that fails prints."""

    seed: int
    folder: Path
    fenced: bool = True  # a fault to be planted: changes are not checked where they are made
    asks: bool = True  # another: nobody is asked who has the device
    hangs: float = 0.3  # how often the end of a domain does
    host: PlayedHost = field(default_factory=PlayedHost)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311
        self._turns: dict[str, threading.Lock] = {}
        self._back = _closed()
        self._left = 0  # steps until the turn goes back
        self._done: set[str] = set()

    # -- turns -------------------------------------------------------------------------------------------------------

    def step(self, who: str) -> None:
        """One step more; after the last of this turn, wait for the next one."""
        self._left -= 1
        if self.host.ends_in:
            self.host.ends_in -= 1
            if not self.host.ends_in:
                self.log.append("the domain that hung has ended")
                self.host.ours_ends()
        if self._left <= 0:
            self._back.release()
            self._turns[who].acquire()

    def play(self, controllers: dict[str, Callable[[], None]]) -> None:
        """Until all have ended. Each keeps the turn for a random while: one sleeps while the other works."""
        self._turns = {who: _closed() for who in controllers}
        threads = [threading.Thread(target=self._run, args=(who, what)) for who, what in controllers.items()]
        for thread in threads:
            thread.start()
        left = sorted(controllers)
        who, steps = left[0], self.random.randrange(40)
        while left:
            if steps:
                self._left = steps
                self._turns[who].release()
                self._back.acquire()
                if who in self._done:
                    left.remove(who)
            self._meanwhile()
            who, steps = self.random.choice(left or [who]), self.random.choice((1, 1, 2, 3, 5, 8, 13, 40))
        for thread in threads:
            thread.join()

    def _run(self, who: str, what: Callable[[], None]) -> None:
        self._turns[who].acquire()
        try:
            what()
        except Killed:
            self.log.append(f"{who} is dead")
        except (MaskallError, KeyboardInterrupt) as error:
            self.log.append(f"{who} ends: {type(error).__name__}")
        except BaseException as error:
            self.host.violations.append(f"{who}: {type(error).__name__}: {error}")
        finally:
            self._done.add(who)
            self._back.release()

    def _meanwhile(self) -> None:
        """Time goes by; bob takes a device that hangs at pciback; the host reboots."""
        self.host.uptime += self.random.choice((0, 1, 90))
        chance = self.random.random()
        if chance < 0.02:
            self.log.append("the host reboots")
            self.host.reboot()
        elif chance < 0.06 and self.host.device.driver == "pciback" and not self.host.device_of:
            self.log.append("bob's guest gets the device")
            self.host.device_of, self.host.domains["bob"] = "bob", 99

    # -- the host's side ---------------------------------------------------------------------------------------------

    def answer(self, who: str, command: Command, stdin: bytes, token: str = "") -> tuple[int, bytes]:
        """What a program does and says, in one step."""
        host, words = self.host, command if not isinstance(command, Script) else ["script"]
        if isinstance(command, Played):
            return self._program(who, command, stdin)
        match list(words):
            case ["cat", "/proc/sys/kernel/random/boot_id"]:
                return 0, f"boot {host.boot}\n".encode()
            case ["cat", path]:
                return (0, host.files[path]) if path in host.files else (1, b"")
            case ["test", "-e", path]:
                return int(path not in host.files), b""
            case ["test", "!", "-e", path]:
                return int(path in host.files), b""
            case ["xl", "list"]:
                rows = "".join(f"{n:<40} {d:5d} 128 1 -b---- 1.0\n" for n, d in {"Domain-0": 0, **host.domains}.items())
                return 0, f"Name ID Mem VCPUs State Time(s)\n{rows}".encode()
            case ["xl", "destroy", number]:
                host.changing(who, "destroys a domain")
                if number == str(host.domains.get("maskall-a")):
                    host.ours_ends()
            case ["xl", "create"]:
                host.changing(who, "creates a domain")
                if host.device_of or host.device.driver != "pciback":
                    return 3, b"not assignable"  # libxl asks who has it
                host.domains["maskall-a"], host.device_of = 7, "maskall-a"
            case ["xl", "pci-assignable-add", _]:
                host.changing(who, "takes the device")
                if host.device.driver == CLEAN.driver:
                    host.device = Baseline(**{**vars(CLEAN), "driver": "pciback", "pciback_slot": True})
            case ["xl", "pci-assignable-remove", *_]:
                host.changing(who, "gives the device back", device=True)
                host.device, host.device_of = CLEAN, ""
        return 0, b""

    def _program(self, who: str, played: Played, stdin: bytes) -> tuple[int, bytes]:
        host, more = self.host, played.more
        match played.program:
            case "fence":
                command, token, boot = more
                if self.fenced and boot != f"boot {host.boot}":
                    return 97, f"maskall-{token}: rebooted\n".encode()
                if self.fenced and token not in host.text("claim"):
                    return 97, f"maskall-{token}: lost\n".encode()
                return self.answer(who, command, stdin, token)
            case "ask":
                if self.asks and host.device_of == "bob":
                    return 96, b"domain 99 has it\n"
                return self.answer(who, more, stdin)
            case "put":
                host.files[more] = stdin
            case "look" if host.text("claim"):
                digest = str(hash(host.text("claim")))
                journal = "journal" if f"{RUN}/journal.jsonl" in host.files else ""
                return 0, "\n".join(
                    [host.text("claim").strip(), host.text("heartbeat"), f"{host.uptime}", digest, journal]
                ).encode()
            case "take":
                token, old, dead, beat = more
                there = host.text("claim")
                moved = str(hash(there)) != old.strip("'") or (dead != "true" and host.text("heartbeat") != beat)
                if there and token not in there and moved:
                    return 3, b""
                host.holders[token] = who
                host.files |= {f"{RUN}/claim": stdin, f"{RUN}/heartbeat": f"{host.uptime}".encode()}
            case "wait" if host.ends_in:
                return 98, b"xl destroy\n"
            case "release" if more in host.text("claim"):
                if f"{RUN}/journal.jsonl" in host.files:
                    return 5, b""
                if host.dirty:
                    host.violations.append(f"{who}: gives a host free that is not as it was")
                del host.files[f"{RUN}/claim"]
            case "append":
                boot, this, prev = more
                if boot.strip("'") != f"boot {host.boot}":
                    return 8, b""
                lines = host.files.get(f"{RUN}/journal.jsonl", b"")
                last = lines.splitlines()[-1].rpartition(b'"hash":"')[2][:64].decode() if lines else ledger.FIRST
                if last == this:
                    return 0, b""
                if last != prev:
                    return 9, last.encode()
                host.files[f"{RUN}/journal.jsonl"] = lines + stdin
            case "close":
                host.files[f"{RUN}-closed/{more}"] = b""
                host.files.pop(f"{RUN}/journal.jsonl", None)
        return 0, b""


class Link:
    """`Transport` of one controller: each command is a step, before which it may be killed or cut off."""

    def __init__(self, schedule: Schedule, who: str, dies: float, interrupted: float = 0.0) -> None:
        self.schedule, self.who, self._dies, self._interrupted = schedule, who, dies, interrupted
        self.name, self.connected, self.dead = "box", False, False

    def connect(self, deadline: Deadline) -> None:
        self._step("connects")
        self.connected = True

    def close(self) -> None:
        self.connected = False

    def _step(self, what: str) -> None:
        if self.dead:
            raise Killed
        self.schedule.step(self.who)
        self.schedule.log.append(f"{self.who} {what}")
        if self.schedule.random.random() < self._dies:
            self.dead = True
            raise Killed
        if self._interrupted and self.schedule.random.random() < self._interrupted:
            self.schedule.log.append(f"{self.who} is interrupted")
            raise KeyboardInterrupt

    def run(self, command: Command, *, deadline: Deadline, changes: bool = False, stdin: bytes = b"") -> CommandResult:
        what = _named(command)
        self._step(what)
        chance = self.schedule.random.random()
        if not self.connected or chance < 0.01:
            self.connected = False
            raise HostUnreachable("box: link lost, not sent")
        boot = self.schedule.host.boot
        if "xl destroy" in what and chance > 1 - self.schedule.hangs and self._hangs(command):
            self.schedule.host.ends_in = self.schedule.random.choice((1, 20, 200))
            raise HostHung(f"box: {what} did not end in time")
        status, out = self.schedule.answer(self.who, command, stdin)
        if chance < 0.03 or self.schedule.host.boot != boot:
            self.connected = False
            raise lost_link("box", what, "link lost", changes=changes)
        text = out if status in (0, 3, 8, 9) else b""
        return CommandResult(what, text, b"" if text else out, status, None, 0.0, "box")

    def _hangs(self, command: Command) -> bool:
        """Whether the fence lets it begin at all."""
        token = command.more[1] if isinstance(command, Played) else ""
        return token in self.schedule.host.text("claim") and "maskall-a" in self.schedule.host.domains

    def open_stream(self, command: Command, *, deadline: Deadline, changes: bool = False) -> Any:  # noqa: ANN401
        self._step("beats")
        return Beat(self, command.more if isinstance(command, Played) else "")


def _named(command: Command) -> str:
    """For the log: nothing in it differs when the same seed is played again."""
    if isinstance(command, Played):
        inner = {"fence": lambda: command.more[0], "ask": lambda: command.more}.get(command.program)
        return f"{command.program}: {_named(inner())}" if inner else command.program
    return "script" if isinstance(command, Script) else _RUN.sub("RUN", " ".join(command))


class Beat:
    """The heartbeat's stream."""

    def __init__(self, link: Link, token: str) -> None:
        self._link, self._token = link, token
        self.received, self.ended = b"", False

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        host = self._link.schedule.host
        if self._token in host.text("claim"):
            host.files[f"{RUN}/heartbeat"] = f"{host.uptime}".encode()
        else:
            self.received = b"lost\n"

    def close(self) -> None:
        self.ended = True


@contextlib.contextmanager
def played() -> Iterator[None]:
    """The lease speaks with the host of whose link it has."""
    programs = {claim._LOOK: "look", claim._TAKE: "take", claim._RELEASE: "release", claim._BEAT: "beat",
                ledger._APPEND: "append", ledger._CLOSE: "close", fence._WAIT: "wait"}  # fmt: skip

    def script(program: str, run: str, token: str = "", **more: str) -> Played:
        name = programs[program]
        beat = more.get("dead", "").rpartition("= ")[2].removesuffix(" ]").strip("'")
        given = {
            "take": (token, more.get("old", ""), more.get("dead", ""), beat),
            "append": (more.get("boot_id", ""), more.get("this", ""), more.get("prev", "")),
            "close": more.get("name", "").strip("'"),
        }.get(name, token)
        return Played(name, name, given)

    def read(transport: Any, device: Bdf) -> Baseline:  # noqa: ANN401
        transport.run(["read", "device"], deadline=Deadline.after(1))
        return _host(transport).device

    def survey(transport: Any) -> Leftovers:  # noqa: ANN401
        transport.run(["read", "leftovers"], deadline=Deadline.after(1))
        return Leftovers(f"boot {_host(transport).boot}", {})

    def ask(transport: Any, ours: Any) -> owners.Owners:  # noqa: ANN401
        transport.run(["read", "owners"], deadline=Deadline.after(1))
        owner = {"bob": "d99", "maskall-a": "d7"}.get(_host(transport).device_of, "d0")
        return owners.Owners({NIC: owner if transport.link.schedule.asks else "d0"}, frozenset({*ours, 7}))

    with pytest.MonkeyPatch.context() as patch:
        for module in (claim, ledger, fence):
            patch.setattr(module, "script", script)
        fenced = lambda self, command: Played("fence", "fence", (command, self.claim.holder.token, self.boot))  # noqa: E731
        patch.setattr(fence.Fenced, "fenced", fenced)
        put = lambda self, data, path, mode, deadline: self.run(  # noqa: E731
            Played("put", "put", path), deadline=deadline, changes=True, stdin=data
        ).check()
        patch.setattr(fence.Fenced, "put", put)
        patch.setattr(
            fence.Fenced, "get", lambda self, path, deadline: self.run(["cat", path], deadline=deadline).check().stdout
        )
        patch.setattr(owners.Owners, "unless_taken", lambda self, command, device: Played("ask", "ask", command))
        patch.setattr(owners, "ask", ask)
        patch.setattr(baseline, "read", read)
        patch.setattr(leftovers, "survey", survey)
        patch.setattr(undo, "GONE_SECONDS", 0.0)
        patch.setattr(
            claim.Claim, "beating", property(lambda self: self._stream is not None and not self._stream.ended)
        )
        patch.setattr(
            HostState, "of", classmethod(lambda cls, name: cls(name, Path(threading.current_thread().folder)))
        )  # type: ignore[attr-defined]
        patch.setattr(lease, "owner_of", lambda _: threading.current_thread().who)  # type: ignore[attr-defined]
        patch.setattr(HostState, "poison", _nothing_of_the_dead(HostState.poison))
        patch.setattr(threading.Thread, "start", _no_beat(threading.Thread.start))
        yield


def _host(fenced: Any) -> PlayedHost:  # noqa: ANN401
    host: PlayedHost = fenced.link.schedule.host
    return host


def _nothing_of_the_dead(write: Callable[[HostState, str], None]) -> Callable[[HostState, str], None]:
    """What Python runs as a thread ends that was killed is not run where a process was."""

    def written(state: HostState, reason: str) -> None:
        thread: Any = threading.current_thread()
        if thread.link.dead:
            raise Killed
        write(state, reason)

    return written


def _no_beat(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """Who beats by the clock would make a schedule's order depend on it."""
    return lambda thread: None if thread.name.startswith("claim on") else start(thread)


def begun(
    schedule: Schedule,
    who: str,
    place: Path,
    *,
    take_over: bool = False,
    dies: float = 0.0,
    interrupted: float = 0.0,
    notice: Callable[[str], None] = lambda _: None,
) -> Lease:
    """A stay of `who`, whose state lies in `place`."""
    thread: Any = threading.current_thread()
    link = Link(schedule, who, dies, interrupted)
    thread.who, thread.folder, thread.link = who, place, link
    site: Any = SimpleNamespace(
        name="box",
        entry=SimpleNamespace(allow_persistent=False),
        transport=lambda: link,
        host_key_fingerprint="",
        reach=lambda link, _: link.connect(soon()),
    )
    return Lease.begin(site, ClaimOptions(reason="x", take_over="why not" if take_over else None), notice)


def borrowed(stay: Lease) -> None:
    """The device goes to a guest of ours."""
    stay.open_journal("x")
    stay.remember(Bdf.parse(NIC))
    for change, command in (
        (Change(ChangeKind.DRIVER, NIC, "bind", "unbind"), ["xl", "pci-assignable-add", NIC]),
        (Change(ChangeKind.DOMAIN, "maskall-a", "create", "destroy"), ["xl", "create"]),
    ):
        stay.journal.about_to(change)
        stay.transport.run(command, deadline=Deadline.after(1), changes=True).check()


def restored(stay: Lease) -> None:
    stay.put_back(whole=True)
    stay.close_journal()


@dataclass
class Accident:
    """The dice of a controller that is alone. Each command asks them twice: whether the controller dies before it (a
    number below its `dies`), and what the link does (below 0.01 it breaks before, below 0.03 after it)."""

    nth: int = 0  # of these questions is answered with `says`
    says: float = 1.0
    asked: int = 0

    def random(self) -> float:
        self.asked += 1
        return self.says if self.asked == self.nth else 1.0


def alone(accident: Accident, host: PlayedHost | None = None) -> Schedule:
    """One controller, to which nothing happens but that."""
    made = Schedule(0, Path(), host=host or PlayedHost(), hangs=0.0)
    made.random, made.step = accident, lambda _: None  # type: ignore[assignment, method-assign]
    return made


def explore(seed: int, folder: Path, *, fenced: bool = True, asks: bool = True) -> Schedule:
    """One schedule: ada borrows and gives back, eve takes over or restores, then whoever is left. What must not happen
    is in `host.violations`."""
    schedule = Schedule(seed, folder, fenced, asks)
    dice = random.Random(seed)  # noqa: S311
    shared = dice.random() < 0.3
    notices: list[str] = []

    def begin(who: str, take_over: bool, dies: float = 0.0, interrupted: float = 0.0) -> Lease:
        place = folder / ("one" if shared and who != "zoe" else who)
        more = {"take_over": take_over, "dies": dies, "interrupted": interrupted}
        return begun(schedule, who, place, notice=notices.append, **more)  # type: ignore[arg-type]

    def borrow() -> None:
        stay = begin("ada", False, *dice.choice(((0.0, 0.0), (0.0, 0.0), (0.02, 0.0), (0.0, 0.02))))
        try:
            if stay.left_behind:
                restored(stay)
            borrowed(stay)
        finally:
            stay.end()

    def restore(who: str, take_over: bool, tries: int) -> None:
        for attempt in range(tries):
            try:
                stay = begin(who, take_over)
                break
            except MaskallError as error:
                schedule.log.append(f"{who} tries again after {type(error).__name__}")
                if attempt == tries - 1:
                    raise
        try:
            restored(stay)
        except BaseException:
            stay.end()
            raise
        if who == "eve" and dice.random() < 0.5 and not schedule.host.dirty:
            schedule.host.given_to = "eve's friend"
            schedule.log.append("eve gives the host to a friend, with her claim")
            stay.claim.let_go("a friend has it")
            return
        stay.end()

    with played():
        schedule.play({"ada": borrow, "eve": lambda: restore("eve", dice.random() < 0.7, 4)})
        host = schedule.host
        if claim.parse(f"{host.text('claim')}\n") and not _said(host, notices, schedule.log):
            host.violations.append("a claim stays, and nothing says why")
        if host.dirty and not host.given_to:
            quarantined = any((folder / who / "quarantined").exists() for who in ("ada", "eve", "one"))
            if not (host.text("claim") or quarantined):
                host.violations.append("the host is dirty, and neither claimed nor in quarantine")
            if host.device_of != "bob":
                _brought_back(schedule, lambda: restore("zoe", True, 40))
    return schedule


def _said(host: PlayedHost, notices: list[str], log: list[str]) -> bool:
    """Why the claim stays: in it, where it could not be written to whoever was at the keyboard; or he is dead."""
    words = ("in quarantine", "is not undone", "a friend has it")
    told = any("could not be taken away" in line or "cannot say why" in line for line in notices)
    return any(word in host.text("claim") for word in words) or told or any(line.endswith("is dead") for line in log)


def _brought_back(schedule: Schedule, restore: Callable[[], None]) -> None:
    last = Schedule(schedule.seed, schedule.folder, host=schedule.host, log=schedule.log)
    last._meanwhile = lambda: None  # type: ignore[method-assign]
    schedule.step = last.step  # type: ignore[method-assign]
    last.random, schedule.random, schedule.hangs = random.Random(1), _Calm(), 0.0  # type: ignore[assignment]  # noqa: S311
    if schedule.host.ends_in:
        schedule.host.ours_ends()
    last.play({"zoe": restore})
    if schedule.host.dirty:
        schedule.host.violations.append("zoe could not bring it back")


class _Calm:
    """Nothing goes wrong any more."""

    def random(self) -> float:
        return 1.0
