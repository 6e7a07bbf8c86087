"""Beginnings and ends of the messages that matter: a line that is one may have been that message. Pure."""

from __future__ import annotations

import re

_ADDRESS, _DOMAIN, _NUMBER = r"[0-9a-f:.]+", r"(?:d\[?[0-9A-Z]+\]?|[Dd]om[0-9A-Z]+)", "[0-9]+"
MARKS = ">\u2026\u00bb "  # what a pager puts at the end of a line that it cuts
_SHORTEST = 6
# @ an address, % a domain, # a number, ~ a sign
_XEN = (
    "cannot mask IRQ #: masking MSI-X on %'s @",
    "cannot disable IRQ #: masking MSI-X on @",
    "%: assign (@) failed (-16)",
    "XEN_DOMCTL_assign_device: assign @ to % failed (-16)",
    "@: unexpected initial MSI-X state (MASKALL=#, ENABLE=#), fixing",
)
_LINUX = (
    "pciback @: MSI-X release failed (-16)",
    "pciback @: MSI-X preparation failed (-16)",
    "pciback @: xen_pciback: MSI-X release failed (-16)",
    "pciback @: xen_pciback: MSI-X preparation failed (-16)",
    "xen map irq failed -19 for 32752 domain",
    "xen_map irq failed -19 for 32752 domain",
)
_LIBXL = "xc_assign_device failed: Device or resource busy"
_LSPCI = "Capabilities: [@] MSI-X: Enable~ Count=# Masked~"


_LEFT_OUT = re.compile(  # `[...]`, `-- snip --`, `[120 lines omitted]`
    r"[\W_]*(?:\.{3,}|\[\.\.\]|\u2026|\.{3}[^.]{0,60}\.{3}"
    r"|(?:(?:the )?(?:[0-9]+ |rest |log |output |text )?(?:of (?:the )?(?:log|output) )?(?:more )?"
    r"(?:(?:lines|rows|messages|characters|bytes) )?(?:was |were |is )?)"
    r"(?:snip|snipped|cut|skip|skipped|trimmed|omitted|truncated|removed|elided|deleted|shortened)"
    r"(?: [\w ]{0,40})?)[\W_]*",
    re.IGNORECASE,
)


def _signs(message: str, domain: str = _DOMAIN) -> list[str]:
    return [{"@": _ADDRESS, "%": domain, "#": _NUMBER, "~": "[+-]"}.get(sign) or re.escape(sign) for sign in message]


def _beginning(message: str) -> str:
    """`abc` as a(?:b(?:c)?)?"""
    signs = _signs(message)
    return "(?:".join(signs) + ")?" * (len(signs) - 1)


def _end(message: str) -> str:
    """`abc` as (?:(?:a)?b)?c; a domain may have lost its beginning, too"""
    signs = _signs(message, r"[\w\[\]]+")
    return "(?:" * (len(signs) - 1) + ")?".join(signs)


