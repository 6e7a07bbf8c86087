"""A hypervisor's file made of given functions, with callers and tables of pointers, as Xen's mkelf32 writes it."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping

from harness.mutants.hypervisor_file import VIRTUAL

BUILD_ID = bytes(range(20))
START = VIRTUAL + 0x200000


def elf32(image: bytes, build_id: bytes | None = BUILD_ID) -> bytes:
    """A multiboot ELF32 with one segment to load and a note."""
    note = b"" if build_id is None else struct.pack("<III4s", 4, len(build_id), 3, b"GNU\0") + build_id
    headers = 1 + (build_id is not None)
    identity = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    header = struct.pack("<16sHHIIIIIHHHHHH", identity, 2, 3, 1, 0x200000, 52, 0, 0, 52, 32, headers, 0, 0, 0)
    load = struct.pack("<IIIIIIII", 1, 0x80, 0x200000, 0x200000, len(image), len(image), 7, 0x40)
    where = 0x80 + len(image)
    notes = struct.pack("<IIIIIIII", 4, where, 0, 0, len(note), len(note), 4, 4) if note else b""
    return (header + load + notes).ljust(0x80, b"\0") + image + note


def image(functions: Mapping[int, bytes], *, called: Collection[int] = (), pointed: Collection[int] = ()) -> bytes:
    """Functions by address, from START + 0x1000 on; at START one call to each of `called`, at the end the pointers."""
    end = max(address + len(code) for address, code in functions.items())
    memory = bytearray(b"\xcc" * (end - START))
    for address, code in functions.items():
        memory[address - START : address - START + len(code)] = code
    for number, address in enumerate(called):
        place = START + 16 * number
        memory[place - START : place - START + 5] = b"\xe8" + struct.pack("<i", address - place - 5)
    return bytes(memory) + b"".join(struct.pack("<Q", address) for address in pointed)


def symbols(named: Mapping[str, int], *, others: int = 1500) -> bytes:
    """What xen/tools/symbols.c puts into the image for these functions, besides so many `others` before them.

    A token is a letter, as where none is worth to be one for two.
    """
    every = [(START + number, f"other{number}") for number in range(others)]
    every = sorted([*every, *((address, name) for name, address in named.items())])
    names, markers = b"", []
    for number, (_, name) in enumerate(every):
        if number % 256 == 0:
            markers.append(len(names))
        names += bytes([len(name) + 1]) + b"t" + name.encode()
    tokens = [b"none" if not token else bytes([token]) for token in range(256)]
    parts = [
        struct.pack(f"<{len(every)}I", *(address - VIRTUAL for address, _ in every)),
        struct.pack("<I", len(every)),
        names,
        struct.pack(f"<{len(markers)}I", *markers),
        b"".join(token + b"\0" for token in tokens),
    ]
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def xl_info(build_id: bytes = BUILD_ID) -> bytes:
    """What names the running hypervisor."""
    fields = {"release": "6.12", "xen_version": "4.20", "virt_caps": "hvm", "xen_commandline": "", "build_id": ""}
    return "".join(f"{key:<23}: {value}\n" for key, value in (fields | {"build_id": build_id.hex()}).items()).encode()
