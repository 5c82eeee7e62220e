"""Readers, one per format, from a path to :class:`~gmmrec.data.tables.Tables`."""
