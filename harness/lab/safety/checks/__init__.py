"""One check each: what about a device could hurt the machine or its users. Pure."""
