"""The architectures, each with its config, network and search choices, and their building blocks."""
