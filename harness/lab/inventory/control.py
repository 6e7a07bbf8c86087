"""How a lab host is switched and where its console is read, as the inventory says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.base.modelpath import misplaced
from harness.base.strict import StrictModel
from harness.lab.inventory.secret import SecretReference
from harness.lab.inventory.words import (
    Address,
    LibvirtUri,
    LocalPath,
    Port,
    Program,
    Url,
    Word,
    bounded,
)


class RedfishPower(StrictModel):
    """A management controller that speaks Redfish (DSP0266)."""

    kind: Literal["redfish"]
    url: Url = Field(
        description="Where the controller answers, by https; http is for a controller on this machine only."
    )
    user: Word | None = Field(None, description="Needs the right to switch the system, no more.")
    password: SecretReference | None = Field(None, description="Where the password is found, never itself.")
    system: str = Field(
        pattern=r"^/redfish/v1/Systems/[A-Za-z0-9_][A-Za-z0-9._-]*$",
        examples=["/redfish/v1/Systems/1"],
        description="The one system to switch: a controller may have several.",
    )
    ca_file: LocalPath | None = Field(
        None, description="Who signed the controller's certificate; without it this machine's own authorities."
    )

    @model_validator(mode="after")
    def _both(self) -> RedfishPower:
        if (self.user is None) != (self.password is None):
            raise misplaced("user and password go together", "password" if self.user is None else "user")
        return self


class IpmiPower(StrictModel):
    """A management controller that speaks IPMI 2.0 over lan (ipmitool -I lanplus)."""

    kind: Literal["ipmi"]
    address: Address = Field(description="Of the controller, not of the host.")
    port: Port = Field(623, description="UDP port of the controller.")
    user: Word = Field(description="Needs the privilege OPERATOR, no more.")
    password: SecretReference = Field(description="Where the password is found, never itself.")
    cipher_suite: int = bounded(17, 1, 17, "ipmitool's -C. 17 is HMAC-SHA256 and AES; 3 for old controllers.")


class LibvirtPower(StrictModel):
    """The host is itself a domain of libvirt."""

    kind: Literal["libvirt"]
    uri: LibvirtUri = Field(description="As for `virsh -c`.")
    domain: Word = Field(description="Name of the domain.")


class CommandPower(StrictModel):
    """Programs of the lab's own: a switched socket, a relay. `status` prints `on` or `off` on its last line."""

    kind: Literal["command"]
    on: Program = Field(
        description="Switches on; no harm if it is on. The key in quotes, 'on': the bare word is a truth value."
    )
    off: Program = Field(description="Switches off; no harm if it is off. The key in quotes, as 'on'.")
    status: Program = Field(description="Prints `on` or `off` on its last line.")
    reset: Program | None = Field(None, description="Resets; without it: off, then on.")


class QmpPower(StrictModel):
    """The host is a QEMU whose monitor listens on a unix socket; it can be stopped and reset, not switched on."""

    kind: Literal["qmp"]
    socket: LocalPath = Field(description="Unix socket of the monitor.")


PowerEntry = Annotated[RedfishPower | IpmiPower | LibvirtPower | CommandPower | QmpPower, Field(discriminator="kind")]


class IpmiConsole(StrictModel):
    """Serial over LAN of the controller named under `power`, which then must be of kind ipmi."""

    kind: Literal["ipmi"]


class TcpConsole(StrictModel):
    """A console server: a TCP port that carries the bytes of the serial line."""

    kind: Literal["tcp"]
    address: Address = Field(description="Of the console server.")
    port: Port = Field(description="Of this host's line.")


class LibvirtConsole(StrictModel):
    """The console of the domain named under `power`, which then must be of kind libvirt."""

    kind: Literal["libvirt"]


class CommandConsole(StrictModel):
    """A program that prints the console as it comes: `conserver`'s client, `tail -F` of a log."""

    kind: Literal["command"]
    argv: Program = Field(description="The program and its arguments; no shell reads them.")


ConsoleEntry = Annotated[IpmiConsole | TcpConsole | LibvirtConsole | CommandConsole, Field(discriminator="kind")]
