"""From pictures and texts of items to features: encoders, what they read, and a loop that can be interrupted."""
