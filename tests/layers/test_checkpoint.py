"""`Recurrent(..., checkpoint_every=k)`: the same gradients from less memory."""

import sys

import keras
import memory
import numpy as np
import pytest
from gradients import gradients
from keras import ops

from zoo.errors import SettingError
from zoo.layers import GRUCell, LSTMCell, PeepholeLSTM, Recurrent, StackedCells, VariationalDropout, Zoneout

BATCH, TIME, FEATURES, UNITS = 3, 7, 4, 5
MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0]], bool)


def noisy_cell():
    """Every kind of noise: of each step, of all steps, in an upper cell too."""
    lower = VariationalDropout(LSTMCell(UNITS), 0.3, 0.3, seed=1)
    return StackedCells([lower, Zoneout(GRUCell(UNITS), {"hidden": 0.3}, seed=2)])


def pair(every, make=lambda **options: PeepholeLSTM(UNITS, **options), **options):
    layers = [make(**options, checkpoint_every=k) for k in (None, every)]
    for layer in layers:
        layer.build((BATCH, TIME, FEATURES))
    weights = [np.random.normal(size=w.shape) for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def assert_same_gradients(layers, x, **call):
    cotangent = np.random.normal(size=layers[0].compute_output_shape(x.shape)).astype("float32")
    for ours, plain in zip(*[gradients(layer, x, cotangent, **call) for layer in reversed(layers)], strict=True):
        assert np.abs(plain).max() > 1e-3
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("every", [1, 3, 7, 100])
def test_gradients_are_those_of_the_whole_sequence(every):
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    assert_same_gradients(pair(every, return_sequences=True), x)


@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True, "zero_output_for_mask": True, "go_backwards": True}]
)
def test_masks_and_other_options_act_as_without(options):
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    assert_same_gradients(pair(3, **options), x, mask=MASK)
    layers = pair(3, return_state=True, **options)
    for ours, plain in zip(*[layer(x, mask=MASK, training=True) for layer in reversed(layers)], strict=True):
        np.testing.assert_allclose(*[ops.convert_to_numpy(y) for y in (ours, plain)], atol=1e-6)  # float32


@pytest.mark.parametrize("every", [1, 3])
def test_noise_is_replayed_segment_by_segment(every):
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    assert_same_gradients(pair(every, lambda **options: Recurrent(noisy_cell(), **options)), x)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_changes_no_more_than_without(dtype):
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    whole, segments = pair(3, dtype=dtype)
    cotangent = np.random.normal(size=(BATCH, UNITS)).astype("float32")
    for ours, plain in zip(*[gradients(layer, x, cotangent) for layer in (segments, whole)], strict=True):
        assert np.linalg.norm(ours - plain) < 0.02 * np.linalg.norm(plain)  # sums of half precision in another order


def test_it_trains_for_any_batch_and_number_of_steps_compiled_or_not():
    for jit_compile in (False, True) if keras.backend.backend() == "tensorflow" else ("auto",):
        model = keras.Sequential([keras.Input((None, FEATURES)), PeepholeLSTM(UNITS, checkpoint_every=3)])
        model.compile("sgd", "mse", jit_compile=jit_compile)
        for batch, time in ((2, 7), (3, 2)):
            history = model.fit(np.ones((batch, time, FEATURES)), np.ones((batch, UNITS)), epochs=2, verbose=0).history
            assert history["loss"][1] < history["loss"][0]


def test_it_is_part_of_the_configuration():
    config = PeepholeLSTM(UNITS, checkpoint_every=3).get_config()
    assert PeepholeLSTM.from_config(config).checkpoint_every == 3


@pytest.mark.parametrize("every", [0, 2.5, "3"])
def test_it_must_be_a_positive_whole_number(every):
    with pytest.raises(SettingError, match=r"checkpoint_every is .*whole number"):
        PeepholeLSTM(UNITS, checkpoint_every=every)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only XLA of JAX tells what a program will hold")
def test_a_long_sequence_takes_a_fraction_of_the_memory():
    """What the compiled gradient holds beside its arguments and results, as XLA counts it."""
    import jax

    x, held = np.ones((2, 400, 2), "float32"), []
    for every in (None, 20):
        layer = PeepholeLSTM(UNITS, checkpoint_every=every)
        layer.build(x.shape)

        def loss(weights, layer=layer):
            return layer.stateless_call(weights, [], x, training=True)[0].sum()

        compiled = jax.jit(jax.grad(loss)).lower([v.value for v in layer.trainable_variables]).compile()
        held.append(compiled.memory_analysis().temp_size_in_bytes)
    assert held[1] < 0.3 * held[0]  # 20 + 20 steps of 400, and what the program needs at any length


@pytest.mark.on_tensorflow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_a_long_sequence_takes_a_fraction_of_the_memory_of_the_process():
    checkpointed, plain = memory.printed_by(
        """
        import keras, numpy as np
        from zoo.layers import PeepholeLSTM

        for every in (60, None):
            model = keras.Sequential([keras.Input((None, 8)), PeepholeLSTM(64, checkpoint_every=every)])
            model.compile("sgd", "mse", jit_compile=False)
            step = lambda steps: model.train_on_batch(np.ones((8, steps, 8), "f"), np.ones((8, 64), "f"))
            step(4)
            print(growth(lambda: step(4000)))
        """
    )
    assert checkpointed < 0.6 * plain
