"""Words for people: figures in words, and the name that was meant."""
