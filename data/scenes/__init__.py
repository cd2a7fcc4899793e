"""Built-in procedural scenes with exact masks and depth: worlds and figures of solids, ray cast by one renderer.

Import `make_scenes` and `cached_scenes` from `data.scenes.scenes`; this package's face stays empty so that it is cheap.
"""
