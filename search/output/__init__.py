"""The results of a run: selection of the best trials, and model folders with their model card."""

from search.output.model_folder import TrainedModel, write_model_folder

__all__ = ["TrainedModel", "write_model_folder"]
