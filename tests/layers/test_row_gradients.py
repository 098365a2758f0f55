"""The gradients of element-wise ops whose batch size is open, against TensorFlow's own."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the loops of TensorFlow only", allow_module_level=True)

import tensorflow as tf

from zoo.layers.row_gradients import vjp

OPS = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "product": lambda x, y: x * y,
    "choice": lambda x, y: tf.where(x + tf.zeros_like(y) > 0, x, y),
}
SHAPES = [  # of the operands, with None for the rows
    [(None, 4), (None, 4)],
    [(None, 4), (4,)],
    [(None, 4), (1, 4)],
    [(None, 4), (None, 1)],
    [(None, 4), ()],
    [(None, 4), (1,)],
    [(3, 4), (3, 4)],
    [(None, 5, 4), (None, 1, 4)],
    [(None, 5, 4), (5, 1)],
    [(None, None, 4), (None, 1, 4)],
    [(None, None, 4), (None, 4)],
]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("rows", [1, 3])
def test_the_gradient_of_an_element_wise_op_with_an_open_batch_is_that_of_eager_execution(name, shapes, swapped, rows):
    rng = np.random.default_rng(0)
    shapes = shapes[::-1] if swapped else shapes
    x, y = [tf.constant(rng.normal(size=[rows if n is None else n for n in shape])) for shape in shapes]
    function = OPS[name]
    weights = tf.constant(rng.normal(size=function(x, y).shape))
    with tf.GradientTape() as tape:
        tape.watch([x, y])
        results = function(x, y)
    expected = tape.gradient(results, [x, y], weights)
    in_graph = tf.function(
        lambda x, y, weights: vjp(function, [x, y], weights),
        input_signature=[
            *[tf.TensorSpec(shape, "float64") for shape in shapes],
            tf.TensorSpec([None, *weights.shape[1:]], "float64"),
        ],
    )
    for gradient, wanted in zip(in_graph(x, y, weights), expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-12)
