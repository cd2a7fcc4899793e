"""Compare search methods at equal budget, over seeds, with all models scored alike.

Import from `methods`, `scoring`, `compare` and `summary`; nothing is imported here, because torch and
matplotlib take seconds.
"""
