"""Export a trained model as ONNX or as a program of torch.export.

Import `export` from `analysis.export.export`: a name bound here would hide that module.
"""
