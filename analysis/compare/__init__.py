"""Compare search methods at equal budget over several seeds, with all models scored in the same way."""
