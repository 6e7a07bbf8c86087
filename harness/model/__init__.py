"""Values that cross borders: an address, a register, an observation, a change, a verdict."""
