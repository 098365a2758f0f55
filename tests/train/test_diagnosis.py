"""Everything that can go wrong is brought about and found, with its layer; a healthy run raises nothing."""

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from zoo import layers, train
from zoo.errors import ZooWarning
from zoo.train import probes

STEPS = 40


def data(rows=64, seed=0):
    """Sequences, and the mean of their last five steps, which every network here can learn."""
    x = np.random.default_rng(seed).normal(size=(rows, STEPS, 2)).astype("float32")
    return x, x[:, -5:].mean(axis=(1, 2))[:, None]


def network(layer, *more):
    return keras.Sequential([keras.Input((STEPS, 2)), layer, *more, keras.layers.Dense(1, name="answer")])


def fit(model, x=None, y=None, *, epochs=3, rate=0.005, validation=None, loss="mse", callbacks=(), **options):
    """Train; return the `Diagnosis`, after checking that each finding was a warning too."""
    given = data()
    batches = train.ArrayBatches(given[0] if x is None else x, given[1] if y is None else y, batch_size=16, seed=0)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss)
    diagnosis = train.Diagnosis(**options)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ZooWarning)
        model.fit(
            batches,
            epochs=epochs,
            validation_data=validation or data(seed=1),
            callbacks=train.together(batches, diagnosis, *callbacks),
            verbose=0,
            shuffle=False,
        )
    assert [str(each.message) for each in warned if each.category is ZooWarning] == list(map(str, diagnosis.findings))
    return diagnosis


def kinds(diagnosis):
    return [(one.kind, one.where) for one in diagnosis.findings]


def test_a_healthy_run_raises_nothing(tmp_path):
    diagnosis = fit(network(keras.layers.LSTM(8, name="reader")), epochs=8, rate=0.02, path=tmp_path / "found.json")
    assert kinds(diagnosis) == []
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["findings"] == [] and list(found["measured"]) == ["1", "2", "4", "8"]
    assert len(found["measured"]["8"]["lags"]["reader"]) == STEPS


