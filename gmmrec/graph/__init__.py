"""Tables become ``HeteroData``."""
