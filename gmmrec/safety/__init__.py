"""Checks of what comes from files: names before they become paths, sizes before memory is taken, documents before they are used."""
