"""Compare search methods at equal budget over several seeds, with all models scored in the same way.

Import from `methods`, `scoring`, `compare` and `summary`; nothing is re-exported here, because importing torch and
matplotlib takes seconds.
"""
