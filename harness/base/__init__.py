"""What every floor uses: errors, deadlines, programs, files, text, progress."""
