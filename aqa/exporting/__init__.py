"""Finished runs written for other programs: weights with a configuration, programs of torch and ONNX."""
