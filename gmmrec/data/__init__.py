"""Tables and ids; knows no graph."""
