"""Fixtures of the link tests: keys, an ssh server on this machine, a wire that can be cut, transports to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.transport.ssh import SshTransport
from suites.selftest.fakes.sshserver import SshServer, Wire

MIB = 1 << 20


def new_key(path: Path) -> paramiko.PKey:
    """A key pair; the private half goes to `path`."""
    path.touch(mode=0o600)
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    return paramiko.PKey.from_path(path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys `host`, `user` and `other`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("host", "user", "other"):
        new_key(folder / name)
    return folder


@pytest.fixture
def server(keys: Path) -> Iterator[SshServer]:
    server = SshServer(paramiko.PKey.from_path(keys / "host"), paramiko.PKey.from_path(keys / "user"))
    yield server
    server.stop()


@pytest.fixture
def wire(server: SshServer) -> Iterator[Wire]:
    wire = Wire(server.port)
    yield wire
    wire.stop()


Dial = Callable[..., SshTransport]


@pytest.fixture
def dial(keys: Path) -> Iterator[Dial]:
    """Makes transports to a port of this machine, not connected yet, and closes them in the end."""
    made: list[SshTransport] = []

    def dial(port: int, *, key: str = "user", host_key: str = "host", dead_after: float = 15.0) -> SshTransport:
        pinned = paramiko.PKey.from_path(keys / host_key)
        line = f"{pinned.get_name()} {pinned.get_base64()} comment"
        made.append(
            SshTransport(
                "box", "127.0.0.1", port=port, host_key=line, key_file=keys / key, user="me", dead_after=dead_after
            )
        )
        return made[-1]

    yield dial
    for transport in made:
        transport.close()