# pieces of each message, and how many of them no other message has together
_PIECES = (
    (("cannot", "IRQ ", "masking", "MSI-X", " on "), 3),
    (("sign ", "failed", "(-16)"), 3),
    (("MSI", "release", "failed", "(-16)"), 3),
    (("MSI", "preparation", "failed", "(-16)"), 3),
    (("map irq", "map_irq", "failed", "-19", "for 32752", "domain"), 3),
    (("unexpected", "initial", "MSI-X", "state", "MASKALL=", "ENABLE=", "fixing"), 3),
    (("MSI-X", "nable", "Count=", "Masked"), 3),
)
OTHERS = re.compile(  # whole, and of another error or deed
    r"MSI-X (?:release|preparation) failed \(-(?!16\))[0-9]+\)|deassign|xc_(?:physdev|domain)_[a-z_]+ "
    r"|map[ _]irq failed -(?!19 for 32752)[0-9]+ for [0-9]+ domain"
)
_ASSIGN_DEVICE = re.compile(r"(?<!de)assign_dev|xc_ass|c_assi|_assig|ssign_de|sign_dev|ign_devi|gn_devic|n_device")
_END = re.compile(r"(?:\(-16\)|\.[0-7]|domain|fixing|busy|Masked[+-]?)$")
_ASSIGNING = re.compile(r"pci_add_dm_done: (?:Domain [0-9]+:)?")
_XEN_BEGINNING = re.compile("|".join(map(_beginning, _XEN)))
_LINUX_BEGINNING = re.compile(rf"(?:[\w-]+ {_ADDRESS}: )?(?:{'|'.join(map(_beginning, _LINUX))})")
_LIBXL_BEGINNING = re.compile(_beginning(_LIBXL))
_LEAD = r"(?:.{0,30}?[\])] )?(?:(?:[\w-]+ )?[0-9a-f:.]*: )?"  # the rest of a time, a prefix, a device
_NUMBER_ALONE = re.compile(r"[0-9a-f]+")  # of an address a colon would be there
_XEN_END = re.compile(rf"{_LEAD}(?:{'|'.join(map(_end, (*_XEN, _LIBXL, _LSPCI)))})")
_LINUX_END = re.compile(rf"{_LEAD}(?:{'|'.join(map(_end, _LINUX))})")


def _fits(pattern: re.Pattern[str], text: str) -> bool:
    return len(text) >= _SHORTEST and pattern.fullmatch(text) is not None


def begins_in_xen(text: str) -> bool:
    """`text` is what Xen printed, as far as it is there."""
    return _fits(_XEN_BEGINNING, text.strip().rstrip(MARKS))


def begins_in_linux(text: str) -> bool:
    """`text` is what a kernel printed, as far as it is there."""
    return _fits(_LINUX_BEGINNING, text.strip().rstrip(MARKS))


def elided_within(text: str) -> bool:
    """`text` is the beginning and the end of one that matters, without what stands between them."""
    begin, mark, end = text.partition("\u2026")
    if not mark:
        begin, mark, end = text.partition("...")
    return bool(mark) and ((begins_in_linux(begin) and ends_linux(end)) or (begins_in_xen(begin) and ends_xen(end)))


def begins_in_assigning(text: str) -> bool:
    """`text` is of the function of libxl that assigns a device, and may be cut anywhere behind its name."""
    told = _ASSIGNING.search(text)
    rest = text[told.end() :].strip().rstrip(MARKS) if told else None
    return rest is not None and (not rest or _LIBXL_BEGINNING.fullmatch(rest) is not None)


def begins_in_libxl(text: str) -> bool:
    """`text` has what libxl printed at its end, as far as it is there."""
    return _fits(_LIBXL_BEGINNING, text[text.find("xc_assign_device") :].strip().rstrip(MARKS))


def elided(text: str) -> bool:
    """`text` is what people put where they left lines out."""
    return len(text) < 120 and _LEFT_OUT.fullmatch(text) is not None


def resembles(text: str) -> bool:
    """`text` has so much of one that matters in it that it may be that one, damaged or with another writer's in it."""
    if OTHERS.search(text):
        return False
    if elided_within(text):
        return True
    if any(sum(piece in text for piece in pieces) >= least for pieces, least in _PIECES):
        return True
    if "esource busy" in text and _ASSIGN_DEVICE.search(text):
        return True
    return begins_in_assigning(text)


def resembles_without_speaker(text: str) -> bool:
    """The same of a line that may be what somebody wrote of such a message, or the source of the one who prints it."""
    return "%" not in text and resembles(text) and (_END.search(text.strip()) is not None or "pci_add_dm" in text)


def ends_xen(text: str) -> bool:
    """`text` is how a line of Xen, libxl or lspci goes on whose beginning, and who printed it, is not there."""
    return _fits(_XEN_END, text.strip()) and _NUMBER_ALONE.fullmatch(text.strip()) is None


def ends_linux(text: str) -> bool:
    """The same of a kernel's."""
    return _fits(_LINUX_END, text.strip())
