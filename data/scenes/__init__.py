"""Built-in procedural scenes with exact masks and depth: scenes and objects built from solids and ray-cast."""
