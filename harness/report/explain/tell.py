"""What was found, as a report for people and for programs. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from harness.base.text import inert
from harness.report.explain.facts import DeviceFacts, Facts, FileFacts, PastedHost, Shown
from harness.report.explain.lines import PastedPlace
from harness.report.explain.signature import SIGNATURES, Signature, SignatureKind, other
from harness.xen.keys.fixes import has_fix, registry
from harness.xen.keys.messages import catalogue
from harness.xen.keys.version import Answer


class ExplainStatus(enum.IntEnum):
    """The exit status of `maskall explain`."""

    NOTHING = 0
    SIGNATURE = 1
    UNREADABLE = 2
    CANNOT_TELL = 3


_SENTENCES = {
    ExplainStatus.NOTHING: "nothing of this class is in the text",
    ExplainStatus.SIGNATURE: "a signature of this class is in the text",
    ExplainStatus.UNREADABLE: "nothing could be read",
    ExplainStatus.CANNOT_TELL: "it cannot be told from this text",
}


@dataclass(frozen=True)
class FixNeeded:
    """A fix of Xen, and whether the version in the text has it."""

    commit: str
    title: str
    first_fixed: tuple[str, ...]
    present: Answer


@dataclass(frozen=True)
class ShownSignature:
    """One signature of one device, or of a host where the text names no device."""

    signature: str
    kind: str
    title: str
    meaning: str
    lines: tuple[PastedPlace, ...]
    count: int
    fixes: tuple[FixNeeded, ...]
    help: str
    scenario: str
    document: str
    note: str = ""


@dataclass(frozen=True)
class DeviceTold:
    """The views of one device and what they add up to."""

    device: str
    name: str
    hardware: str
    xen: str
    findings: tuple[ShownSignature, ...]
    capture: tuple[str, ...]


@dataclass(frozen=True)
class HostTold:
    host: str
    xen: str
    linux: str
    devices: tuple[DeviceTold, ...]
    unremarkable: int  # devices of which nothing is to be said
    findings: tuple[ShownSignature, ...]
    missing: tuple[PastedPlace, ...]  # lines that say that others are missing
    unreadable: tuple[PastedPlace, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FileTold:
    file: str
    lines: int
    read: bool
    told: str


@dataclass(frozen=True)
class Explanation:
    verdict: ExplainStatus
    sentence: str
    reasons: tuple[str, ...]  # why it cannot be told, or not for sure
    files: tuple[FileTold, ...]
    hosts: tuple[HostTold, ...]


def explain(facts: Facts) -> Explanation:
    """It decides nothing that the text does not show."""
    hosts = tuple(_host(host) for host in facts.hosts.values() if _said(host))
    found = [
        one for host in hosts for one in (*host.findings, *(f for device in host.devices for f in device.findings))
    ]
    reasons = tuple(dict.fromkeys(_reasons(facts, found)))
    if any(one.kind == SignatureKind.CLASS.value for one in found):
        verdict = ExplainStatus.SIGNATURE
    elif (
        not any(file.read for file in facts.files) and not found and not any(one.broken for one in facts.hosts.values())
    ):
        verdict = ExplainStatus.UNREADABLE
    elif reasons:
        verdict = ExplainStatus.CANNOT_TELL
    else:
        verdict = ExplainStatus.NOTHING
    files = tuple(FileTold(file.name, file.lines, file.read, _file(file)) for file in facts.files)
    return Explanation(verdict, _SENTENCES[verdict], reasons, files, hosts)


def _file(file: FileFacts) -> str:
    if file.refused:
        return file.refused
    counts = (
        (file.xen, "lines of Xen"),
        (file.toolstack, "lines of libxl"),
        (file.devices, "devices shown by lspci"),
        (file.listed, "devices listed by lspci"),
    )
    parts = [f"{count} {what}" for count, what in counts if count]
    parts += ["lines of a Linux kernel"] if file.linux else []
    told = ", ".join(parts) or "nothing of Xen, a kernel or lspci was recognised in it"
    return f"{told}; {file.note}" if file.note else told


def _said(host: PastedHost) -> bool:
    return bool(host.devices or host.found or host.losses or host.broken or host.notes or host.xen or host.linux)


def _reasons(facts: Facts, found: list[ShownSignature]) -> Iterator[str]:
    for file in facts.files:
        if file.refused and file.refused != "empty":
            yield f"{file.name} was not read: {file.refused}"
    for host in facts.hosts.values():
        if host.losses:
            yield f"lines are missing: {host.losses[0]}"
        if host.broken:
            yield f"a line cannot be read: {host.broken[0]}"
        yield from host.notes
        for device in host.devices.values():
            if device.unknown and device.control is None:
                yield f"{device.address}: {device.unknown}"
    shown = any(file.xen or file.linux or file.devices for file in facts.files)
    if not shown and any(file.listed for file in facts.files):
        yield "lspci only names devices here; lspci -vvv, run as root, shows their MSI-X"
    for one in found:
        if one.kind == SignatureKind.UNCLEAR.value:
            yield f"{one.title}: {one.lines[0]}" if one.lines else one.title
    if facts.truncated:
        yield "more than 64 hosts are named; the rest was put to the first"


def _host(host: PastedHost) -> HostTold:
    told = [(device, _device(host, device)) for device in host.devices.values()]
    shown = tuple(one for device, one in told if _is_of_interest(device))
    return HostTold(
        host=host.name,
        xen=str(host.xen or ""),
        linux=str(host.linux or ""),
        devices=shown,
        unremarkable=len(told) - len(shown),
        findings=tuple(_finding(host, name, shown) for name, shown in host.found.items()),
        missing=tuple(host.losses),
        unreadable=tuple(host.broken),
        notes=tuple(host.notes),
    )


def _is_of_interest(device: DeviceFacts) -> bool:
    return bool(device.found or device.driver == "pciback" or device.unknown or device.owner not in ("", "d0", "NULL"))


def _device(host: PastedHost, device: DeviceFacts) -> DeviceTold:
    findings = tuple(_finding(host, name, shown, device) for name, shown in device.found.items())
    return DeviceTold(
        device=str(device.address),
        name=device.name,
        hardware=_hardware(device),
        xen=_xen(device),
        findings=tuple(sorted(findings, key=lambda one: [kind.value for kind in SignatureKind].index(one.kind))),
        capture=tuple(_capture(host, device)),
    )


def _hardware(device: DeviceFacts) -> str:
    if device.control is not None:
        shown = f"MSI-X {device.control} ({device.control.table_size} vectors)"
    elif device.without_msix is not None:
        shown = "no MSI-X"
    else:
        shown = f"not known: {device.unknown}" if device.unknown else "not in the text"
    memory = "" if device.memory is None else f", Mem{'+' if device.memory else '-'}"
    return f"{shown}{memory}{f', driver {device.driver}' if device.driver else ''}"


def _xen(device: DeviceFacts) -> str:
    if not device.owner:
        return "not in the text"
    return f"owner {device.owner}, vectors: {device.vectors}"


def _finding(host: PastedHost, name: str, shown: Shown, device: DeviceFacts | None = None) -> ShownSignature:
    signature = SIGNATURES.get(name) or other(name, catalogue().causes.get(name, ""))
    note = shown.note
    if name == "maskall-set" and device is not None and device.repaired:
        note = "Later the device is Enable+ Masked-: MASKALL did not survive into that owner."
    return ShownSignature(
        signature=name,
        kind=signature.kind.value,
        title=signature.title,
        meaning=" ".join(signature.meaning.split()),
        lines=tuple(shown.places),
        count=shown.count,
        fixes=tuple(_fixes(host, signature)),
        help=signature.help.replace("BDF", str(device.address)) if device is not None else signature.help,
        scenario=f"maskall run {signature.scenario}" if signature.scenario else "",
        document=signature.document,
        note=note,
    )


def _fixes(host: PastedHost, signature: Signature) -> Iterator[FixNeeded]:
    for commit in signature.fixes:
        fix = registry()[commit]
        present = has_fix(fix, str(host.xen)) if host.xen is not None else Answer.UNKNOWN
        yield FixNeeded(commit, fix.title, tuple(map(str, fix.first_fixed)), present)


def _capture(host: PastedHost, device: DeviceFacts) -> Iterator[str]:
    """The commands that show what this text does not."""
    if not device.found and device.control is not None and device.owner:
        return
    if device.control is None:
        yield f"lspci -vvv -s {device.address}   # in dom0, as root"
    if not device.owner or not {"M", "Q", "i"} <= host.keys:
        yield "xl debug-keys MQi; xl dmesg > xl-dmesg.txt   # boot Xen with conring_size=1M, else the ring is too small"
    if host.xen is None:
        yield "xl info"
    yield "lspci -vvv; cat /proc/interrupts; sleep 10; cat /proc/interrupts   # in the guest, while it uses the device"


def as_text(told: Explanation) -> list[str]:
    """Lines for a terminal or a mail."""
    out = [f"{told.sentence}"]
    out += [f"  because {reason}" for reason in told.reasons] if told.verdict is ExplainStatus.CANNOT_TELL else []
    for file in told.files:
        out.append(f"  {file.file}: {file.lines} lines; {file.told}")
    for host in told.hosts:
        out += ["", *_host_lines(host)]
    if told.verdict is ExplainStatus.SIGNATURE and told.reasons:
        out += ["", "Not for sure, or not all of it:", *(f"  {reason}" for reason in told.reasons)]
    return [inert(line) for line in out]


def _host_lines(host: HostTold) -> Iterator[str]:
    versions = ", ".join(f"{what} {text}" for what, text in (("Xen", host.xen), ("Linux", host.linux)) if text)
    yield f"host {host.host or '(not named)'}: {versions or 'no version in the text'}"
    for one in host.findings:
        yield from _finding_lines(one)
    for device in host.devices:
        yield f"  {device.device} {device.name}".rstrip()
        yield f"    hardware: {device.hardware}"
        yield f"    Xen:      {device.xen}"
        yield "    guest:    not in the text"
        for one in device.findings:
            yield from _finding_lines(one)
        if device.capture:
            yield "    to be sure, capture:"
            yield from (f"      {command}" for command in device.capture)
    if host.unremarkable:
        yield f"  {host.unremarkable} other devices, of which nothing is to be said"


def _finding_lines(one: ShownSignature) -> Iterator[str]:
    yield f"    {one.kind}: {one.title} [{one.signature}]"
    yield f"      {one.meaning}"
    if one.note:
        yield f"      {one.note}"
    yield from (f"      {place}" for place in one.lines)
    if one.count > len(one.lines):
        yield f"      ({one.count} times in all)"
    for fix in one.fixes:
        has = {Answer.YES: "this Xen has it", Answer.NO: "this Xen does not have it"}.get(fix.present, "not told here")
        yield f"      fix {fix.commit} {fix.title!r}, from {', '.join(fix.first_fixed)} on: {has}"
    if one.help:
        yield f"      help: {one.help}"
    if one.scenario:
        yield f"      seen again by: {one.scenario}"
    if one.document:
        yield f"      more: {one.document}"
