"""Tracks which axes of a tensor are samples, features, positions or ranks, operator by operator."""
