"""Truncated back-propagation: whole where the window is, cut where it ends, and no larger for a longer sequence."""

import keras
import memory
import numpy as np
import pytest
from keras import ops

from zoo import layers
from zoo.errors import DataError, SettingError
from zoo.train import TruncatedBPTT

FEATURES, OUTPUTS = 3, 2
COMPILED = "auto" if keras.backend.backend() == "jax" else False  # on TensorFlow it would only take time
STACKS = {
    "LSTM": lambda: [keras.layers.LSTM(4, return_sequences=True)],
    "GRU, SimpleRNN": lambda: [
        keras.layers.GRU(4, return_sequences=True),
        keras.layers.LayerNormalization(),
        keras.layers.SimpleRNN(3, return_sequences=True),
    ],
    "RNN of cells": lambda: [
        keras.layers.RNN([keras.layers.GRUCell(3), keras.layers.LSTMCell(4)], return_sequences=True)
    ],
    "PeepholeLSTM, IndRNN": lambda: [
        layers.PeepholeLSTM(4, return_sequences=True),
        layers.IndRNN(5, return_sequences=True),
    ],
    "MinGRU": lambda: [layers.MinGRU(4, return_sequences=True)],
    "StackedCells": lambda: [
        layers.Recurrent(layers.StackedCells([layers.LSTMCell(3), layers.GRUCell(4)]), return_sequences=True)
    ],
}
each_stack = pytest.mark.parametrize("stack", STACKS)


def made(layers, steps=None):
    return keras.Sequential([keras.Input((steps, FEATURES)), *layers, keras.layers.Dense(OUTPUTS)])


def trained(stack, *, steps, streams):
    """A trainer and its model, with plain gradient descent: a step is then the gradient itself."""
    model = made(STACKS[stack]())
    trainer = TruncatedBPTT(model, steps=steps, streams=streams)
    trainer.compile(keras.optimizers.SGD(0.5), "mse", metrics=["mae"], jit_compile=COMPILED)
    return trainer, model


def sequences(*lengths):
    x = [np.random.normal(size=(n, FEATURES)).astype("float32") for n in lengths]
    return x, [np.cumsum(each[:, :OUTPUTS], axis=0) for each in x]


def assert_weights(model, expected, start):
    for got, wanted, before in zip(model.get_weights(), expected, start, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)  # float32 sums over steps in another order
        assert np.abs(wanted - before).max() > 1e-3


@pytest.mark.parametrize(("stack", "steps"), [*((stack, 9) for stack in STACKS), ("LSTM", 40)])
def test_a_window_of_the_whole_sequence_is_full_backpropagation(stack, steps):
    x, y = map(np.stack, sequences(9, 9, 9))
    trainer, model = trained(stack, steps=steps, streams=3)
    start = model.get_weights()
    trainer.fit(x, y, verbose=0)
    whole = keras.models.clone_model(model)
    whole.set_weights(start)
    whole.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=COMPILED)
    whole.train_on_batch(x, y)
    assert_weights(model, whole.get_weights(), start)


@pytest.mark.parametrize("stack", ["RNN of cells", "MinGRU"])
def test_sequences_of_unlike_length_are_full_backpropagation_over_their_own_steps(stack):
    x, y = sequences(9, 4, 7)
    trainer, model = trained(stack, steps=20, streams=3)
    start = model.get_weights()
    trainer.fit(x, y, verbose=0)
    whole = keras.models.clone_model(model)
    whole.set_weights(start)
    whole.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=COMPILED)
    padded = [np.stack([np.pad(one, ((0, 9 - len(one)), (0, 0))) for one in each]) for each in (x, y)]
    counts = np.arange(9) < np.array([[9], [4], [7]])
    whole.train_on_batch(*padded, sample_weight=counts * counts.size / counts.sum())
    assert_weights(model, whole.get_weights(), start)


