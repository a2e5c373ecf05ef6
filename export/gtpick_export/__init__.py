"""From trained weights to ONNX, with proof of parity."""
