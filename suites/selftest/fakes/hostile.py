"""Hostile input for the parsers: real output, damaged; and text of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

CAPTURED = Path(__file__).parents[1] / "data" / "xen-4.20"


def captured(name: str) -> str:
    """A captured output as text."""
    return (CAPTURED / name).read_text(encoding="utf-8")


def every(kind: str) -> list[str]:
    """Names of all captured outputs of one kind; never empty, so that a renamed file cannot empty a test."""
    names = sorted(path.name for path in CAPTURED.glob(f"*.{kind}"))
    assert names, f"no captured file of kind {kind}"
    return names


@st.composite
def damaged(draw: st.DrawFn, samples: Sequence[str]) -> str:
    """One of the samples with a piece cut out and something else in its place, or any text at all."""
    text = draw(st.sampled_from(samples))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 200)))
    patch = draw(st.text(max_size=12) | st.sampled_from(["\n", "(XEN) ", "9" * 5000, "-1", "٣", "\r", "\x00", "0x"]))
    return draw(st.sampled_from([text[:start] + patch + text[end:], patch, text[start:end]]))
