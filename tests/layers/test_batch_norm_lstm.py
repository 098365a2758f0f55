"""LSTM with recurrent batch normalisation against its formula, its statistics against averages in NumPy."""

import keras
import numpy as np
import pytest
from gradients import finite_differences, gradients
from keras import ops
from numpy_rnn import sigmoid

from zoo.errors import SettingError
from zoo.layers import BatchNormLSTM, BatchNormLSTMCell, PeepholeLSTMCell, Recurrent, Zoneout

BATCH, TIME, FEATURES, UNITS = 5, 4, 3, 4
LENGTHS = np.array([4, 3, 4, 2, 3])
PADDED = np.arange(TIME) < LENGTHS[:, None]

each_form = pytest.mark.parametrize("steps", [None, 6], ids=["shared", "per step"])


def inputs(*shape):
    return np.random.normal(size=shape or (BATCH, TIME, FEATURES)).astype("float32")


def random_layer(steps, **options):
    """A layer with random weights and statistics, built for any length."""
    layer = BatchNormLSTM(UNITS, steps, **{"return_sequences": True, **options})
    layer.build((None, None, FEATURES))
    for weight in layer.weights:
        values = np.random.normal(size=weight.shape)
        weight.assign(0.5 + values**2 if "variance" in weight.name else values)
    return layer


def weights_of(layer):
    """The weights by name, in float64."""
    return {w.name: ops.convert_to_numpy(w).astype("float64") for w in layer.weights}


def moments(rows):
    return rows.mean(axis=0), rows.var(axis=0)


def formula(x, weights, mask=None, training=False, states=None, first=0):
    """The paper's equations: all outputs, and [(mean, variance) of the gates, of the cell state] for each step.

    weights by name; per step where there is a cell_scale. Rows count where mask is True; first: steps already taken.
    """
    w = weights
    h, c = np.zeros((2, len(x), UNITS)) if states is None else states
    per_step, outputs, seen = "cell_scale" in w, [], []

    def norm(values, name, t, keep):
        row = first + t if per_step else 0
        mean, variance = moments(values[keep]) if training else (w[f"{name}mean"][row], w[f"{name}variance"][row])
        return (values - mean) / np.sqrt(variance + 1e-5), (mean, variance)

    for t in range(x.shape[1]):
        keep = np.ones(len(x), bool) if mask is None else mask[:, t]
        both = np.concatenate([x[:, t] @ w["kernel"], h @ w["recurrent_kernel"]], axis=-1)
        normal, of_gates = norm(both, "", t, keep)
        from_x, from_h = np.split(normal * w["scale"], 2, axis=-1)
        i, f, g, o = np.split(from_x + from_h + w["bias"], 4, axis=-1)
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        shown, of_cell = new_c, None
        if per_step:
            shown, of_cell = norm(new_c, "cell_", t, keep)
            shown = shown * w["cell_scale"] + w["cell_bias"]
        h = np.where(keep[:, None], sigmoid(o) * np.tanh(shown), h)
        c = np.where(keep[:, None], new_c, c)
        outputs.append(h)
        seen.append((of_gates, of_cell))
    return np.stack(outputs, axis=1), seen


def assert_close(ours, expected, atol=1e-5):
    # float32 against float64: a norm divides by a deviation that can be a tenth of the values
    np.testing.assert_allclose(ops.convert_to_numpy(ours), expected, atol=atol)


@each_form
@pytest.mark.parametrize("mask", [None, PADDED], ids=["unmasked", "masked"])
@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_formula_of_the_paper(steps, mask, training):
    layer, x = random_layer(steps), inputs()
    expected, _ = formula(x.astype("float64"), weights_of(layer), mask, training)
    assert_close(layer(x, mask=mask, training=training), expected)


