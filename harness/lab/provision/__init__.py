"""From a plain Debian to a Xen dom0 and back."""
