"""The stage: hosts, devices and guests of a scenario, and the part that can be taken over from a frozen host."""
