"""Message-passing layers, one a file."""
