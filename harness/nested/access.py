"""How a person gets into a running nested host: an ssh_config beside the machine, for the ssh everybody knows."""

from __future__ import annotations

from pathlib import Path

_CONFIG = "ssh_config"


def write(run_dir: Path, *, name: str, port: int, host_key: str, key_file: Path, home: Path | None = None) -> None:
    """Write `ssh_config` and `known_hosts` into the run directory; ssh(1) then pins the key as the harness does.

    `home` is where the directory will be, when it is to be renamed.
    """
    (run_dir / "known_hosts").write_text(f"{name} {host_key}\n")
    lines = [
        f"Host {name}",
        "HostName 127.0.0.1",
        f"HostKeyAlias {name}",
        f"Port {port}",
        "User root",
        f"IdentityFile {_quoted(key_file)}",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {_quoted((home or run_dir) / 'known_hosts')}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "LogLevel ERROR",
    ]
    (run_dir / _CONFIG).write_text("\n".join(lines) + "\n")


def command(run_dir: Path) -> list[str] | None:
    """The ssh command into the machine of `run_dir`; None while it does not answer yet."""
    config = run_dir / _CONFIG
    if not config.exists():
        return None
    name = config.read_text().splitlines()[0].split()[1]
    return ["ssh", "-F", str(config), name]


def _quoted(path: Path) -> str:
    """A path as ssh_config(5) reads it: quotes keep blanks, and `%` begins a token."""
    return '"' + str(path).replace("%", "%%") + '"'
