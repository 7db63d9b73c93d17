"""Pure functions from a report to findings and a verdict."""
