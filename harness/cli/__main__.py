"""`python -m harness.cli`, which is how tools/maskall calls it."""

from __future__ import annotations

import sys

from harness.cli.entry import main

sys.exit(main())