def test_watching_changes_nothing_of_the_training():
    def weights(*callbacks):
        keras.utils.set_random_seed(3)
        noisy = keras.layers.LSTM(4, dropout=0.3, recurrent_dropout=0.3, seed=1)
        model = network(noisy, keras.layers.BatchNormalization(), keras.layers.Dropout(0.4, seed=2))
        x, y = data()
        batches = train.ArrayBatches(x, y, batch_size=16, seed=0)
        model.compile("adam", "mse")
        model.fit(batches, epochs=2, callbacks=train.together(batches, *callbacks), verbose=0, shuffle=False)
        return model.get_weights()

    for one, other in zip(weights(), weights(train.Diagnosis()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_curve_by_lag_is_that_of_the_formula():
    """h[t] = tanh(h[t-1] u + x[t] w): dL/dh[t-1] = (1 - h[t]^2) u dL/dh[t], in NumPy."""
    model = network(keras.layers.SimpleRNN(3, name="reader"))
    model.compile("sgd", "mse")
    x, y = data(5)
    w, u, b, out, bias = model.get_weights()
    hidden = [np.zeros((5, 3))]
    for step in range(STEPS):
        hidden.append(np.tanh(x[:, step] @ w + hidden[-1] @ u + b))
    gradient = 2 * (hidden[-1] @ out + bias - y) @ out.T / 5
    expected = []
    for state in hidden[:0:-1]:
        expected.append(np.linalg.norm(gradient, axis=1).mean())
        gradient = (gradient * (1 - state**2)) @ u.T
    seen = probes.measure(model, x, y)
    np.testing.assert_allclose(seen["lags"]["reader"], expected, rtol=1e-3, atol=1e-9)  # float32 over 40 steps
    np.testing.assert_allclose(seen["outputs"]["reader"], np.stack(hidden[1:], axis=1), atol=1e-5)
    assert seen["loss"] == pytest.approx(np.mean((hidden[-1] @ out + bias - y) ** 2), rel=1e-4)


@pytest.mark.parametrize("both", [False, True])
def test_the_lag_counts_from_the_last_step_that_is_not_padding(both):
    tokens = keras.Input((6,))
    x = keras.layers.Embedding(9, 3, mask_zero=True)(tokens)
    layer = keras.layers.GRU(3, name="reader")
    x = keras.layers.Bidirectional(layer, name="both")(x) if both else layer(x)
    model = keras.Model(tokens, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    long, short = np.array([[3, 1, 4, 2, 0, 0]]), np.array([[3, 1, 4, 2]])
    padded = probes.measure(model, long, np.ones((1, 1)))
    assert list(padded["lags"]) == (["both/forward_reader", "both/backward_reader"] if both else ["reader"])
    curve = padded["lags"]["both/forward_reader" if both else "reader"]
    assert len(curve) == 4 and (curve > 0).all()
    exact = keras.Model(tokens, model.output)
    assert padded["loss"] == pytest.approx(float(np.mean((exact.predict(long, verbose=0) - 1) ** 2)), rel=1e-4)
    assert short.shape == (1, 4)


def test_gradients_that_vanish_are_found():
    weak = keras.layers.SimpleRNN(4, recurrent_initializer=keras.initializers.Identity(0.001), name="reader")
    assert ("vanishing", "reader") in kinds(fit(network(weak), epochs=1, rate=1e-5))


def test_gradients_that_explode_are_found():
    strong = keras.layers.SimpleRNN(
        4, "linear", kernel_initializer="zeros", recurrent_initializer=keras.initializers.Identity(1.3), name="reader"
    )
    found = fit(network(strong), epochs=1, rate=0.0)
    assert ("exploding", "reader") in kinds(found)
    (figure,) = [one.figure for one in found.findings if one.kind == "exploding"]
    assert figure == pytest.approx(1.3**36, rel=1e-3)  # of four steps to the other four, 36 lags away


ZOO = {
    "PeepholeLSTM": {},
    "LayerNormLSTM": {},
    "ZoneoutLSTM": {"cell_rate": 0.1, "hidden_rate": 0.1},
    "FastGRNN": {},
}


def make(name):
    owner = layers if name in ZOO else keras.layers
    return getattr(owner, name)(4, **ZOO.get(name, {}), name="reader")


@pytest.mark.parametrize("name", ["LSTM", "GRU", *ZOO])
def test_saturated_gates_are_found_and_open_ones_are_not(name):
    model, sigmoid = network(make(name)), ops.sigmoid
    assert "saturated" not in [kind for kind, _ in kinds(fit(model, epochs=1, rate=0.0))]
    for weight in model.get_layer("reader").weights:
        if "bias" in weight.name:
            weight.assign(np.full(weight.shape, 9.0))
    assert ("saturated", "reader") in kinds(fit(model, epochs=1, rate=0.0))
    assert ops.sigmoid is sigmoid


def test_a_recurrent_layer_of_pictures_is_looked_into():
    x = np.random.default_rng(0).normal(size=(16, 6, 5, 5, 1)).astype("float32")
    y = x[:, 3].mean(axis=(1, 2))
    more = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((6, 5, 5, 1)), keras.layers.ConvLSTM2D(2, 3, name="reader"), *more])
    found = fit(model, x, y, epochs=1, validation=(x, y))
    assert kinds(found) == [] and len(found.measured["1"]["lags"]["reader"]) == 6


def test_dead_units_are_found():
    dead = keras.layers.SimpleRNN(4, "relu", bias_initializer=keras.initializers.Constant(-50.0), name="reader")
    assert ("dead", "reader") in kinds(fit(network(dead), epochs=1))


def test_features_that_are_not_scaled_are_found_before_the_first_step():
    x, y = data()
    (found,) = [
        one for one in fit(network(keras.layers.GRU(4, name="reader")), x * [1, 300], y).findings if one.epoch == 1
    ][:1]
    assert (found.kind, found.where) == ("unscaled", "reader") and found.figure == pytest.approx(300, rel=0.1)
    scaled = keras.Sequential(
        [keras.Input((STEPS, 2)), keras.layers.BatchNormalization(), keras.layers.GRU(4), keras.layers.Dense(1)]
    )
    assert "unscaled" not in [kind for kind, _ in kinds(fit(scaled, x * [1, 300], y, epochs=1))]


def test_a_look_back_that_is_too_short_is_found_where_it_could_be_longer():
    def summing():
        return keras.layers.SimpleRNN(2, "linear", recurrent_initializer="identity", name="reader")  # forgets nothing

    assert ("short_look_back", "reader") in kinds(fit(network(summing()), epochs=1, rate=0.0, look_back=True))
    assert "short_look_back" not in [kind for kind, _ in kinds(fit(network(summing()), epochs=1, rate=0.0))]


def test_overfitting_is_found():
    random = np.random.default_rng(5)
    x, y = random.normal(size=(16, STEPS, 2)), random.normal(size=(16, 1))  # nothing to learn but by heart
    found = fit(network(keras.layers.GRU(32)), x, y, epochs=40, rate=0.05, validation=(x[::-1] + 1, y))
    assert "overfitting" in [kind for kind, _ in kinds(found)]


def test_a_validation_curve_that_stands_still_is_found():
    found = fit(network(keras.layers.GRU(4)), epochs=8, rate=0.0)
    assert kinds(found) == [("stalled", "")] and found.findings[0].figure == 5


class Poison(keras.callbacks.Callback):
    """Keeps the weights as they were at the start of each batch, for a test to compare with."""

    def on_train_batch_begin(self, batch, logs=None):
        self.batch, self.before = batch, self.model.get_weights()


def assert_stopped(model, diagnosis, where, why, batch=None):
    (found,) = [one for one in diagnosis.findings if one.kind == "not_finite"]
    assert found.where == where and why in str(found), found
    assert all(np.isfinite(one).all() for one in model.get_weights())
    if batch is not None:
        assert found.figure == batch


def test_inputs_that_are_not_finite_stop_training_at_their_batch():
    x, y = data()
    x[7, 3, 1] = np.nan
    batches = train.ArrayBatches(x, y, batch_size=16, seed=0)
    bad = next(index for index in range(4) if np.isnan(batches[index][0]).any())
    model, poison = network(keras.layers.GRU(4, name="reader")), Poison()
    diagnosis = fit(model, x, y, callbacks=[poison])
    assert_stopped(model, diagnosis, "the output of reader", "the inputs hold NaN", bad + 1)
    assert poison.batch == bad  # no batch after it
    for one, other in zip(poison.before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)  # the weights from before that batch


def test_targets_that_are_not_finite_are_named():
    x, y = data()
    y[3] = np.inf
    model = network(keras.layers.GRU(4))
    assert_stopped(model, fit(model, x, y), "the loss", "the targets hold NaN")


def test_steps_that_are_too_long_are_named():
    model = network(keras.layers.SimpleRNN(4, "relu", recurrent_initializer=keras.initializers.Identity(1.5)))
    diagnosis = fit(model, rate=1e4, epochs=5)
    (found,) = [one for one in diagnosis.findings if one.kind == "not_finite"]
    assert "lower the learning rate" in found.remedy
    assert all(np.isfinite(one).all() for one in model.get_weights())


def test_a_slope_that_is_not_finite_is_named_with_its_layer():
    class Root(keras.layers.Layer):
        def call(self, inputs):
            return ops.sqrt(ops.abs(inputs) * 0.0)  # 0 everywhere, with a slope that is no number

    model = keras.Sequential(
        [keras.Input((STEPS, 2)), keras.layers.GRU(4, name="reader"), Root(), keras.layers.Dense(1, name="answer")]
    )
    diagnosis = fit(model)
    (found,) = [one for one in diagnosis.findings if one.kind == "not_finite"]
    assert found.figure == 1 and "slope" in str(found) and "reader" in found.where


def test_every_finding_says_figure_limit_source_and_remedy():
    found = fit(network(keras.layers.GRU(4)), epochs=8, rate=0.0).findings[0]
    assert found.as_dict().keys() >= {"figure", "limit", "source", "remedy", "where", "epoch"}
    assert "Prechelt" in found.source and found.limit == 5
    assert str(found).startswith("stalled: the validation loss has had no new best for 5 epochs (limit 5). Stop here")


def test_findings_survive_an_interruption():
    diagnosis = fit(network(keras.layers.GRU(4)), epochs=8, rate=0.0)
    again = train.Diagnosis()
    again.set_state(diagnosis.get_state())
    assert again.findings == diagnosis.findings and again.measured == diagnosis.measured


def test_the_page_says_what_watching_costs():
    docs = Path(__file__).parents[2] / "docs"
    words = " ".join((docs / "training.md").read_text().split())
    for backend, says in (("tensorflow", "as long on TensorFlow"), ("jax", "on JAX")):
        measured = json.loads((docs / "results" / f"diagnosis_cost-{backend}.json").read_text())
        both = measured["seconds_of_all_epochs"]
        assert measured["ratio"] == pytest.approx(both["watched"] / both["alone"])
        assert f"{measured['ratio']:.2f} times {says}" in words
