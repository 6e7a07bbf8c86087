"""A lab host that is not there: a directory tree, real shells, and the kernel's and Xen's part played in Python."""
