"""The packages that a lab host's Xen, device model and kernel came in, where dpkg knows them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from harness.base.deadline import Deadline
from harness.base.errors import ParseError
from harness.transport.base import Transport

FORMAT = "${Package} ${db:Status-Abbrev} ${Version}\\n"
"""What dpkg-query(1) is asked to print of each package, for `parse_packages`."""

_PARTS = {
    "xen": ("xen-*", "xenstore-utils", "libxen*"),
    "qemu": ("qemu-system-*", "seabios", "ovmf", "ipxe-qemu"),
    "linux": ("linux-image-*",),
}
"""What results are to tell of, and the packages it comes in on a Debian or Ubuntu."""

_NOT_FOUND = 127  # the shell's, and env(1)'s: there is no such program
_PACKAGE = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)? ([a-zA-Z]{2,3})(?: +(\S+))?")


def read_packages(transport: Transport, deadline: Deadline) -> dict[str, str]:
    """Name to version of what is installed of Xen, qemu and Linux.

    A part that came in no package of dpkg's stands under its own name (xen, qemu, linux) as `unknown: why`.
    """
    patterns = [pattern for names in _PARTS.values() for pattern in names]
    # env: where there is no such program the status says so, however the link starts one
    done = transport.run(["env", "dpkg-query", "-W", "-f", FORMAT, "--", *patterns], deadline=deadline)
    found: dict[str, str] = {}
    why = "no installed package of dpkg's"
    if done.status == _NOT_FOUND:
        why = "there is no dpkg"
    else:  # 1 where a pattern fits nothing; what fits the others is printed all the same
        try:
            found = parse_packages(done.text)
        except ParseError:
            why = "dpkg-query prints something else"
    lacking = (part for part, names in _PARTS.items() if not any(_fits(name, names) for name in found))
    return {**found, **{part: f"unknown: {why}" for part in lacking}}


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def parse_packages(text: str) -> dict[str, str]:
    """Name to version of what is installed whole (dpkg-query(1), status `ii` or `hi`).

    Accepted format: lines `NAME STATUS VERSION`, the last empty for a package of which dpkg knows only the name.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _PACKAGE.fullmatch(line.strip())
        if match is None:
            raise ParseError(f"{line!r}", file="packages", line=number, expected="name, status, version")
        name, status, version = match.groups()
        if status in ("ii", "hi") and version:
            found[name] = version
    return found
