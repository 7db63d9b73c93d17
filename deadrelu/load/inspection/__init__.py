"""Says what a model file is and what it holds; nothing in it runs."""
