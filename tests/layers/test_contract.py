"""What every recurrent layer promises, for each line of the table."""

import cases
import keras
import numpy as np
import pytest
from gradients import gradients
from keras import ops

BATCH, TIME, FEATURES = 3, 7, 4
# float32 over a few steps: rounding of sums of about ten terms, twice, where a norm divides it by a small deviation.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0]], bool)

each_layer = pytest.mark.parametrize("case", cases.LAYERS, ids=str)


def sequences(dtype="float32"):
    return np.random.normal(size=(BATCH, TIME, FEATURES)).astype(dtype)


def times_rows(case):
    """How many batches of rows to train with at once: normalised by the batch, one row or two that count at a step pass
    no gradient, and three may be so close to each other that the norm makes much of a rounding in half precision."""
    return 3 if case.by_batch else 1


def randomised(layer, scale=0.5):
    """Build `layer` and give every weight a random value: zeros would hide what reads them."""
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([w + scale * np.random.normal(size=w.shape).astype(w.dtype) for w in layer.get_weights()])
    for weight in layer.weights:
        if weight.name.endswith("variance"):
            weight.assign(ops.absolute(weight))
    return layer


def twin(case, layer, **options):
    """The same layer, same weights, with other options."""
    other = case.make(**options)
    other.build((BATCH, TIME, FEATURES))
    other.set_weights(layer.get_weights())
    return other


def automatic(case, layer, training, **options):
    """The layer with a loop and a gradient that are none of ours.

    In `keras.layers.RNN` each step draws its own noise, so that a layer with chance is held in training against itself
    unrolled, freshly made: it draws what the same seed gave to `layer`, and the backend differentiates its steps.
    So is one that normalises by the batch, whose cell in a `keras.layers.RNN` would not see the mask, and one whose
    output is not its first state, on JAX: there Keras' loop repeats that state at a masked step.
    """
    if ((case.chance or case.by_batch) and training) or (not case.output_is_state and keras.backend.backend() == "jax"):
        return twin(case, layer, **{**options, "unroll": True})
    return keras.layers.RNN(layer.cell, **options)


def settings(config):
    """A configuration without the shapes that the cells in it were built with."""
    if not isinstance(config, dict):
        return [settings(part) for part in config] if isinstance(config, list) else config
    return {name: settings(value) for name, value in config.items() if name != "build_config"}


def arrays(tensors):
    return [ops.convert_to_numpy(t) for t in keras.tree.flatten(tensors)]


@each_layer
def test_stepping_equals_the_whole_sequence(case):
    x, layer = sequences(), randomised(case.make(return_sequences=True, return_state=True))
    whole, *final = arrays(layer(x))
    states = layer.cell.get_initial_state(BATCH)
    for t in range(TIME):
        output, states = layer.cell(x[:, t], states)
        np.testing.assert_allclose(ops.convert_to_numpy(output), whole[:, t], **CLOSE)
    for stepped, state in zip(arrays(states), final, strict=True):
        np.testing.assert_allclose(stepped, state, **CLOSE)


OPTIONS = (
    {},
    {"return_sequences": True, "return_state": True},
    {"go_backwards": True, "return_sequences": True},
    {"unroll": True, "return_state": True},
    {"return_sequences": True, "zero_output_for_mask": True},
)


@each_layer
@pytest.mark.parametrize("training", [False, True])
def test_the_loop_equals_keras_rnn_over_the_same_cell(case, training):
    x = sequences()
    for options in OPTIONS[:2] if training else OPTIONS:
        layer = randomised(case.make(**options))
        peer = automatic(case, layer, training, **options)
        for mask in (None, MASK):
            expected = arrays(peer(x, mask=mask, training=training))
            for ours, theirs in zip(arrays(layer(x, mask=mask, training=training)), expected, strict=True):
                np.testing.assert_allclose(ours, theirs, **CLOSE)


