"""Which toolstacks there are, by name."""

from __future__ import annotations

import enum

from harness.base.errors import UsageError
from harness.base.yamlfile import nearest
from harness.transport.base import Transport
from harness.xen.toolstack.xl import Toolstack, XlToolstack


class ToolstackName(enum.StrEnum):
    XL = "xl"
    LIBVIRT = "libvirt"

    @classmethod
    def of(cls, text: str) -> ToolstackName:
        """UsageError with the nearest name for any other."""
        try:
            return cls(text)
        except ValueError:
            raise UsageError(f"there is no toolstack {text!r}", hint=nearest(text, list(cls))) from None

    def on(self, transport: Transport) -> Toolstack:
        """It, for the host at the other end; nothing is sent yet."""
        if self is ToolstackName.XL:
            return XlToolstack(transport)
        from harness.xen.toolstack.libvirt import LibvirtToolstack

        return LibvirtToolstack(transport)