@pytest.mark.parametrize("go_backwards", [False, True])
@each_form
def test_statistics_are_the_average_over_the_batches_of_training(steps, go_backwards):
    """The moving average of what the formula saw; then inference with it, against the formula again."""
    layer = random_layer(steps, momentum=0.8, go_backwards=go_backwards)
    mask = None if go_backwards else PADDED  # backwards the padding would come first
    rows = np.full(TIME, BATCH) if mask is None else mask.sum(axis=0)
    order = slice(None, None, -1 if go_backwards else 1)
    expected = weights_of(layer)
    for _ in range(3):
        x = inputs()
        layer(x, mask=mask, training=True)
        _, seen = formula(x[:, order].astype("float64"), expected, mask, training=True)
        for which, name in enumerate(("", "cell_") if steps else ("",)):
            for part, statistic in enumerate(("mean", "variance")):
                table = expected[name + statistic]
                new = np.stack([step[which][part] for step in seen])
                if steps is None:
                    new = np.average(new, axis=0, weights=rows)[None]
                table[: len(new)] = 0.8 * table[: len(new)] + 0.2 * new
    for name, values in weights_of(layer).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4, rtol=1e-4, err_msg=name)  # as above, of squares
    x = inputs()
    assert_close(layer(x), formula(x[:, order].astype("float64"), expected)[0], atol=1e-4)


def test_steps_with_a_single_row_leave_their_statistics_alone():
    layer = random_layer(6)
    before = weights_of(layer)
    mask = np.ones((BATCH, TIME), bool)
    mask[1:, 2:] = False
    layer(inputs(), mask=mask, training=True)
    after = weights_of(layer)
    for name in ("mean", "variance", "cell_mean", "cell_variance"):
        np.testing.assert_array_equal(after[name][2:], before[name][2:])
        assert (after[name][:2] != before[name][:2]).all()


@each_form
def test_masked_rows_take_no_part_in_training(steps):
    layer, x = random_layer(steps), inputs()
    other = np.where(PADDED[..., None], x, 1e3).astype("float32")
    outputs, tables = [], []
    for one in (x, other):
        twin = BatchNormLSTM.from_config(layer.get_config())
        twin.build((None, None, FEATURES))
        twin.set_weights(layer.get_weights())
        outputs.append(ops.convert_to_numpy(twin(one, mask=PADDED, training=True)))
        tables.append(weights_of(twin))
    np.testing.assert_array_equal(*outputs)
    for name in tables[0]:
        np.testing.assert_array_equal(tables[0][name], tables[1][name], err_msg=name)


@each_form
def test_gradients_equal_finite_differences_through_the_moments_of_the_batch(steps):
    # Only on TensorFlow does Keras multiply float64 matrices in float64.
    dtype = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    layer = random_layer(steps, dtype=dtype)
    names = [w.name for w in layer.trainable_weights]
    weights, x = weights_of(layer), np.random.normal(size=(BATCH, TIME, FEATURES))
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS))

    def loss():
        return (formula(x, weights, PADDED, training=True)[0] * cotangent).sum()

    numeric = finite_differences(loss, [x, *(weights[name] for name in names)])
    ours = gradients(layer, x.astype(dtype), cotangent.astype(dtype), mask=PADDED)
    # Central differences in float64: rounding 1e-10 times the loss over the step, and curvature, which is that of
    # quotients here. In float32: sums near 1, divided by deviations of a tenth and less.
    rtol, atol = (1e-5, 1e-6) if dtype == "float64" else (2e-3, 2e-4)
    for one, other in zip(ours, numeric, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": False, "go_backwards": True}, {"return_state": True, "unroll": True}]
)
def test_shared_statistics_fold_into_a_plain_lstm(options):
    layer, x = random_layer(None, **options), inputs()
    plain = layer.fold()
    assert type(plain) is keras.layers.LSTM
    assert_close_all(plain(x, mask=PADDED), layer(x, mask=PADDED))
    assert type(layer.cell.fold()) is keras.layers.LSTMCell


def assert_close_all(ours, expected):
    for one, other in zip(keras.tree.flatten(ours), keras.tree.flatten(expected), strict=True):
        assert_close(one, ops.convert_to_numpy(other))


def test_the_folded_layer_keeps_every_option():
    options = {"go_backwards": True, "return_state": True, "zero_output_for_mask": True, "unroll": True}
    layer = random_layer(None, **options)
    plain = layer.fold().get_config()
    assert all(plain[name] == value for name, value in {**options, "return_sequences": True}.items())
    assert (plain["name"], plain["units"]) == (layer.name, UNITS)


def test_what_cannot_fold_says_so():
    with pytest.raises(SettingError, match="steps is 6; only statistics that all steps share"):
        random_layer(6).fold()
    with pytest.raises(SettingError, match="no weights yet"):
        BatchNormLSTM(UNITS).fold()
    cell = BatchNormLSTMCell(UNITS, steps=6)
    assert cell.fold() is cell
    assert (plain := PeepholeLSTMCell(UNITS)).fold() is plain


