"""Files that are whole or absent, folders that change at one point, and locks. Knows nothing of recommendation."""
