"""What to do about what a scan has found."""
