"""Text for a person at a terminal: tables, advice, maps and comparisons."""
