"""The results of a run: selection of the best trials, and model folders with their model card.

`search.output.finalize` and `search.output.selection` import Ray and are imported from there.
"""

from search.output.model_folder import TrainedModel, measure, predict_batches, save_model, write_model_folder

__all__ = ["TrainedModel", "measure", "predict_batches", "save_model", "write_model_folder"]
