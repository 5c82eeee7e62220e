"""Feature extraction from images and texts of items: encoders, their inputs, and a resumable loop."""
