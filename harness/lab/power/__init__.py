"""Switching a host on, off and over: each file but base.py is a way, the `kind` under `power` in the inventory."""
