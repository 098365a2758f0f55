"""Keras models to ONNX files with native recurrent ops."""

from zoo.export.onnx.reading import op_histogram, read_model

__all__ = ["op_histogram", "read_model"]
