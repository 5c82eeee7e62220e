"""The contract suite and toy data, for tests of models from outside."""
