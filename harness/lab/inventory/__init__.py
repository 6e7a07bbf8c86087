"""What an inventory file says about lab hosts."""
