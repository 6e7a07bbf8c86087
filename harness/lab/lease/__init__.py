"""Write-ahead record of every change to a host, and the way back."""
