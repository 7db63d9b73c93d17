"""Watching a model while it trains: what each window counted, what happened, and the file that keeps it."""
