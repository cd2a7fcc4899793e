"""The run folder: lock, run.json and trial records, and the displays of a run."""
