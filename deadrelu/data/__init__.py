"""Where batches come from: files, folders, loaders, and noise."""
