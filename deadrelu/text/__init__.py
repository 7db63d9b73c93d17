"""Text for people: figures in words, and spelling suggestions."""
