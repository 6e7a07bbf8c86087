"""Whether a device may be touched: facts, checks, decision."""
