"""Write data set folders in the study's layout, completely or not at all."""

from data.writing.staging import StagingDir
from data.writing.writer import DatasetWriter, Sample, check_free, check_room

__all__ = ["DatasetWriter", "Sample", "StagingDir", "check_free", "check_room"]
