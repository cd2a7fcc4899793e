"""Decode splits once per size into packs: arrays on disk that every process maps into memory."""
