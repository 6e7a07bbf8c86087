"""Anybody's log, explained: which of the known signatures it shows, of which device, with the lines. Pure."""
