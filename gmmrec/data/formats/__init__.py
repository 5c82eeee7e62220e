"""One reader per format: a path in, :class:`~gmmrec.data.tables.Tables` out."""
