"""What Xen, xl and dom0 print, and what it means. Pure."""
