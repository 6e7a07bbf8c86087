"""Files to and from a host, over nothing but `run`: one channel and one round trip, where SFTP needs a handshake."""

from __future__ import annotations

import secrets

from harness.base.deadline import Deadline
from harness.base.errors import UsageError
from harness.transport.base import Script, Transport, quote

# $$-free on purpose: the temporary name is the controller's, so that a leftover can be told apart.
# The size is compared because `cat` also sees an end of file when the link breaks in the middle.
_PUT = """\
tmp={tmp} path={path}
trap 'rm -f "$tmp"' EXIT
[ ! -d "$path" ] || {{ echo "$path: is a directory" >&2; exit 1; }}
(umask 077 && cat > "$tmp") && chmod {mode:04o} "$tmp" || exit 1
size=$(($(wc -c < "$tmp")))
[ "$size" -eq {size} ] || {{ echo "$path: $size bytes arrived of {size}" >&2; exit 1; }}
mv -f "$tmp" "$path" && trap - EXIT
"""


def _operand(path: str) -> str:
    """`path` so that no program takes it for an option."""
    if not path:
        raise UsageError("a file needs a path")
    return f"./{path}" if path.startswith("-") else path


def put(transport: Transport, data: bytes, path: str, mode: int, deadline: Deadline) -> None:
    """As `Transport.put`."""
    target = _operand(path)
    temporary = f"{target}.maskall-{secrets.token_hex(4)}"
    script = _PUT.format(tmp=quote([temporary]), path=quote([target]), mode=mode, size=len(data))
    transport.run(Script(script), deadline=deadline, changes=True, stdin=data).check()


def get(transport: Transport, path: str, deadline: Deadline) -> bytes:
    """As `Transport.get`."""
    return transport.run(["cat", _operand(path)], deadline=deadline).check().stdout
