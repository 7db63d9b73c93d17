"""A trial: the same training with and without each change, and what is certain of the differences."""
