"""Find the dead ReLU units of a trained PyTorch model."""

__version__ = "0.1.0"