@each_layer
def test_masked_steps_leave_the_states_alone(case):
    x, layer = sequences(), randomised(case.make(return_sequences=True, return_state=True))
    outputs, *final = arrays(layer(x, mask=MASK))
    for row in range(BATCH):
        kept = x[row : row + 1, MASK[row]]
        if kept.shape[1] == 0:
            for state, start in zip(final, arrays(layer.cell.get_initial_state(1)), strict=True):
                np.testing.assert_allclose(state[row], start[0], **CLOSE)
            continue
        short, *short_final = arrays(layer(kept))
        np.testing.assert_allclose(outputs[row, MASK[row]], short[0], **CLOSE)
        for state, short_state in zip(final, short_final, strict=True):
            np.testing.assert_allclose(state[row], short_state[0], **CLOSE)


@each_layer
def test_a_changed_masked_input_changes_nothing(case):
    x, layer = sequences(), randomised(case.make(return_sequences=True))
    other = np.where(MASK[..., None], x, 1e3).astype("float32")
    np.testing.assert_array_equal(*[arrays(layer(one, mask=MASK))[0] for one in (x, other)])


@each_layer
def test_go_backwards_is_the_reversed_sequence(case):
    x, layer = sequences(), randomised(case.make(return_sequences=True))
    back = twin(case, layer, return_sequences=True, go_backwards=True)
    np.testing.assert_allclose(arrays(back(x))[0], arrays(layer(x[:, ::-1].copy()))[0], **CLOSE)


@each_layer
def test_initial_state_continues_a_sequence(case):
    x, layer = sequences(), randomised(case.make(return_sequences=True, return_state=True))
    whole, *final = arrays(layer(x))
    _, *middle = layer(x[:, :3])
    rest, *end = arrays(layer(x[:, 3:], initial_state=middle))
    np.testing.assert_allclose(rest, whole[:, 3:], **CLOSE)
    for one, other in zip(end, final, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


@each_layer
def test_stateful_continues_and_reset_starts_afresh(case):
    x, plain = sequences(), randomised(case.make(return_sequences=True))
    layer = twin(case, plain, return_sequences=True, stateful=True)
    whole = arrays(plain(x))[0]
    first = arrays(layer(x[:, :3]))[0]
    np.testing.assert_allclose(np.concatenate([first, arrays(layer(x[:, 3:]))[0]], axis=1), whole, **CLOSE)
    layer.reset_state()
    np.testing.assert_allclose(arrays(layer(x[:, :3]))[0], first, **CLOSE)


@each_layer
def test_bidirectional_joins_both_directions(case):
    x = sequences()
    both = keras.layers.Bidirectional(case.make(return_sequences=True))
    randomised(both)
    forward = twin(case, both.forward_layer, return_sequences=True)
    backward = twin(case, both.backward_layer, return_sequences=True)
    expected = np.concatenate([arrays(forward(x))[0], arrays(backward(x[:, ::-1].copy()))[0][:, ::-1]], axis=-1)
    np.testing.assert_allclose(arrays(both(x))[0], expected, **CLOSE)


@each_layer
def test_bidirectional_takes_the_steps_that_the_mask_leaves_in_both_directions(case):
    x, both = sequences(), keras.layers.Bidirectional(case.make(return_sequences=True, return_state=True))
    randomised(both)
    outputs, *final = arrays(both(x, mask=MASK))
    for row in range(BATCH - 1):
        short, *short_final = arrays(both(x[row : row + 1, MASK[row]]))
        np.testing.assert_allclose(outputs[row, MASK[row]], short[0], **CLOSE)
        for state, short_state in zip(final, short_final, strict=True):
            np.testing.assert_allclose(state[row], short_state[0], **CLOSE)


@each_layer
@pytest.mark.on_tensorflow
@pytest.mark.parametrize("training", [False, True])
def test_a_known_number_of_steps_stays_known(case, training):
    import tensorflow as tf

    layer = randomised(case.make(return_sequences=True))
    traced = tf.function(lambda x: layer(x, training=training))
    spec = tf.TensorSpec((None, TIME, FEATURES))
    assert traced.get_concrete_function(spec).output_shapes[1] == TIME


@each_layer
def test_open_batch_and_time_take_any_size(case):
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, case.make(return_sequences=True)(inputs))
    assert model.output_shape[:2] == (None, None)
    for batch, time in ((1, 1), (4, 9)):
        x = np.random.normal(size=(batch, time, FEATURES)).astype("float32")
        assert model.predict(x, verbose=0).shape[:2] == (batch, time)


