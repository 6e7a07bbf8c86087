"""Our catalogue of scenarios, read where its verbs are known."""

from __future__ import annotations

import functools

from harness.play.verbs import VERBS
from harness.scenario.catalogue import OURS, Catalogue, load_catalogue


@functools.cache
def catalogue() -> Catalogue:
    """InventoryError with file, line and the nearest right name for a verb that nobody has declared."""
    return load_catalogue(OURS, VERBS)
