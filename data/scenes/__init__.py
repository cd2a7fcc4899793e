"""Built-in procedural scenes with exact masks and depth: worlds and figures of solids, rendered by ray casting."""
