"""A timer on the host that takes a risky step back by itself, should the harness never be heard of again.

Armed before the step, disarmed over a *new* connection after it: a link that was made before proves nothing about a
host whose network driver was just taken away.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, LabError
from harness.model.address import Bdf
from harness.transport.base import Script, Transport, quote
from harness.xen.toolstack.xl import REMOTE_RUN

_ACTION = Path(__file__).with_name("deadman.sh")
_SECONDS = 20.0

# systemd keeps the timer apart from this login; where it does not run, a session of its own has to do. systemd lets
# timers strike up to a minute late, to save power, unless it is told how exact they are (systemd.timer(5)). Each has a
# unit and a file of its own: an old one means nobody.
_ARM = """\
umask 077
mkdir -p {run} && : > {armed} && cat > {run}/deadman.sh || exit 1
set -- /bin/sh {run}/deadman.sh {arguments}
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
  exec systemd-run --quiet --collect --unit={unit} --timer-property=AccuracySec=1s --on-active={seconds} "$@"
fi
command -v setsid >/dev/null || {{ echo "neither systemd-run nor setsid is there" >&2; exit 1; }}
setsid sh -c 'sleep "$0"; exec "$@"' {seconds} "$@" </dev/null >/dev/null 2>&1 &
"""

_DISARM = """\
rm {armed} 2>/dev/null || {{ echo "the dead-man timer has struck" >&2; exit 1; }}
if [ -d /run/systemd/system ]; then systemctl stop {unit}.timer 2>/dev/null; fi
exit 0
"""

_DISARM_ALL = """\
rm -f {run}/deadman.*
if [ -d /run/systemd/system ]; then systemctl stop 'maskall-deadman-*.timer' 2>/dev/null; fi
exit 0
"""


@dataclass(frozen=True)
class DeadMan:
    """The timer of one host. `fresh` makes a second, unconnected transport to the same host."""

    fresh: Callable[[], Transport]
    seconds: int = 60
    may_reboot: bool = False
    run: str = REMOTE_RUN

    @contextlib.contextmanager
    def guarding(self, transport: Transport, device: Bdf, driver: str | None) -> Iterator[None]:
        """Around a step that could cut the host off. LabError when the timer struck meanwhile or cannot be disarmed.

        When the step itself fails the timer is disarmed too if the host still answers: undoing is then ours to do.
        """
        armed = self.arm(transport, device, driver)
        try:
            yield
        finally:
            self.disarm(armed)

    def arm(self, transport: Transport, device: Bdf, driver: str | None) -> str:
        """The file that is there while it is armed: a new one each time, so that an old timer means nobody."""
        armed = f"{self.run}/deadman.{secrets.token_hex(4)}"
        arguments = quote([armed, str(device), driver or "", "1" if self.may_reboot else "0"])
        run = quote([self.run])
        unit = _unit(armed)
        text = _ARM.format(run=run, armed=quote([armed]), arguments=arguments, seconds=self.seconds, unit=unit)
        script = Script(text)
        action = _ACTION.read_bytes()
        transport.run(script, deadline=Deadline.after(_SECONDS), changes=True, stdin=action).check()
        return armed

    def disarm(self, armed: str) -> None:
        """Over a new connection."""
        link = self.fresh()
        try:
            link.connect(Deadline.after(max(1.0, self.seconds - _SECONDS)))
            script = Script(_DISARM.format(armed=quote([armed]), unit=_unit(armed)))
            done = link.run(script, deadline=Deadline.after(_SECONDS), changes=True)
        except HostUnreachable as error:
            raise LabError(
                f"{link.name}: cannot be reached by a new connection after a risky step: {error.message}",
                hint=f"its own timer takes the step back within {self.seconds} s",
            ) from error
        finally:
            link.close()
        if not done.ok:
            raise LabError(f"{link.name}: {done.complaint}", hint="see its kernel log")


def disarm_all(transport: Transport, run: str = REMOTE_RUN) -> None:
    """Whatever a run that died has armed: from now on the undo is ours."""
    script = Script(_DISARM_ALL.format(run=quote([run])))
    transport.run(script, deadline=Deadline.after(_SECONDS), changes=True)


def _unit(armed: str) -> str:
    return f"maskall-deadman-{armed.rpartition('.')[2]}"
