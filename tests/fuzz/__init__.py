"""Fuzzing: random inputs, valid and hostile, for all readers, settings, ids, run folders and commands.

Every case either gives a consistent result or is refused in one sentence. A few hundred cases run with the tests; ``python -m
tests.fuzz --cases 100000`` runs more and keeps the cases that fail.
"""
