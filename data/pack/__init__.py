"""Decode splits once per size into packs: arrays on disk that every process maps into memory."""

from data.pack.pack import Pack, RawBatch, pack_split
from data.pack.stats import Stats

__all__ = ["Pack", "RawBatch", "Stats", "pack_split"]
