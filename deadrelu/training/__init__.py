"""What training makes of units: trials of remedies, a monitor while others train, and restarts."""
