"""Debug keys e, q and m: captured dumps of three versions, damage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given

from harness.base.errors import ParseError
from harness.xen.keys.debugkeys import parse_irqs, parse_livepatches, parse_masks, parse_pci_devices
from harness.xen.keys.domainkeys import ChannelState, parse_domains, parse_event_channels, parse_free_memory
from suites.selftest.fakes.hostile import damaged
from suites.selftest.fakes.readings import KEYS, READINGS, keys_of


@pytest.mark.parametrize("reading", READINGS)
def test_every_captured_row_is_read(reading: str) -> None:
    text = keys_of(reading)
    channels = parse_event_channels(text)
    assert len(channels) == text.count("]: s=")
    for channel in channels:
        assert f"{channel.port} [" in text.splitlines()[channel.line - 1]
        assert f"s={channel.state:d} " in text.splitlines()[channel.line - 1]
    domains = parse_domains(text)
    assert len(domains) == text.count("General information for domain")
    assert domains[0].domid == 0
    assert 0 < parse_free_memory(text) < 3 * 1024 * 1024


@pytest.mark.parametrize("version", ["4.14", "4.17", "4.20"])
def test_a_running_guest_holds_channels_pirqs_and_memory(version: str) -> None:
    text = keys_of(f"{version}/guest_running")
    guest = next(domain for domain in parse_domains(text) if domain.domid)
    assert guest.dying == 0
    assert guest.pages > 30_000  # of 128 MiB
    assert guest.irqs == 3  # INTx and two vectors of MSI-X
    own = [channel for channel in parse_event_channels(text) if channel.domid == guest.domid]
    assert {ChannelState.INTERDOMAIN, ChannelState.VIRQ, ChannelState.IPI} <= {channel.state for channel in own}


def test_pirqs_of_dom0_name_their_irq() -> None:
    channels = parse_event_channels(keys_of("4.20/guest_running"))
    irqs = {channel.irq for channel in channels if channel.state is ChannelState.PIRQ}
    assert {9, 25, 41} <= irqs
    assert all((channel.irq is None) == (channel.state is not ChannelState.PIRQ) for channel in channels)


def test_a_channel_that_is_only_reserved() -> None:
    """ECS_RESERVED, 1: made by evtchn_reserve for a guest that is migrated in."""
    header = "(XEN) 'e' pressed -> dumping event-channel info\n(XEN) Event channel information for domain 3:\n"
    [channel] = parse_event_channels(f"{header}(XEN)        7 [0/0/  -   ]: s=1 n=0 x=0\n")
    assert (channel.domid, channel.port, channel.state) == (3, 7, ChannelState.RESERVED)


def test_a_zombie_is_dead_and_keeps_its_pirqs() -> None:
    dead = [domain for domain in parse_domains(keys_of("4.20/zombies_of_stopped_qemu")) if domain.dying]
    assert dead
    assert all(domain.dying == 2 and domain.pages > 0 and domain.irqs > 0 for domain in dead)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(XEN) nothing\n", "no dump of debug key e;"),
        ("(XEN) 'e' pressed -> dumping event-channel info\n", "no domain"),
        ("(XEN) 'e' pressed -> dumping event-channel info\n(XEN)        1 [0/0/  -   ]: s=1 n=0 x=0\n", "s=1"),
        (
            "(XEN) 'e' pressed -> dumping event-channel info\n(XEN) Event channel information for domain 0:\n"
            "(XEN)        1 [0/0/  -   ]: s=9 n=0 x=0\n",
            "s=9",
        ),
    ],
)
def test_channels_that_cannot_be_read(text: str, expected: str) -> None:
    with pytest.raises(ParseError, match=expected):
        parse_event_channels(text)


@pytest.mark.parametrize("lost", ["nr_pages=", "dying=", "Interrupts {"])
def test_a_domain_without_one_of_its_facts_is_refused(lost: str) -> None:
    text = "".join(line for line in keys_of("4.20/guest_running").splitlines(keepends=True) if lost not in line)
    with pytest.raises(ParseError, match="incomplete"):
        parse_domains(text)


def test_a_row_of_digits_that_is_no_range_is_refused_at_once() -> None:
    """Where each of them could be a number by itself, there were more ways to read it than anybody can try."""
    text = keys_of("4.20/guest_running").replace("Interrupts { ", f"Interrupts {{ {'1' * 200}x")
    with pytest.raises(ParseError, match="incomplete"):
        parse_domains(text)


def test_free_memory_is_what_all_heaps_have() -> None:
    text = keys_of("4.14/guest_running")
    assert "Xen heap: 0kB" in text and parse_free_memory(text) == 1395680
    assert parse_free_memory(text.replace("Xen heap: 0kB", "Xen heap: 12kB")) == 1395692


def test_free_memory_cut_off_is_refused() -> None:
    text = keys_of("4.20/guest_running")
    with pytest.raises(ParseError, match="cut off"):
        parse_free_memory(text[: text.index("Dom heap")])


@pytest.mark.parametrize(
    ("parse", "key"),
    [
        (parse_masks, "M"),
        (parse_pci_devices, "Q"),
        (parse_irqs, "i"),
        (parse_livepatches, "x"),
        (parse_event_channels, "e"),
        (parse_domains, "q"),
        (parse_free_memory, "m"),
    ],
)
def test_a_log_without_the_dump_is_not_an_empty_one(parse: Callable[..., object], key: str) -> None:
    with pytest.raises(ParseError, match=f"^log: no dump of debug key {key}; expected a line "):
        parse("(XEN) something else\n", file="log")


@given(damaged(KEYS))
def test_damage_is_read_or_refused(text: str) -> None:
    for parse in (parse_event_channels, parse_domains, parse_free_memory):
        try:
            parse(text)
        except ParseError:
            continue
