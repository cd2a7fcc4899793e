"""Export a trained model as ONNX or as a program of torch.export: the command, and the formats."""
