"""What a person reads of a trial, in each format but the terminal's."""
