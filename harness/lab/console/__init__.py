"""Reading a host's console: each file but base.py is a way, the `kind` under `console` in the inventory."""
