"""One readable loop."""
