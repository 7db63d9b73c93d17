"""From a report to findings and a verdict: pure functions, without torch."""
