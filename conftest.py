"""What every suite needs; fixtures and options come with the installed plugin (harness/plugin, see pyproject.toml)."""

from __future__ import annotations

import signal

# A shell that starts pytest in the background has SIGINT ignored, and so would tests of Ctrl-C and their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
