"""The ``gmmrec`` command: parse, call, print."""
