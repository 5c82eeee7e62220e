"""Visual reports: pages and pictures."""
