"""From trained weights to ONNX and TensorRT, with proof of parity."""
