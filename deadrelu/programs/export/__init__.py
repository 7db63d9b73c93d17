"""torch.export programs (`.pt2`) as programs."""
