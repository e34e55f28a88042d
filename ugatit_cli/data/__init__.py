"""Training pictures: from folders to checked, cached, reproducible batches."""
