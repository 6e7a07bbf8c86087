"""Call chains from stacks of a make-believe kernel, whose code says who calls, jumps to and returns into whom."""

from __future__ import annotations

from harness.base.errors import LabError
from harness.xen.trace.frames import Linker, words_of
from harness.xen.trace.symbols import SymbolTable, parse_xensyms

TEXT = 0xFFFF82D040200000
NAMES = ["entry", "outer", "middle", "wrapper", "wrapped", "inner", "other", "stale", "__x86_indirect_thunk_rax"]
AT = {name: TEXT + 0x1000 * (place + 1) for place, name in enumerate(NAMES)}
COLD = TEXT + 0x100


def table() -> SymbolTable:
    lines = [f"{TEXT:016x} T _stext", f"{TEXT + 0x100000:016x} T _etext", f"{COLD:016x} t a.c#inner.cold"]
    return parse_xensyms("\n".join(lines + [f"{at:016x} t a.c#{name}" for name, at in AT.items()]))


class Code:
    """The kernel's text; nothing but what was put there can be read."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.reads = 0

    def put(self, address: int, data: bytes) -> None:
        self.bytes |= {address + place: byte for place, byte in enumerate(data)}

    def read(self, address: int, length: int) -> bytes:
        self.reads += 1
        if address < TEXT:
            raise LabError("cannot read")
        return bytes(self.bytes.get(address + place, 0x90) for place in range(length))

    def goes(self, opcode: bytes, frm: str, to: str, offset: int) -> int:
        """A call or jump of `frm` whose last byte stands before `offset`; that address."""
        after = AT[frm] + offset
        self.put(after - 4 - len(opcode), opcode + ((AT[to] - after) % (1 << 32)).to_bytes(4, "little"))
        return after

    def calls(self, frm: str, to: str, offset: int = 0x40) -> int:
        return self.goes(b"\xe8", frm, to, offset)

    def indirect(self, frm: str, offset: int = 0x60) -> int:
        self.put(AT[frm] + offset - 2, b"\xff\xd0")
        return AT[frm] + offset


def chain(code: Code, words: list[int], rip: int = AT["inner"] + 8) -> list[str]:
    return [frame.symbol for frame in Linker(table(), code.read).chain(rip, words)]


def test_words() -> None:
    assert words_of(bytes(range(20))) == [0x0706050403020100, 0x0F0E0D0C0B0A0908]


def test_direct_calls() -> None:
    code = Code()
    words = [5, code.calls("middle", "inner"), 0, code.calls("outer", "middle")]
    assert chain(code, words) == ["inner", "middle", "outer"]


def test_a_callee_that_jumps_on() -> None:
    """outer calls wrapper, which ends with a jump to wrapped: outer's return address is wrapped's too."""
    code = Code()
    words = [code.calls("wrapped", "inner"), code.calls("outer", "wrapper")]
    assert chain(code, words) == ["inner", "wrapped"], "a call of something else does not belong there"
    for opcode in (b"\xe9", b"\x0f\x84"):
        code = Code()
        words = [code.calls("wrapped", "inner"), code.calls("outer", "wrapper")]
        code.goes(opcode, "wrapper", "wrapped", 0x30)
        assert chain(code, words) == ["inner", "wrapped", "outer"]


def test_a_callee_that_jumps_to_one_that_jumps_on() -> None:
    code = Code()
    words = [code.calls("wrapped", "inner"), code.calls("outer", "wrapper")]
    code.goes(b"\xe9", "wrapper", "other", 0x30)
    code.goes(b"\xe9", "other", "wrapped", 0x30)
    assert chain(code, words) == ["inner", "wrapped", "outer"]


def test_a_jump_inside_of_a_function_leads_nowhere_else() -> None:
    code = Code()
    words = [code.calls("wrapped", "inner"), code.calls("outer", "wrapper")]
    code.goes(b"\xe9", "wrapper", "wrapper", 0x30)
    assert chain(code, words) == ["inner", "wrapped"]


def test_a_callee_that_jumps_by_a_register_or_a_thunk_can_have_led_anywhere() -> None:
    for how in ("register", "thunk"):
        code = Code()
        words = [code.calls("wrapped", "inner"), code.calls("outer", "wrapper")]
        if how == "register":
            code.put(AT["wrapper"] + 0x30, b"\xff\xe0")
        else:
            code.goes(b"\xe9", "wrapper", "__x86_indirect_thunk_rax", 0x30)
        assert chain(code, words) == ["inner", "wrapped", "outer"]


def test_the_way_with_more_direct_calls_counts() -> None:
    """A short cut by one indirect call reaches the outermost frame too, but explains less of the stack."""
    code = Code()
    words = [
        code.calls("wrapped", "inner"),
        code.calls("middle", "wrapped"),
        code.calls("outer", "middle"),
        code.indirect("entry"),
    ]
    assert chain(code, words) == ["inner", "wrapped", "middle", "outer", "entry"]


def test_stale_words_are_left_out() -> None:
    code = Code()
    words = [
        code.indirect("stale"),
        code.calls("middle", "inner"),
        code.calls("stale", "other"),
        code.calls("outer", "middle"),
        AT["other"],
        AT["other"] + 0x80,
    ]
    assert chain(code, words) == ["inner", "middle", "outer"]


def test_at_a_functions_entry_the_first_word_is_its_return_address() -> None:
    """Xen: guest_mask_msi_irq jumps to msi_set_mask_bit; an indirect call far out must not win over what is certain."""
    code = Code()
    words = [code.calls("middle", "wrapper"), code.calls("outer", "middle"), code.indirect("stale")]
    assert chain(code, words, AT["inner"])[:3] == ["inner", "middle", "outer"]
    assert chain(code, words, AT["inner"] + 8) == ["inner", "stale"]


def test_a_return_address_that_is_known_wins_over_stale_calls() -> None:
    """Linux 6.1: below the return address of a hypercall lie two registers, above it perhaps an older, longer chain."""
    code = Code()
    code.indirect("middle")
    words = [
        0x1234,
        code.calls("other", "inner"),
        AT["middle"] + 0x60,
        code.calls("stale", "inner"),
        code.calls("wrapper", "stale"),
        code.calls("outer", "middle", 0x80),
    ]
    linker = Linker(table(), code.read)
    known = linker.chain(AT["inner"] + 8, words, returns_at=2)
    assert [frame.symbol for frame in known] == ["inner", "middle", "outer"]
    assert chain(code, words) != ["inner", "middle", "outer"]


def test_a_cold_part_is_jumped_to_so_its_first_word_can_be_anything() -> None:
    code = Code()
    words = [code.calls("stale", "other"), code.calls("middle", "inner"), code.calls("outer", "middle")]
    assert chain(code, words, COLD) == ["inner.cold", "middle", "outer"]


def test_nothing_to_be_found() -> None:
    assert chain(Code(), []) == ["inner"]
    assert chain(Code(), [1, 2, 3], rip=0x1234) == ["?"]


def test_code_is_read_once() -> None:
    code = Code()
    words = [code.calls("middle", "inner"), code.calls("outer", "middle")]
    linker = Linker(table(), code.read)
    linker.chain(AT["inner"] + 8, words)
    before = code.reads
    assert len(linker.chain(AT["inner"] + 8, words)) == 3
    assert code.reads == before


def test_code_that_cannot_be_read_calls_nobody() -> None:
    code = Code()

    def read(address: int, length: int) -> bytes:
        raise LabError("cannot read")

    words = [code.calls("middle", "inner")]
    assert [frame.symbol for frame in Linker(table(), read).chain(AT["inner"] + 8, words)] == ["inner"]
