"""Fixtures of the lane of lent machines."""

from __future__ import annotations

from suites.lab.practice_machine import practice

__all__ = ["practice"]
