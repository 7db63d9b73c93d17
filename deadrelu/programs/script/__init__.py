"""TorchScript archives as programs: scripted, traced, frozen."""
