"""Who calls what in Xen, by breakpoints and stack frames."""