def test_the_gradient_is_cut_at_the_border_and_the_state_is_not():
    """Against a model that is given its states: each window by itself, with the states that the last one left."""
    x, y = sequences(10, 3, 6)
    trainer, model = trained("LSTM", steps=2, streams=2)
    start = model.get_weights()

    inputs, states = keras.Input((None, FEATURES)), [keras.Input((4,)), keras.Input((4,))]
    outputs, *last = keras.layers.LSTM(4, return_sequences=True, return_state=True)(inputs, initial_state=states)
    by_window = keras.Model([inputs, *states], keras.layers.Dense(OUTPUTS)(outputs))
    stepper = keras.Model([inputs, *states], last)
    by_window.set_weights(start)
    by_window.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=COMPILED)
    now = [np.zeros((2, 4), "float32")] * 2
    # the second stream takes the sequence of 3 steps, then that of 6
    for places in [((0, 0), (1, 0)), ((0, 2), (1, 2)), ((0, 4), (2, 0)), ((0, 6), (2, 2)), ((0, 8), (2, 4))]:
        begins = np.array([[at[1] == 0] for at in places])
        now = [np.where(begins, 0, state) for state in now]
        window, target, counts = np.zeros((2, 2, FEATURES)), np.zeros((2, 2, OUTPUTS)), np.zeros((2, 2))
        for row, (sequence, step) in enumerate(places):
            part = x[sequence][step : step + 2]
            window[row, : len(part)], counts[row, : len(part)] = part, 1
            target[row, : len(part)] = y[sequence][step : step + 2]
        following = stepper.predict_on_batch([window, *now])
        by_window.train_on_batch([window, *now], target, sample_weight=counts * counts.size / counts.sum())
        now = following

    trainer.fit(x, y, verbose=0)
    assert_weights(model, by_window.get_weights(), start)


@each_stack
def test_answers_window_by_window_are_those_of_the_whole(stack):
    x, y = sequences(11, 4, 7, 1)
    trainer, model = trained(stack, steps=3, streams=2)
    answers = trainer.predict(x, verbose=0)
    for one, answer in zip(x, answers, strict=True):
        np.testing.assert_allclose(answer, model.predict_on_batch(one[None])[0], atol=1e-5)  # float32
    scores = trainer.evaluate(x, y, verbose=0, return_dict=True)
    errors = np.concatenate([np.abs(answer - one) for answer, one in zip(answers, y, strict=True)])
    assert scores["mae"] == pytest.approx(errors.mean(), rel=1e-4)  # no step of padding counts
    several = np.stack([x[0], x[0]])
    assert trainer.predict(several, verbose=0).shape == (2, 11, OUTPUTS)


class Forgetful(keras.layers.Layer):
    """A layer that lets no mask through."""

    def call(self, x):
        return 2.0 * x  # another tensor, without the mask of this one

    def compute_mask(self, inputs, previous_mask=None):
        return None


def test_padding_counts_in_no_score_even_if_the_model_loses_the_mask():
    x, y = sequences(7, 2)
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), keras.layers.LSTM(OUTPUTS, return_sequences=True), Forgetful()]
    )
    trainer = TruncatedBPTT(model, steps=3, streams=2)
    trainer.compile("sgd", "mse", metrics=["mae"], jit_compile=COMPILED)
    errors = [np.abs(model.predict_on_batch(one[None])[0] - other) for one, other in zip(x, y, strict=True)]
    scores = trainer.evaluate(x, y, verbose=0, return_dict=True)
    assert scores["mae"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-4)


