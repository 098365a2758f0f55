"""Learning from a stream, one step at a time: the right gradient, no memory of the past, and after what drifts."""

import keras
import memory
import numpy as np
import pytest

from zoo import layers
from zoo.errors import DataError, SettingError
from zoo.train import OnlineLearner

FEATURES = 2


def network(layer, readout=None):
    keras.utils.set_random_seed(1)
    readout = readout or keras.layers.Dense(1)
    return layer, readout, keras.Sequential([keras.Input((None, FEATURES)), layer, readout])


def stream(steps, seed=0):
    x = np.random.default_rng(seed).normal(size=(steps, FEATURES)).astype("float32")
    y = np.zeros((steps, 1), "float32")
    for t in range(1, steps):  # what the sum of the inputs was, fading
        y[t] = 0.8 * y[t - 1] + 0.3 * x[t - 1].sum()
    return x, y


@pytest.mark.parametrize(
    "layer",
    [layers.IndRNN(4, activation="tanh", return_sequences=True), layers.PeepholeLSTM(4, return_sequences=True)],
    ids=["IndRNN", "PeepholeLSTM"],
)
def test_the_steps_together_are_backpropagation_through_the_whole_stream(layer):
    """With a learning rate so small that the weights stand still, they move by the sum of the gradients."""
    x, y = stream(12)
    layer, readout, model = network(layer)
    start, rate = model.get_weights(), 1e-4
    OnlineLearner(layer.cell, readout, optimizer=keras.optimizers.SGD(rate)).partial_fit(x, y)
    online = [(before - after) / rate for before, after in zip(start, model.get_weights(), strict=True)]
    model.set_weights(start)
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.train_on_batch(x[None], y[None])
    whole = [12 * (before - after) / rate for before, after in zip(start, model.get_weights(), strict=True)]
    for one, other in zip(online, whole, strict=True):
        # the weights move by about a thousandth meanwhile, and are rounded to 1e-7 at each step
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02 * np.abs(other).max())
        assert np.abs(other).max() > 0.01


def test_steps_without_a_target_count_in_the_gradient_of_later_ones():
    x, y = stream(8)
    layer, readout, model = network(layers.MinGRU(4, return_sequences=True))
    start, rate = model.get_weights(), 0.1
    learner = OnlineLearner(layer.cell, readout, optimizer=keras.optimizers.SGD(rate))
    skipped = learner.predict(x[:7])
    learner.partial_fit(x[7:], y[7:])
    online = model.get_weights()
    model.set_weights(start)
    np.testing.assert_allclose(skipped, model.predict_on_batch(x[None])[0, :7], atol=1e-5)
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.train_on_batch(x[None], y[None], sample_weight=8.0 * (np.arange(8) == 7)[None])  # the last step alone
    for one, other, before in zip(online, model.get_weights(), start, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        assert np.abs(other - before).max() > 1e-4


@pytest.mark.parametrize("deep", [False, True], ids=["Dense", "a model"])
def test_it_answers_before_it_learns_and_the_model_learns_with_it(deep):
    x, y = stream(5)
    readout = keras.Sequential([keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]) if deep else None
    layer, readout, model = network(layers.IndRNN(4, return_sequences=True), readout)
    expected, start = model.predict_on_batch(x[None])[0], model.get_weights()
    learner = OnlineLearner(layer.cell, readout)
    first = learner.partial_fit(x[:1], y[:1])
    np.testing.assert_allclose(first, expected[:1], atol=1e-6)
    assert any(np.any(one != other) for one, other in zip(start, model.get_weights(), strict=True))
    learner.reset()
    np.testing.assert_allclose(learner.predict(x), model.predict_on_batch(x[None])[0], atol=1e-5)


def test_it_follows_a_drift_that_a_frozen_model_does_not():
    x, y = stream(600)
    y = y + 2 * np.clip((np.arange(600)[:, None] - 400) / 100, 0, 1).astype("float32")  # the sensor's zero wanders off
    layer, readout, model = network(layers.IndRNN(8, activation="tanh", return_sequences=True))
    learner = OnlineLearner(layer.cell, readout, optimizer=keras.optimizers.SGD(0.05, global_clipnorm=1.0))
    learner.partial_fit(x[:400], y[:400])
    frozen = model.predict_on_batch(x[None])[0]
    followed = learner.partial_fit(x[400:], y[400:])
    before, after = np.square(frozen - y)[200:400].mean(), np.square(frozen - y)[-100:].mean()
    assert before < 0.5 * y[:400].var() and after > 10 * before
    assert np.square(followed[-100:] - y[-100:]).mean() < 0.1 * after


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stream():
    few, many = memory.printed_by(
        """
        import keras, numpy as np
        from zoo import layers
        from zoo.train import OnlineLearner
        layer, readout = layers.IndRNN(64, return_sequences=True), keras.layers.Dense(1)
        keras.Sequential([keras.Input((None, 8)), layer, readout])
        learner = OnlineLearner(layer.cell, readout)
        def go_on(steps):
            for _ in range(steps // 10):
                learner.partial_fit(np.ones((10, 8)), np.zeros((10, 1)))
        go_on(100)
        for steps in (100, 5000):
            print(growth(lambda: go_on(steps)))
        """
    )
    assert many < few + 10  # megabytes: what an allocator keeps back; 5,000 influences would be 12


def test_what_does_not_fit_is_refused_and_nothing_is_learnt():
    x, y = stream(5)
    layer, readout, model = network(layers.IndRNN(4, return_sequences=True))
    learner, start = OnlineLearner(layer.cell, readout), model.get_weights()
    spoilt = np.where(np.arange(5)[:, None] == 3, np.nan, y)
    for given, said in [
        ((x, y[:4]), "x has 5 steps and y 4"),
        ((x[:, :1], y), r"x has the shape \(5, 1\).*\(time, 2\)"),
        ((x, y[:, 0]), r"y has the shape \(5,\).*\(time, 1\)"),
        ((x, spoilt), "y has a NaN or infinity at step 3.*predict"),
    ]:
        with pytest.raises(DataError, match=said):
            learner.partial_fit(*given)
    with pytest.raises(DataError, match="x has a NaN"):
        learner.predict(x * np.inf)
    for one, other in zip(start, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(SettingError, match="readout is a Dense; expected a built layer"):
        OnlineLearner(layer.cell, keras.layers.Dense(1))


def test_learning_that_diverges_stops_before_the_weights_are_lost():
    x, y = stream(200)
    layer, readout, model = network(layers.IndRNN(4, return_sequences=True))
    learner = OnlineLearner(layer.cell, readout, optimizer=keras.optimizers.SGD(1e6))
    with pytest.raises(SettingError, match="diverged; lower the learning rate"):
        learner.partial_fit(1e6 * x, 1e6 * y)
    assert all(np.isfinite(each).all() for each in model.get_weights())
