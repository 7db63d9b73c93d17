"""What a person at a terminal sees: tables, advice, maps and differences."""
