"""What is asked: queries, batches, truth."""
