"""From representations to scores."""
