"""Models as files of their own, which other programs run: ONNX and TorchScript."""
