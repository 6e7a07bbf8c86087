"""The steps scenarios are made of, each one line, or nearly, over what hosts, devices and guests can do (harness/host).

A file more in this folder is all that a new verb takes.
"""

from __future__ import annotations

import sys

from harness.play.stage.verb import declared

VERBS = declared(sys.modules[__name__])
"""Every verb by its name."""
