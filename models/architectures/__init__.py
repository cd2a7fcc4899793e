"""The architectures, each with its config, network and search choices, and their building blocks.

Import each from its module; `models.build` is the registry.
"""
