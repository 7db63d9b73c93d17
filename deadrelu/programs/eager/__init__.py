"""Live `nn.Module` objects as programs."""
