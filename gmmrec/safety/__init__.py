"""Names before they become paths, sizes before memory is taken, and documents before they are used: validation of foreign files."""
