"""Make one ssh connection to a host that may still be booting: TCP and banner, key exchange, host key, login."""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import ipaddress
import logging
import select
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import paramiko

from harness.base.deadline import Deadline
from harness.base.errors import HostKeyMismatch, HostUnreachable, Unreachable, UsageError
from harness.base.records import logger
from harness.transport.ssh_channel import SshLink
from harness.transport.ssh_watch import HeardSocket

log = logger(__name__)
# paramiko prints tracebacks for links that break; the same comes back as an exception and is reported by us.
_LIBRARY_LOG = f"{__name__}.paramiko"
logging.getLogger(_LIBRARY_LOG).setLevel(logging.CRITICAL)

_REFUSED_EVERY = 0.02  # seconds between attempts while nobody listens
_RENEW_EVERY = 2.0  # seconds before a second attempt beside one that is silent
_SILENT_MAX = 10.0  # seconds after which a silent attempt is given up
_HANDSHAKE = 60.0  # seconds for key exchange and login of one attempt

# Cheap for an emulated CPU. paramiko's default begins with ML-KEM and tries no AEAD cipher first.
_CHEAP = {
    "kex": ("curve25519-sha256@libssh.org",),
    "ciphers": ("aes128-gcm@openssh.com", "aes128-ctr"),
    "digests": ("hmac-sha2-256",),
}


# What says that nobody is there, and what says that our own network is not (connect(2)).
_NOBODY = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN})
_OURS = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM})


def _meaning(plug: HeardSocket, error: OSError) -> Unreachable:
    """What an attempt that failed says. A kernel that refuses is alive, unless it is ours: behind a forwarded port
    of this machine is nobody then."""
    number = plug.failed if plug.failed not in (0, errno.EINPROGRESS) else error.errno
    if number in _OURS:
        return Unreachable.OURS
    if number in _NOBODY or (number == errno.ECONNREFUSED and plug.loopback):
        return Unreachable.SILENT
    return Unreachable.SPEAKS


@dataclass(frozen=True)
class HostKey:
    """The one key a host may show."""

    algorithm: str
    blob: bytes

    @classmethod
    def parse(cls, pinned: str | paramiko.PKey) -> HostKey:
        """From "ssh-ed25519 AAAA... comment" as in a .pub file, or a key. UsageError if it is neither."""
        if isinstance(pinned, paramiko.PKey):
            return cls(pinned.get_name(), pinned.asbytes())
        algorithm, _, rest = pinned.strip().partition(" ")
        with contextlib.suppress(binascii.Error, ValueError, IndexError):
            blob = base64.b64decode(rest.split()[0], validate=True)
            if paramiko.Message(blob).get_text() == algorithm:
                return cls(algorithm, blob)
        raise UsageError(f"not a host key: {pinned[:40]!r}", hint="give it as 'ssh-ed25519 AAAA...', see ssh-keyscan")

    @property
    def offers(self) -> tuple[str, ...]:
        """The signature algorithms that go with this kind of key."""
        return ("rsa-sha2-512", "rsa-sha2-256") if self.algorithm == "ssh-rsa" else (self.algorithm,)


