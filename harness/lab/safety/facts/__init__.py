"""What a lab host is: read by one program that changes nothing, parsed, and which function a device means."""
