"""What a run shall do, and doing it: sessions, soak, campaigns."""
