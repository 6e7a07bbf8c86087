"""Power by a management controller that speaks Redfish (DMTF DSP0266), through the library sushy."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import ssl
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from harness.base.deadline import Deadline
from harness.base.errors import LabError, PowerFailed, UsageError
from harness.base.modelpath import misplaced
from harness.base.secret import Secret, SecretReference, resolve
from harness.base.text import inert
from harness.base.words import LocalPath, Url, Word, beside
from harness.lab.power.base import Power, PowerEntry, PowerState, Switch

_ONCE = 15.0  # seconds for one request; a controller that is busy takes some
_LEAST = 0.2  # seconds that a request gets even when the deadline is over
_GOODBYE = 2.0  # seconds for logging out at the most: who hears nothing more ends the session by itself
_LONGEST = 400  # characters of a controller's complaint in a message

# The values of ResetType that do what is meant, best first (DSP2046, ComputerSystem.Reset).
_ORDERS = {PowerState.ON: ("On", "ForceOn"), PowerState.OFF: ("ForceOff",)}
_RESET = ("ForceRestart",)  # not PowerCycle: that is no warm reset


class RedfishPower(PowerEntry):
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

    asks: ClassVar[frozenset[str]] = frozenset({"user", "password", "ca_file"})

    @model_validator(mode="after")
    def _both(self) -> RedfishPower:
        if (self.user is None) != (self.password is None):
            raise misplaced("user and password go together", "password" if self.user is None else "user")
        return self

    def control(self, host: str, base: Path) -> Power:
        return Redfish(host, self, resolve(self.password) if self.password else None, base)


T = TypeVar("T")

# Without a handler the library's warnings would go to the terminal, in the middle of ours; what matters is raised.
logging.getLogger("sushy").addHandler(logging.NullHandler())


class Redfish(Switch):
    """`Power` by Redfish. One session, opened at the first question and closed with the object."""

    def __init__(self, host: str, entry: RedfishPower, password: Secret | None, base: Path) -> None:
        """UsageError for a password that would cross a network in clear."""
        self._host = host
        self._entry = entry
        self._password = password
        self._ca_file = beside(base, entry.ca_file) if entry.ca_file else None
        self._system: Any = None
        self._log_out: Callable[[], object] = lambda: None
        if urlsplit(entry.url).scheme != "https" and not _is_loopback(entry.url):
            raise UsageError(
                f"{self.name}: over http everybody on the network could switch this machine",
                hint="write https://; http is for this machine's own addresses",
            )
        if self._ca_file and not self._ca_file.is_file():
            raise UsageError(f"{self.name}: there is no file {self._ca_file}", hint="set ca_file in the inventory")

    @property
    def name(self) -> str:
        return f"{self._host} (redfish {urlsplit(self._entry.url).netloc})"

    def state(self, deadline: Deadline) -> PowerState:
        """UNKNOWN also while it is between the two (PoweringOn, PoweringOff, Paused)."""

        def read() -> PowerState:
            system = self._connected(deadline)
            system.refresh(force=True)
            word = str(system.json.get("PowerState", "")).lower()
            return PowerState(word) if word in (PowerState.ON, PowerState.OFF) else PowerState.UNKNOWN

        return self._asked("power status", read)

    def reset(self, deadline: Deadline) -> None:
        self._tell(_RESET, deadline)

    def _order(self, wanted: PowerState, deadline: Deadline) -> None:
        self._tell(_ORDERS[wanted], deadline)

    def _tell(self, words: tuple[str, ...], deadline: Deadline) -> None:
        def allowed() -> list[str]:
            system = self._connected(deadline)
            return [value.value for value in system.get_allowed_reset_system_values()]

        offered = self._asked("what it can do", allowed)
        word = next((word for word in words if word in offered), None)
        if word is None:
            raise PowerFailed(f"{self.name}: it has no {words[0]}, only {inert(', '.join(sorted(offered)))}")
        reset_type = _sushy().ResetType(word)
        self._asked(word, lambda: self._connected(deadline).reset_system(reset_type))

    def _connected(self, deadline: Deadline) -> Any:  # noqa: ANN401 - sushy has no types
        """The system, its connection limited to this deadline."""
        sushy = _sushy()
        seconds = max(_LEAST, deadline.sooner(_ONCE).remaining)
        if self._system is None:
            # one try for each request: the library repeats also what it sent and got no answer to
            connector = sushy.connector.Connector(
                self._entry.url,
                verify=str(self._ca_file) if self._ca_file else _own_authorities(),
                server_side_retries=1,
                server_side_retries_delay=1,
                default_request_timeout=seconds,
            )
            # no proxy, no ~/.netrc, no authorities from the environment: the password goes to the controller alone
            connector._session.trust_env = False
            who = {"username": self._entry.user, "password": self._password.reveal()} if self._password else {}
            auth = sushy.auth.SessionOrBasicAuth(**who) if who else _Nobody()
            self._log_out = weakref.finalize(self, _log_out, auth, connector)
            root = sushy.Sushy(self._entry.url, connector=connector, auth=auth)
            self._system = root.get_system(self._entry.system)
        self._system._conn._default_request_timeout = seconds
        return self._system

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        """PowerFailed, and nothing else, for whatever the library raises."""
        _sushy()
        try:
            return ask()
        except Exception as error:  # the library's own, requests', and whatever an answer that is no Redfish leads to
            told = self._hidden(error)
            self._log_out()
            self._system = None
        # raised out here: the library's error and its frames, which hold the password, do not hang on to ours
        raise PowerFailed(
            f"{self.name}: {what}: {told}", hint="try with curl: url, user, system, and the certificate with ca_file"
        )

    def _hidden(self, error: Exception) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        if self._password:  # a controller may repeat what it was sent
            text = text.replace(self._password.reveal(), "***")
        return inert(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


class _Nobody:
    """For a controller that asks nobody who he is."""

    def set_context(self, root: object, connector: object) -> None: ...

    def authenticate(self) -> None: ...

    def close(self) -> None: ...

    def reset_session_attrs(self) -> None: ...


def _log_out(auth: Any, connector: Any) -> None:  # noqa: ANN401 - sushy has no types
    """End the session here and now, and once.

    The library does it when the garbage collector finds its object: at any moment, in any thread, for as long as a
    request may take.
    """
    connector._default_request_timeout = min(connector._default_request_timeout, _GOODBYE)
    with contextlib.suppress(Exception):  # the session ends by itself; what was asked for is what matters
        auth.close()
    with contextlib.suppress(Exception):  # nothing was opened
        auth.reset_session_attrs()


def _is_loopback(url: str) -> bool:
    """By the address alone: what a name leads to is for others to decide, but for localhost (RFC 6761, 6.3)."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_authorities() -> str | bool:
    """Those of this machine; the library would take a list that comes with it."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def _sushy() -> Any:  # noqa: ANN401 - sushy has no types
    """Loaded only for a host that needs it: it takes a third of a second."""
    try:
        import sushy
        import sushy.auth
        import sushy.connector
    except ImportError as error:
        raise LabError(f"the Python package sushy cannot be loaded: {error}", hint="pip install sushy") from error
    return sushy