@each_layer
def test_a_saved_model_answers_the_same(case, tmp_path):
    inputs = keras.Input((TIME, FEATURES))
    options = {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True}
    model = keras.Model(inputs, randomised(case.make(**options))(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert settings(loaded.layers[1].get_config()) == settings(model.layers[1].get_config())
    x = sequences()
    np.testing.assert_allclose(arrays(loaded(x))[0], arrays(model(x))[0], **CLOSE)


_ALSO = pytest.mark.slow  # nothing in it that the others lack


@each_layer
@pytest.mark.parametrize(
    ("mask", "return_sequences"),
    [
        pytest.param(None, False, id="unmasked-last"),
        pytest.param(MASK, True, id="masked-sequences"),
        pytest.param(None, True, id="unmasked-sequences", marks=_ALSO),
        pytest.param(MASK, False, id="masked-last", marks=_ALSO),
    ],
)
def test_gradients_equal_automatic_differentiation(case, mask, return_sequences):
    x = np.concatenate([sequences() for _ in range(times_rows(case))])
    mask = None if mask is None else np.tile(mask, (times_rows(case), 1))
    layer = randomised(case.make(return_sequences=return_sequences))
    peer = automatic(case, layer, training=True, return_sequences=return_sequences)
    peer.build(x.shape)
    cotangent = np.random.normal(size=layer.compute_output_shape(x.shape)).astype("float32")
    call = {} if mask is None else {"mask": mask}
    # Sums over batch and time in another order than automatic differentiation takes them.
    close = {"rtol": 1e-4, "atol": 1e-5}
    ours, theirs = gradients(layer, x, cotangent, **call), gradients(peer, x, cotangent, **call)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(other).max() > 1e-3  # a gradient that is zero anyway would show nothing
        np.testing.assert_allclose(one, other, **close)


@pytest.mark.on_tensorflow  # only there does Keras multiply float64 matrices in float64
@pytest.mark.parametrize("case", [case for case in cases.LAYERS if not case.spikes], ids=str)  # a spike has no slope
def test_gradients_equal_float64_differences_along_random_directions(case):
    x = np.concatenate([sequences("float64") for _ in range(times_rows(case))])
    mask = np.tile(MASK, (times_rows(case), 1))
    layer = randomised(case.make(return_sequences=True, dtype="float64"))
    cotangent = np.random.normal(size=layer.compute_output_shape(x.shape))
    frozen = {id(weight) for weight in layer.non_trainable_weights}
    held = [id(weight) in frozen for weight in layer.weights]

    def fresh():  # draws what the same seed gives first
        return twin(case, layer, return_sequences=True, dtype="float64")

    def moved(step, direction):
        one, (dx, *dw) = fresh(), [step * part for part in direction]
        dw = iter(dw)
        one.set_weights([w if stays else w + next(dw) for w, stays in zip(one.get_weights(), held, strict=True)])
        return (arrays(one(x + dx, mask=mask, training=True))[0] * cotangent).sum()

    ours = gradients(fresh(), x, cotangent, mask=mask)
    for _ in range(3):
        direction = [np.random.normal(size=gradient.shape) for gradient in ours]
        slope = (moved(1e-6, direction) - moved(-1e-6, direction)) / 2e-6
        expected = sum((gradient * part).sum() for gradient, part in zip(ours, direction, strict=True))
        # central differences in float64: rounding of 1e-16 of sums near 100 over the step, and a curvature of 1e-12
        assert abs(slope) > 1e-2
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-6)


@each_layer
def test_the_gradient_of_an_initial_state_flows(case):
    """As in an encoder-decoder: the decoder's loss must reach the encoder through the states."""
    x = sequences()
    inputs = keras.Input((TIME, FEATURES))
    _, *states = case.make(return_state=True, name="encoder")(inputs)
    model = keras.Model(inputs, case.make(name="decoder")(inputs[:, :2], initial_state=states))
    cotangent = np.ones(model(x).shape, "float32")
    only_encoded = gradients(model, x, cotangent)[0][:, 2:]  # inputs that the decoder does not see
    assert np.abs(only_encoded).max() > 1e-4


@each_layer
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_in_half_and_keeps_weights_in_float32(case, dtype):
    x = np.concatenate([sequences() for _ in range(times_rows(case))])
    layer = randomised(case.make(return_sequences=True))
    half = twin(case, layer, return_sequences=True, dtype=dtype)
    assert {v.dtype for v in half.weights} == {"float32"}
    for training in (False, True):
        output = half(x, training=training)
        assert keras.backend.standardize_dtype(output.dtype) == dtype.removeprefix("mixed_")
        # chance: drawn in float32 by both from the same seed
        got, expected = arrays(ops.cast(output, "float32"))[0], arrays(layer(x, training=training))[0]
        if case.spikes:  # a voltage within 0.01 of a threshold, one in a hundred, may be on its other side
            assert np.mean(got != expected) < 0.1
        else:  # bfloat16 has 8 bits of mantissa: steps of 1/256 near 1, a few of them after seven steps
            # normalised by the batch, a rounding is divided by a deviation of a tenth, and goes on from step to step
            # outputs that add up beyond 1 are rounded in larger steps
            atol = (0.15 if training and case.by_batch else 0.03) * max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(got, expected, atol=atol)


@each_layer
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_gradients_in_mixed_precision_point_where_those_of_float32_do(case, dtype):
    if case.spikes:
        pytest.skip("a spike more or less, by rounding, is another gradient")
    x = np.concatenate([sequences() for _ in range(times_rows(case))])
    layer = randomised(case.make(return_sequences=True))
    half = twin(case, layer, return_sequences=True, dtype=dtype)
    cotangent = np.random.normal(size=layer.compute_output_shape(x.shape)).astype("float32")
    for got, expected in zip(*[gradients(each, x, cotangent) for each in (half, layer)], strict=True):
        assert got.dtype == np.float32  # of a float32 input and of the variables
        error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
        # bfloat16 has 3 bits of mantissa less; normalised by the batch, a rounding is divided by a deviation of a tenth
        assert error < (0.02 if dtype == "mixed_float16" else 0.2) * (3 if case.by_batch else 1)


@each_layer
def test_training_lowers_the_loss_compiled_or_not(case):
    x = sequences()
    y = x.mean(axis=(1, 2))[:, None]
    # "auto" compiles on JAX, where the step by step alternative is of no use, and not on torch
    for jit_compile in (False, True) if keras.backend.backend() == "tensorflow" else ("auto",):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((TIME, FEATURES)), case.make(), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.03), "mse", jit_compile=jit_compile)
        jumpy = case.chance or case.spikes  # one loss says little
        losses = model.fit(x, y, epochs=40 if jumpy else 12, verbose=0).history["loss"]
        last = np.mean(losses[-3:]) if jumpy else losses[-1]
        assert last < 0.5 * losses[0]


@each_layer
def test_chance_acts_in_training_only_and_a_seed_repeats_it(case):
    x, layer = sequences(), randomised(case.make(return_sequences=True))
    first, second, calm = [arrays(layer(x, training=training))[0] for training in (True, True, False)]
    repeated = twin(case, layer, return_sequences=True)
    np.testing.assert_allclose(arrays(repeated(x))[0], calm, **CLOSE)
    np.testing.assert_allclose(arrays(repeated(x, training=True))[0], first, **CLOSE)  # not moved on by the inference
    assert case.chance == (np.abs(first - second).max() > 0.01)
    assert (case.chance or case.by_batch) == (np.abs(first - calm).max() > 0.01)


@each_layer
@pytest.mark.slow  # test_checkpoint.py tests the loop; here that no cell needs more than it keeps
def test_checkpoints_change_no_gradient(case):
    x, options = sequences(), {"return_sequences": True}
    layer = randomised(case.make(**options, checkpoint_every=3))
    cotangent = np.random.normal(size=layer.compute_output_shape(x.shape)).astype("float32")
    ours, plain = [gradients(one, x, cotangent, mask=MASK) for one in (layer, twin(case, layer, **options))]
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # float32 sums in another order
