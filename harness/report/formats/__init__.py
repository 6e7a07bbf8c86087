"""How results are told: each file but base.py is a format, the NAME of `maskall report --format NAME`. Pure."""
