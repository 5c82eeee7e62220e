"""Tables and ids, independent of graphs."""
