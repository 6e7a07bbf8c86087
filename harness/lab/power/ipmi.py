"""Power by a management controller that speaks IPMI 2.0, through ipmitool(1)."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
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
_ONCE = 15.0  # seconds for one call: ipmitool repeats lost datagrams itself


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


@contextlib.contextmanager
def ipmitool(entry: IpmiPower, password: Secret) -> Iterator[list[str]]:
    """The beginning of an ipmitool command line for this controller.

    The password is in a file that only we can read and that is gone afterwards: an argument would be in the process
    list, and an environment variable (`-E`) in the environment of whatever ipmitool starts.
    """
    with tempfile.TemporaryDirectory(prefix="maskall-ipmi-") as folder:
        file = Path(folder) / "password"
        file.touch(mode=0o600)
        file.write_text(password.reveal())
        yield [
            *(find("ipmitool"), "-I", "lanplus", "-H", entry.address, "-p", str(entry.port), "-U", entry.user),
            *("-f", str(file), "-C", str(entry.cipher_suite), "-L", "OPERATOR"),
        ]


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
            with ipmitool(self._entry, self._password) as argv:
                done = run([*argv, "chassis", "power", verb], deadline=deadline.sooner(_ONCE), check=False)
        except (CommandFailed, UsageError) as error:
            # from None: the command line in the first error names the password's file, which is nobody's business
            told = "did not answer in time" if isinstance(error, CommandFailed) else error.message
            raise PowerFailed(f"{self.name}: power {verb}: {told}", hint=error.hint) from None
        if done.status != 0:
            told = next(iter(reversed(done.stderr.strip().splitlines())), f"status {done.status}")
            raise PowerFailed(
                f"{self.name}: power {verb}: {inert(told)}", hint="try ipmitool by hand: address, user, cipher suite"
            )
        return done
