"""Training: one loop for every model, early stopping, logs, resuming, warm starts."""
