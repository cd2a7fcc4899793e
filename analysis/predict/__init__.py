"""Predict mask and depth with a trained model, for arrays (`model`) and for photo files (`photos`, `predictor`).

Import from `model`, `photos` and `predictor`; nothing is re-exported here, because importing torch takes seconds.
"""
