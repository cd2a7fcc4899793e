"""Check of a data set folder: finds faults of its files, infers what dataset.json should say, writes a fixed copy."""

from data.check.check import check_folder
from data.check.report import Report

__all__ = ["Report", "check_folder"]
