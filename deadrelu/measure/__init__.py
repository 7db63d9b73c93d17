"""Running a program over batches, and counting."""
