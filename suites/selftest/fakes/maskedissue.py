"""A known issue of a masked device, as an entry and as loaded."""

from __future__ import annotations

from pathlib import Path

from harness.judge.known import KnownIssue, load_issues

ROOT = Path(__file__).parents[3]
MASKED = """\
masked:
  title: MASKALL stays
  document: docs/findings/masked.md
  scenarios: ["E14-F1-*"]
  xen: ["4.20"]
  violated:
    - {at: C6, view: guest, subject: interrupts under traffic}
    - {at: C6, view: hardware, subject: message control, seen: "*Masked+*"}
  also:
    - {at: C6, view: guest, subject: message control}
    - {at: C6, view: guest, subject: traffic}
"""


def issues(tmp_path: Path, text: str = MASKED) -> dict[str, KnownIssue]:
    path = tmp_path / "issues.yaml"
    path.write_text(text)
    return load_issues(path)
