"""Files at the edge: written whole or not at all, and checked before torch reads them."""
