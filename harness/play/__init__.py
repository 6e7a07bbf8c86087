"""Makes a record: plays a scenario on a host."""