@pytest.mark.parametrize("before", [[], [keras.layers.Conv1D(3, 1)]], ids=["", "behind a layer that ignores masks"])
def test_layers_see_no_padding(before):
    """A layer that normalises by the batch would feel it; held against the same rows, told of the mask directly."""
    x, y = sequences(6, 3)
    norm = layers.BatchNormLSTM(4, return_sequences=True)
    model = made([*before, norm])
    trainer = TruncatedBPTT(model, steps=6, streams=3)  # a stream without a sequence too
    trainer.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=COMPILED)
    twin = layers.BatchNormLSTM(4, return_sequences=True)
    twin.build((3, 6, FEATURES))
    twin.set_weights(norm.get_weights())
    padded = np.stack([np.pad(each, ((0, 6 - len(each)), (0, 0))) for each in [*x, x[0][:0]]])
    for layer in before:
        padded = layer(padded)
    twin(padded, mask=np.arange(6) < np.array([[6], [3], [0]]), training=True)
    trainer.fit(x, y, verbose=0)
    moved = {weight.path.split("/")[-1]: ops.convert_to_numpy(weight) for weight in norm.non_trainable_variables}
    assert moved and all(not layer.supports_masking and "compute_mask" not in vars(layer) for layer in before)
    for weight in twin.non_trainable_variables:
        np.testing.assert_allclose(
            moved[weight.path.split("/")[-1]], ops.convert_to_numpy(weight), rtol=1e-4, atol=1e-6
        )


def test_validation_leaves_training_alone_and_the_model_stays_a_plain_one(tmp_path):
    x, y = sequences(8, 5, 7)
    weights = []
    for more in ({}, {"validation_data": (x[:1], y[:1])}):
        keras.utils.set_random_seed(3)
        trainer, model = trained("PeepholeLSTM, IndRNN", steps=3, streams=2)
        trainer.compile("adam", "mse", jit_compile=COMPILED)
        history = trainer.fit(x, y, epochs=3, verbose=0, **more).history
        weights.append(model.get_weights())
    assert len(history["loss"]) == len(history["val_loss"]) == 3 and history["loss"][-1] < history["loss"][0]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(layer.stateful or layer.states for layer in model.layers[:2])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(x[0][None]), model.predict_on_batch(x[0][None]), atol=1e-6)


def test_tokens_are_read_and_classes_learnt():
    tokens = [np.random.randint(0, 5, n) for n in (30, 17)]
    inputs = keras.Input((None,), dtype="int32")
    hidden = keras.layers.GRU(8, return_sequences=True)(keras.layers.Embedding(5, 4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(hidden))
    trainer = TruncatedBPTT(model, steps=8, streams=2)
    trainer.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", jit_compile=COMPILED)
    before = [np.concatenate([[0], each[:-1]]) for each in tokens]  # to say what came one step ago
    losses = trainer.fit(tokens, before, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_weights_of_zero_take_steps_out_of_the_loss():
    x, y = sequences(6)
    spoilt = [np.where(np.arange(6)[:, None] < 4, 1e3, y[0])]
    trainer, model = trained("LSTM", steps=3, streams=1)
    start = model.get_weights()
    results = []
    for target in (y, spoilt):
        model.set_weights(start)
        trainer.fit(x, target, sample_weight=[(np.arange(6) >= 4).astype("float32")], verbose=0)
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_input_of_fixed_size_is_kept_to():
    x, y = sequences(7, 3)
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, 4, FEATURES)), keras.layers.GRU(3, return_sequences=True), keras.layers.Dense(2)]
    )
    trainer = TruncatedBPTT(model, steps=4, streams=2)
    trainer.compile("sgd", "mse", jit_compile=COMPILED)
    assert np.isfinite(trainer.fit(x, y, verbose=0).history["loss"][0])
    assert [len(each) for each in trainer.predict([each[:3] for each in x], verbose=0)] == [3, 3]
    for steps, streams, said in ((5, 2, "steps is 5"), (4, 3, "streams is 3")):
        with pytest.raises(SettingError, match=f"{said}.* fixes"):
            TruncatedBPTT(model, steps=steps, streams=streams)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_sequence():
    """100,000 steps; that plain back-propagation takes more for a tenth of them shows that memory is measured."""
    few, many, plain = memory.printed_by(
        """
        import keras, numpy as np
        from zoo.train import TruncatedBPTT
        model = keras.Sequential([keras.Input((None, 1)), keras.layers.LSTM(32, return_sequences=True)])
        trainer = TruncatedBPTT(model, steps=250, streams=4)
        trainer.compile("sgd", "mse", jit_compile=False)
        model.compile("sgd", "mse", jit_compile=False)
        def data(steps):  # that take no memory themselves
            return np.broadcast_to(np.float32(1), (4, steps, 1)), np.broadcast_to(np.float32(0), (4, steps, 32))
        trainer.fit(*data(1000), verbose=0)
        model.train_on_batch(*data(8))
        for steps in (1000, 100_000):
            print(growth(lambda: trainer.fit(*data(steps), verbose=0)))
        print(growth(lambda: model.train_on_batch(*data(10_000))))
        """
    )
    assert many < few + 30  # megabytes: what an allocator keeps back over 400 windows; the states alone would be 100
    assert plain > 60


