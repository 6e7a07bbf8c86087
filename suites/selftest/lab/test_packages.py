"""What Xen, qemu and Linux of a lab host came in, and an honest word where nobody knows."""

from __future__ import annotations

import pytest

from harness.lab.packages import read_packages
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.patience import soon

# dpkg-query 1.21.22 of Debian 12, with `2>&1` left out: it says on stderr which patterns fit nothing
DEBIAN = b"""\
ipxe-qemu ii  1.0.0+git-20190125.36a4c85-5.1
libxenstore4 ii  4.17.5+72-g01140da4e8-1
linux-image-6.1.0-38-amd64 rc  6.1.147-1
linux-image-6.1.0-40-amd64 ii  6.1.153-1
linux-image-amd64 ii  6.1.153-1
qemu-system-x86 un  \n\
qemu-system-xen ii  1:7.2+dfsg-7+deb12u16
xen-hypervisor-4.17-amd64 ii  4.17.5+72-g01140da4e8-1
"""


def asked(reply: Reply) -> dict[str, str]:
    link = FakeTransport(commands={r"env dpkg-query -W .*": reply})
    link.connect(soon())
    return read_packages(link, soon())


def test_what_is_installed_is_told_with_its_version() -> None:
    assert asked(Reply(DEBIAN, b"dpkg-query: no packages found matching ovmf\n", status=1)) == {
        "ipxe-qemu": "1.0.0+git-20190125.36a4c85-5.1",
        "libxenstore4": "4.17.5+72-g01140da4e8-1",
        "linux-image-6.1.0-40-amd64": "6.1.153-1",
        "linux-image-amd64": "6.1.153-1",
        "qemu-system-xen": "1:7.2+dfsg-7+deb12u16",
        "xen-hypervisor-4.17-amd64": "4.17.5+72-g01140da4e8-1",
    }


def test_xen_that_was_built_by_hand_came_in_no_package() -> None:
    rows = b"".join(line for line in DEBIAN.splitlines(keepends=True) if b"xen" not in line)
    found = asked(Reply(rows, status=1))
    assert found["xen"] == "unknown: no installed package of dpkg's"
    assert found["linux-image-amd64"] == "6.1.153-1" and "linux" not in found and "qemu" not in found


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(stderr=b"env: 'dpkg-query': No such file or directory\n", status=127), "there is no dpkg"),
        (Reply(b"", status=1), "no installed package of dpkg's"),
        (Reply(b"\x1b[2Jhello\n"), "dpkg-query prints something else"),
    ],
)
def test_where_nobody_knows_it_says_so(reply: Reply, why: str) -> None:
    assert asked(reply) == dict.fromkeys(("xen", "qemu", "linux"), f"unknown: {why}")
