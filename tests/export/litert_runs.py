"""Run a TFLite file in LiteRT as a device would, and hold its answers against the model's."""

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

# Both kinds of runtime: with XNNPACK, which takes parts of the graph out of the interpreter's hands, and without.
RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def answers(path, inputs):
    """Return the outputs by name of two invocations in each kind of runtime, four in all."""
    results = []
    for resolver in RESOLVERS:
        interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
        signature = interpreter.get_signature_runner()
        for _ in range(2):
            results.append({name: value.copy() for name, value in signature(**inputs).items()})
    return results


def model_answers(model, inputs):
    """Return the model's outputs by name for `inputs` by name."""
    values = list(inputs.values())
    outputs = model(values if len(values) > 1 else values[0], training=False)
    if not isinstance(outputs, dict):
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        names = getattr(model, "output_names", None) or [f"output_{i}" if i else "output" for i in range(len(outputs))]
        outputs = dict(zip(names, outputs, strict=True))
    return {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}


def assert_same(path, inputs, expected, atol=1e-5):
    """Assert that every invocation gives `expected`, {name: array}.

    The tolerance is that of the project for float32: sums are taken in another order than in TensorFlow.
    """
    for answer in answers(path, inputs):
        assert answer.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, atol=atol, rtol=0, err_msg=name)


def randomise(model, spread=0.7):
    """Give every weight, biases and peepholes too, values wide enough to drive gates into saturation."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if keras.backend.standardize_dtype(weight.dtype).startswith("float"):
            values = generator.normal(size=weight.shape) * spread
            weight.assign(1 + values**2 if weight.name.endswith("variance") else values)
    return model


def sequences(*shape, spread=3.0):
    """Return random float32 sequences."""
    return np.random.default_rng(2).normal(size=shape).astype("float32") * np.float32(spread)