@pytest.mark.parametrize("checkpoint_every", [None, 3])
@each_form
def test_fit_is_all_that_prediction_needs(steps, checkpoint_every):
    """Without a batch's own statistics the trained model is as good, on data that it has not seen, compiled or not."""
    x = 3 * inputs(64, TIME, FEATURES) + 2  # far from what the statistics start at
    y = np.tanh(x.mean(axis=(1, 2)) - 2)[:, None]
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            BatchNormLSTM(8, steps, checkpoint_every=checkpoint_every),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.03), "mse")
    history = model.fit(x[:48], y[:48], batch_size=16, epochs=20, verbose=0).history["loss"]
    assert model.evaluate(x[48:], y[48:], verbose=0) < 0.3 * history[0]


def test_a_frozen_layer_uses_its_statistics_in_training_too():
    layer, x = random_layer(6), inputs()
    before, expected = weights_of(layer), ops.convert_to_numpy(layer(x))
    layer.trainable = False
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=True)), expected)
    assert all((before[name] == values).all() for name, values in weights_of(layer).items())


def test_checkpoints_give_the_same_statistics():
    x = inputs()
    layers = [BatchNormLSTM(UNITS, 6, checkpoint_every=every) for every in (None, 3)]
    for layer in layers:
        layer.build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    for layer in layers:
        layer(x, mask=PADDED, training=True)
    for one, other in zip(*[weights_of(layer).values() for layer in layers], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)  # float32


def test_half_precision_normalises_in_float32():
    """The squares of these inputs are past float16."""
    layer = BatchNormLSTM(UNITS, 6, return_sequences=True, dtype="mixed_float16")
    x = 1000 * inputs()
    output = ops.convert_to_numpy(layer(x, training=True))
    assert np.isfinite(output).all()
    variance = weights_of(layer)["variance"]
    assert np.isfinite(variance).all()
    assert variance.max() > 65504  # the largest number of float16


def too_long(layer):
    return pytest.raises(SettingError, match=rf"steps is 6, and layer {layer.name} received 7 time steps; expected")


def test_more_steps_than_statistics_is_an_error():
    layer = random_layer(6, return_state=True)
    for training in (False, True):
        with too_long(layer):
            layer(inputs(2, 7, FEATURES), training=training)
    *_, hidden, memory, step = layer(inputs(2, 4, FEATURES))
    layer(inputs(2, 2, FEATURES), initial_state=[hidden, memory, step])
    with too_long(layer):  # 4 and 3 more
        layer(inputs(2, 3, FEATURES), initial_state=[hidden, memory, step])
    with too_long(fresh := BatchNormLSTM(UNITS, 6)):
        fresh(keras.Input((7, FEATURES)))


def test_more_steps_than_statistics_is_an_error_in_a_compiled_model_of_any_length():
    model = keras.Sequential([keras.Input((None, FEATURES)), BatchNormLSTM(UNITS, 6)])
    assert np.isfinite(model.predict(inputs(2, 6, FEATURES), verbose=0)).all()
    error = SettingError
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        error = (SettingError, tf.errors.InvalidArgumentError)  # the second where the length is open in the program
    with pytest.raises(error, match=r"steps is 6"):
        model.predict(inputs(2, 7, FEATURES), verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNormLSTM(0), "units is 0"),
        (lambda: BatchNormLSTM(2.5), r"units is 2\.5"),
        (lambda: BatchNormLSTM(3, steps=0), "steps is 0"),
        (lambda: BatchNormLSTM(3, steps="9"), "steps is '9'"),
        (lambda: BatchNormLSTM(3, momentum=1), "momentum is 1; expected less"),
        (lambda: BatchNormLSTM(3, momentum=-0.1), r"momentum is -0\.1"),
        (lambda: BatchNormLSTM(3, steps=300, dtype="mixed_bfloat16"), "steps is 300; bfloat16 counts to 256"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_only_its_own_layer_trains_the_cell():
    layer = Recurrent(Zoneout(BatchNormLSTMCell(UNITS), {"cell": 0.1}))
    layer(inputs())
    with pytest.raises(SettingError, match="only a BatchNormLSTM can train"):
        layer(inputs(), training=True)