def test_settings_that_cannot_be_are_refused():
    lstm = {"return_sequences": True}
    for model, options, said in [
        (made([keras.layers.LSTM(2, **lstm)]), {"steps": 0}, "steps is 0"),
        (made([keras.layers.LSTM(2, **lstm)]), {"steps": 2.5}, "steps is 2.5"),
        (made([keras.layers.LSTM(2, **lstm)]), {"streams": -1}, "streams is -1"),
        (made([keras.layers.LSTM(2)]), {}, "return_sequences=True"),
        (made([keras.layers.Dense(2)]), {}, "no recurrent layers"),
        (made([keras.layers.Bidirectional(keras.layers.LSTM(2, **lstm))]), {}, "Bidirectional.*from its end"),
        (made([layers.IndRNN(2, go_backwards=True, **lstm)]), {}, "goes backwards"),
        (keras.Sequential([keras.layers.LSTM(2)]), {}, "that is built"),
        ("model", {}, "model is a str"),
    ]:
        with pytest.raises(SettingError, match=said):
            TruncatedBPTT(model, **{"steps": 5, **options})
    stateful = keras.Sequential([keras.Input(batch_shape=(2, None, 3)), keras.layers.GRU(2, stateful=True, **lstm)])
    with pytest.raises(SettingError, match=r"gru.* is stateful"):
        TruncatedBPTT(stateful, steps=5, streams=2)
    one, two = keras.Input((None, 3)), keras.Input((None, 3))
    both = keras.Model([one, two], keras.layers.LSTM(2, **lstm)(one + two))
    with pytest.raises(SettingError, match="one input and one output"):
        TruncatedBPTT(both, steps=5)


@pytest.mark.parametrize(
    "reading",
    [
        lambda x: keras.layers.LSTM(4, return_sequences=True)(
            keras.layers.Conv1D(3, 2, padding="causal", activation="tanh")(x)
        ),
        lambda x: x + ops.mean(keras.layers.GRU(3, return_sequences=True)(x), axis=1, keepdims=True),
        lambda x: keras.layers.GRU(4, return_sequences=True)(x, initial_state=ops.ones_like(x[:, 0, :1]) * np.ones(4)),
    ],
    ids=["convolution", "mean over time", "initial_state"],
)
def test_a_model_that_is_another_one_in_windows_is_refused(reading):
    inputs = keras.Input((None, FEATURES))
    trainer = TruncatedBPTT(keras.Model(inputs, keras.layers.Dense(OUTPUTS)(reading(inputs))), steps=3, streams=2)
    trainer.compile("sgd", "mse", jit_compile=COMPILED)
    with pytest.raises(SettingError, match="otherwise in two windows than in one"):
        trainer.fit(*sequences(9, 9), verbose=0)


def test_what_does_not_fit_is_refused_before_training():
    x, y = sequences(9, 5)
    trainer, _ = trained("LSTM", steps=3, streams=2)
    with pytest.raises(DataError, match=r"x\[1\] has a NaN or infinity at step 0"):
        trainer.fit([x[0], x[1] * np.nan], y)
    with pytest.raises(DataError, match="y has 1 sequences and x 2"):
        trainer.fit(x, y[:1])
    with pytest.raises(SettingError, match="fit got batch_size"):
        trainer.fit(x, y, batch_size=2)