def load_key(path: Path) -> paramiko.PKey:
    """The private key in a file. UsageError if there is none."""
    try:
        return paramiko.PKey.from_path(path)
    except (OSError, ValueError, TypeError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise UsageError(f"{path}: no usable private key: {error}") from error


@dataclass(frozen=True)
class Endpoint:
    """Where a host listens, who it is and who logs in."""

    name: str
    address: str
    port: int
    user: str
    key: paramiko.PKey
    host_key: HostKey

    def connect(self, deadline: Deadline) -> tuple[SshLink, HeardSocket]:
        """An authenticated connection. Attempts go on until the deadline, except where the host answered *no*.

        HostKeyMismatch, HostUnreachable (deadline, or the login was refused): SILENT only where in all that time
        nothing answered at any of its addresses.
        """
        cheap, last, heard = True, "nobody listened", set[Unreachable]()
        while not deadline.expired:
            plug = self._plug(deadline, heard)
            if plug is None:
                break
            heard.add(Unreachable.SPEAKS)
            link = SshLink(plug)
            link.set_log_channel(_LIBRARY_LOG)
            ready = False
            try:
                self._negotiate(link, deadline.sooner(_HANDSHAKE), cheap=cheap)
                self._log_in(link, deadline.sooner(_HANDSHAKE))
                ready = True
                return link, plug
            except paramiko.ssh_exception.IncompatiblePeer as error:
                if "host key" in str(error):
                    raise HostKeyMismatch(
                        f"{self.name}: has no {self.host_key.algorithm} key, as was pinned"
                    ) from error
                if not cheap:
                    raise HostUnreachable(f"{self.name}: {error}", why=Unreachable.SPEAKS) from error
                log.info("%s: no cheap algorithm in common, offering all: %s", self.name, error)
                cheap = False
            except (paramiko.SSHException, EOFError, OSError) as error:  # a host that boots or goes down
                last = str(error) or type(error).__name__
                log.debug("%s: %s, again", self.name, last)
            finally:
                if not ready:
                    link.packetizer.complete_handshake()  # or its timer thread would keep the process alive
                    link.close()
                    plug.close()
        order = (Unreachable.SPEAKS, Unreachable.SILENT, Unreachable.OURS)
        why = next((one for one in order if one in heard), Unreachable.OURS)
        told = last if why is Unreachable.SPEAKS and last != "nobody listened" else why.value
        raise HostUnreachable(f"{self.name}: no ssh at {self.address}:{self.port} in time: {told}", why=why)

    def _plug(self, deadline: Deadline, heard: set[Unreachable]) -> HeardSocket | None:
        """A TCP connection on which the ssh server began to speak; None at the deadline. What else came of the
        attempts is added to `heard`.

        QEMU's user network accepts before the guest listens, and then tries the guest ever more rarely. So an attempt
        that stays silent is kept, in case the host is only slow, with a fresh one beside it that is renewed.
        """
        pending: list[tuple[HeardSocket, float]] = []
        attempt, renew_at = 0, 0.0
        try:
            while not deadline.expired:
                now = time.monotonic()
                if now >= renew_at:
                    if len(pending) > 1 or (pending and now - pending[0][1] > _SILENT_MAX):
                        pending.pop()[0].close()
                    pending.append((self._dial(attempt), now))
                    attempt, renew_at = attempt + 1, now + _RENEW_EVERY
                plugs = [plug for plug, _ in pending]
                wait = min(renew_at - time.monotonic(), deadline.remaining)
                for plug in select.select(plugs, [], [], max(0.0, wait))[0]:
                    pending = [(other, since) for other, since in pending if other is not plug]
                    try:  # a refused attempt is readable too: its error shows here
                        if plug.recv(1, socket.MSG_PEEK):
                            return plug
                        heard.add(Unreachable.SPEAKS)  # it was accepted and closed again
                    except OSError as error:
                        log.debug("%s: %s", self.name, error)
                        heard.add(_meaning(plug, error))
                    plug.close()
                    renew_at = min(renew_at, now + _REFUSED_EVERY)
            if pending:
                heard.add(Unreachable.SILENT)
            return None
        finally:
            for plug, _ in pending:
                plug.close()

    def _dial(self, attempt: int) -> HeardSocket:
        """Begin to connect, to the addresses of the name in turn."""
        try:
            found = socket.getaddrinfo(self.address, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter where a label is no label (RFC 3490, ToASCII)
            told = f"{self.name}: cannot resolve {self.address!r}: {error}"
            raise HostUnreachable(told, why=Unreachable.NAME) from error
        family, kind, protocol, _, address = found[attempt % len(found)]
        try:
            plug = HeardSocket(family, kind, protocol)
        except OSError as error:  # no descriptor left, say
            told = f"{self.name}: this controller opens no socket: {error.strerror}"
            raise HostUnreachable(told, why=Unreachable.OURS) from error
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages; paramiko leaves Nagle on
        plug.setblocking(False)
        plug.loopback = ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
        plug.failed = plug.connect_ex(address)
        return plug

    def _negotiate(self, link: SshLink, deadline: Deadline, *, cheap: bool) -> None:
        options = link.get_security_options()
        options.key_types = self.host_key.offers
        if cheap:
            for kind, wanted in _CHEAP.items():  # older paramiko knows no AEAD ciphers
                setattr(options, kind, tuple(name for name in wanted if name in getattr(options, kind)))
        link.banner_timeout = link.handshake_timeout = max(0.1, deadline.remaining)
        done = threading.Event()
        link.start_client(event=done)
        if not done.wait(deadline.remaining):
            raise paramiko.SSHException("key exchange not finished")
        if not link.is_active():
            raise link.get_exception() or paramiko.SSHException("closed during key exchange")
        shown = link.get_remote_server_key()
        if (shown.get_name(), shown.asbytes()) != (self.host_key.algorithm, self.host_key.blob):
            raise HostKeyMismatch(
                f"{self.name}: {self.address}:{self.port} shows another host key: {shown.get_name()} "
                f"{shown.get_base64()}",
                hint="perhaps another machine; if it was reinstalled, pin the new key in the inventory",
            )

    def _log_in(self, link: SshLink, deadline: Deadline) -> None:
        done = threading.Event()
        link.auth_publickey(self.user, self.key, event=done)
        if not done.wait(deadline.remaining):
            raise paramiko.SSHException("login not answered")
        if link.is_authenticated():
            return
        error = link.get_exception()
        if link.is_active() or isinstance(error, paramiko.AuthenticationException):
            raise HostUnreachable(
                f"{self.name}: login as {self.user!r} refused: {error or 'no reason given'}",
                hint="is the public key in the host's authorized_keys?",
                why=Unreachable.REFUSED,
            )
        raise error or paramiko.SSHException("closed during login")
