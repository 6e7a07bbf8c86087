"""Fixtures of the lab lane."""

from __future__ import annotations

from suites.lab.practice_machine import practice

__all__ = ["practice"]
