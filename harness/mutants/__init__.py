"""Known-bad products: what they change in hypervisor, device model or dom0, and which scenarios see it."""
