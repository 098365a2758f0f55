"""Run an ONNX file in ONNX Runtime as a device would, and hold its answers against the model's."""

import numpy as np
import onnxruntime
from litert_runs import model_answers

from zoo import export


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(path, inputs):
    """Return the outputs by name."""
    running = session(path)
    names = [output.name for output in running.get_outputs()]
    return dict(zip(names, running.run(names, inputs), strict=True))


def assert_same(path, inputs, expected, atol=1e-5):
    """Assert that the file gives `expected`, {name: array}, at two invocations.

    The tolerance is that of the project for float32: sums are taken in another order than in TensorFlow. Of values far
    above 1, which only unbounded activations give, it is a few of float32's steps of 1e-7.
    """
    for _ in range(2):
        given = answers(path, inputs)
        assert given.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(given[name], value, atol=atol, rtol=1e-6, err_msg=name)


def assert_exports(model, folder, *batches, atol=1e-5, **options):
    """Export `model` and assert that the one file gives what it gives for each of `batches`; return the path."""
    path = export.to_onnx(model, folder / f"{model.name}.onnx", **options)
    for inputs in batches:
        assert_same(path, inputs, model_answers(model, inputs), atol)
    return path
