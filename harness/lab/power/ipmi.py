"""Power by a management controller that speaks IPMI 2.0, through ipmitool(1)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, PowerFailed, UsageError
from harness.base.process import Completed, find, run
from harness.base.secret import Secret, SecretReference, resolve
from harness.base.text import inert
from harness.base.words import Address, Port, Word, bounded
from harness.lab.power.base import Power, PowerEntry, PowerState, Switch

_ORDERS = {PowerState.ON: "on", PowerState.OFF: "off"}
_ANSWERS = {"Chassis Power is on": PowerState.ON, "Chassis Power is off": PowerState.OFF}
_ONCE = 15.0  # seconds for one call

# ipmitool sends a datagram again whose answer is late, and a controller that was slow resets the machine once more.
# So an order is sent once, and what became of it is read back.
_SEND_ONCE = ("-R", "1", "-N", "5")


class IpmiPower(PowerEntry):
    """A management controller that speaks IPMI 2.0 over lan (ipmitool -I lanplus)."""

    kind: Literal["ipmi"]
    address: Address = Field(description="Of the controller, not of the host.")
    port: Port = Field(623, description="UDP port of the controller.")
    user: Word = Field(description="Needs the privilege OPERATOR, no more.")
    password: SecretReference = Field(description="Where the password is found, never itself.")
    cipher_suite: int = bounded(17, 1, 17, "ipmitool's -C. 17 is HMAC-SHA256 and AES; 3 for old controllers.")

    asks: ClassVar[frozenset[str]] = frozenset({"user", "password", "cipher_suite"})

    def control(self, host: str, base: Path) -> Power:
        return Ipmi(host, self, resolve(self.password))


def ipmitool(entry: IpmiPower, *options: str) -> list[str]:
    """The beginning of an ipmitool command line for this controller; `password_line` goes to its standard input.

    It asks for the password (`-a`), and getpass(3) reads standard input where there is no terminal: an argument would
    be in the process list, a variable (`-E`) in an environment, and a file (`-f`, which must be one with a name) stays
    when we are killed.
    """
    return [
        *(find("ipmitool"), "-I", "lanplus", "-H", entry.address, "-p", str(entry.port), "-U", entry.user),
        *("-a", "-C", str(entry.cipher_suite), "-L", "OPERATOR", *options),
    ]


def password_line(password: Secret) -> bytes:
    """What ipmitool is told when it asks."""
    return f"{password.reveal()}\n".encode()


class Ipmi(Switch):
    """`Power` by IPMI."""

    def __init__(self, host: str, entry: IpmiPower, password: Secret) -> None:
        self._host = host
        self._entry = entry
        self._password = password

    @property
    def name(self) -> str:
        return f"{self._host} (ipmi {self._entry.address})"

    def state(self, deadline: Deadline) -> PowerState:
        return _ANSWERS.get(self._ask("status", deadline).stdout.strip(), PowerState.UNKNOWN)

    def reset(self, deadline: Deadline) -> None:
        self._ask("reset", deadline)

    def _order(self, wanted: PowerState, deadline: Deadline) -> None:
        self._ask(_ORDERS[wanted], deadline)

    def _ask(self, verb: str, deadline: Deadline) -> Completed:
        """`ipmitool chassis power VERB`."""
        try:
            argv = [*ipmitool(self._entry, *([] if verb == "status" else _SEND_ONCE)), "chassis", "power", verb]
            done = run(argv, deadline=deadline.sooner(_ONCE), check=False, stdin=password_line(self._password))
        except (CommandFailed, UsageError) as error:
            told = "did not answer in time" if isinstance(error, CommandFailed) else error.message
            raise PowerFailed(f"{self.name}: power {verb}: {told}", hint=error.hint) from None
        if done.status != 0:
            told = next(iter(reversed(done.stderr.removeprefix("Password: ").strip().splitlines())), "")
            told = told or f"status {done.status}"
            raise PowerFailed(
                f"{self.name}: power {verb}: {inert(told)}", hint="try ipmitool by hand: address, user, cipher suite"
            )
        return done
