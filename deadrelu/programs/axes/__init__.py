"""Which axes of a tensor are samples, features, positions or ranks: followed from operator to operator."""
