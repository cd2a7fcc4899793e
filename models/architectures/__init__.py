"""The architectures, each with its config, its network and its choices for the search, and what they are built of.

Import each from its module; `models.build` is the registry.
"""
