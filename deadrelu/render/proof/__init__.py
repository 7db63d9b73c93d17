"""A proof in words, for every format."""
