"""Training that was killed goes on as if it had not been: weights bit for bit, in one process and across many."""

import random

import keras
import numpy as np
import pytest

from zoo import train
from zoo.errors import DataError, SettingError, TrainError, ZooWarning
from zoo.train import checkpoint_files

EPOCHS, STEPS = 5, 6  # of 4 rows, the last batch of 3


class Killed(Exception):
    """Stands for SIGKILL where a process of its own would take too long."""


class Kill(keras.callbacks.Callback):
    """Ends training at one batch, or, given no batch, at the end of an epoch."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        np.random.random(), random.random()  # something that draws from the global generators
        if (self.epoch, batch) == self.at:
            raise Killed

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == self.at:
            raise Killed


class Still(keras.callbacks.Callback):
    """Logs a figure that never falls."""

    def on_epoch_end(self, epoch, logs=None):
        logs["still"] = 1.0


def fit(*callbacks, rate=None, units=3, patience=1):
    """Train a small network with everything that has a state, from scratch; return (model, history)."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 3, 2)).astype("float32"), rng.normal(size=(23, 1)).astype("float32")
    batches = train.ArrayBatches(x, y, batch_size=4, seed=3)
    assert len(batches) == STEPS
    model = keras.Sequential(
        [
            keras.Input((3, 2)),
            keras.layers.GaussianNoise(0.1, seed=1),
            keras.layers.SimpleRNN(units, dropout=0.3, recurrent_dropout=0.2, seed=2, unroll=True),  # quick to trace
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4, seed=4),
            keras.layers.Dense(1),
        ]
    )
    schedule = rate or keras.optimizers.schedules.CosineDecay(0.001, EPOCHS * STEPS, warmup_target=0.02, warmup_steps=4)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0, use_ema=True, ema_overwrite_frequency=7)
    model.compile(optimizer, "mse", metrics=["mae"])
    best = keras.callbacks.EarlyStopping("val_loss", patience=EPOCHS, restore_best_weights=True, min_delta=0.001)
    slower = (
        [Still(), keras.callbacks.ReduceLROnPlateau("still", mode="min", patience=patience, cooldown=1)] if rate else []
    )
    history = model.fit(
        batches,
        epochs=EPOCHS,
        validation_data=(x[:7] + 1, y[:7]),
        callbacks=train.together(batches, best, *slower, *callbacks),
        shuffle=False,
        verbose=0,
    )
    return model, history.history


def assert_same(one, other):
    mine, others = ([*model.variables, *model.optimizer.variables] for model, _ in (one, other))
    for a, b in zip(mine, others, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)), err_msg=a.path)
    assert one[1] == other[1]


@pytest.fixture(scope="module")
def whole():
    return fit(Kill(99))


@pytest.mark.parametrize(
    ("place", "every"), [((0, 2), 2), ((2, 4), 2), ((3, STEPS - 1), 0), ((1, None), 2), ((EPOCHS - 1, None), 0)]
)
def test_a_killed_run_ends_with_the_weights_and_history_of_a_whole_one(tmp_path, whole, place, every):
    with pytest.raises(Killed):
        fit(Kill(*place), train.Resume(tmp_path, every=every))
    resume = train.Resume(tmp_path, every=every)
    assert_same(fit(Kill(99), resume), whole)
    epoch, batch = place
    expected = (epoch, (STEPS - 1 if batch is None else batch) // 2 * 2 if every else 0)  # what was killed had no end
    assert resume.resumed_at == (expected if expected != (0, 0) else None)


def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path, whole):
    for place in ((0, 3), (1, 1), (1, 3), (2, 3), (4, 4)):
        with pytest.raises(Killed):
            fit(Kill(*place), train.Resume(tmp_path, every=2, keep=2))
        assert len(list(tmp_path.iterdir())) <= 2
    assert_same(fit(Kill(99), train.Resume(tmp_path, every=2)), whole)


def fit_two_outputs(*callbacks):
    keras.utils.set_random_seed(1)
    draw = np.random.default_rng(0).normal(size=(23, 3)).astype("float32")
    batches = train.ArrayBatches(draw[:, :2], {"a": draw[:, :1], "b": draw[:, 1:]}, batch_size=4, seed=3)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, {name: keras.layers.Dense(n, name=name)(inputs) for n, name in enumerate("ab", 1)})
    model.compile("adam", {"a": "mse", "b": "mae"}, metrics={"b": ["mae"]})
    history = model.fit(batches, epochs=2, callbacks=train.together(batches, *callbacks), shuffle=False, verbose=0)
    return model, history.history


def test_of_several_outputs_each_loss_goes_on_from_its_mean(tmp_path):
    for place in ((0, 2), (1, 3)):
        with pytest.raises(Killed):
            fit_two_outputs(Kill(*place), train.Resume(tmp_path, every=2))
    resume = train.Resume(tmp_path, every=2)
    assert_same(fit_two_outputs(resume), fit_two_outputs())
    assert resume.resumed_at == (1, 2)


class Subclassed(keras.Model):
    """Has no weights before its first step."""

    def __init__(self):
        super().__init__()
        self.reader, self.answer = keras.layers.GRU(3), keras.layers.Dense(1)

    def call(self, x):
        return self.answer(self.reader(x))


def of_two_inputs():
    reader, inputs = keras.layers.GRU(3), [keras.Input((4, 2)), keras.Input((4, 2))]
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.add([reader(one) for one in inputs])))


MODELS = {
    "subclassed": Subclassed,
    "two inputs": of_two_inputs,
    "stacked cells": lambda: keras.Sequential(
        [keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]), keras.layers.Dense(1)]
    ),
    "stateful": lambda: keras.Sequential(
        [keras.Input(batch_shape=(4, 4, 2)), keras.layers.GRU(3, stateful=True), keras.layers.Dense(1)]
    ),
}


def fit_any(kind, *callbacks):
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(20, 4, 2)).astype("float32")
    batches = train.ArrayBatches([x, -x] if kind == "two inputs" else x, x[:, 0, :1], batch_size=4, seed=3)
    model = MODELS[kind]()
    model.compile("adam", "mse")
    watched = train.together(batches, train.Diagnosis(), *callbacks)
    return model, model.fit(batches, epochs=2, callbacks=watched, shuffle=False, verbose=0).history


@pytest.mark.parametrize("kind", MODELS)
def test_models_of_every_kind_go_on(tmp_path, kind):
    if kind == "stateful" and keras.backend.backend() == "torch":
        pytest.skip("Keras does not train stateful layers on torch")
    with pytest.raises(Killed):
        fit_any(kind, Kill(1, 2), train.Resume(tmp_path, every=2))
    resume = train.Resume(tmp_path, every=2)
    assert_same(fit_any(kind, resume), fit_any(kind))
    assert resume.resumed_at == (1, 2)


def test_a_finished_run_does_nothing_more(tmp_path, whole):
    fit(Kill(99), train.Resume(tmp_path))
    assert_same(fit(Kill(0, 0), train.Resume(tmp_path)), whole)


def test_what_callbacks_remember_comes_back(tmp_path):
    """The rate falls when a figure has stood still for two epochs, of which one lies before the kill."""
    for number in (1, 2, 3):
        with pytest.raises(Killed):
            fit(Kill(number, 3), train.Resume(tmp_path), rate=0.05, patience=2)
    resumed, whole = fit(Kill(99), train.Resume(tmp_path), rate=0.05, patience=2), fit(Kill(99), rate=0.05, patience=2)
    assert_same(resumed, whole)
    assert min(whole[1]["learning_rate"]) < 0.05  # it did fall


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    whole = fit(Stop(), train.Resume(tmp_path))
    assert_same(fit(Stop(), train.Resume(tmp_path)), whole)
    assert len(whole[1]["loss"]) == 3


def test_a_callback_of_other_origin_takes_part_by_two_methods(tmp_path):
    class Counter(keras.callbacks.Callback):
        seen = ()

        def get_state(self):
            return {"seen": np.array(self.seen), "last": {"epoch": None}}

        def set_state(self, state):
            assert state["last"] == {"epoch": None}
            self.seen = state["seen"].tolist()

        def on_epoch_end(self, epoch, logs=None):
            self.seen = [*self.seen, epoch]

    with pytest.raises(Killed):
        fit(Counter(), Kill(2, None), train.Resume(tmp_path))
    counter = Counter()
    fit(counter, Kill(99), train.Resume(tmp_path))
    assert counter.seen == list(range(EPOCHS))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, whole):
    with pytest.raises(Killed):
        fit(Kill(3, 0), train.Resume(tmp_path))
    newest = sorted(tmp_path.iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resume = train.Resume(tmp_path)
    with pytest.warns(ZooWarning, match=f"{newest.name} is damaged and passed over"):
        assert_same(fit(Kill(99), resume), whole)
    assert resume.resumed_at == (2, 0)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-100], lambda content: b"", lambda content: content + b"x"]
)
def test_whatever_the_damage_the_checkpoint_before_is_read(tmp_path, damage):
    for epoch in (1, 2):
        path = checkpoint_files.write(tmp_path, epoch, 0, {"epoch": epoch}, [np.arange(epoch)], keep=2)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(ZooWarning, match="damaged and passed over"):
        notes, (array,) = checkpoint_files.read_newest(tmp_path)
    assert notes == {"epoch": 1} and array.tolist() == [0]


def test_what_a_kill_leaves_half_written_is_removed(tmp_path):
    (tmp_path / ".unfinished-x").write_bytes(b"half")
    assert checkpoint_files.read_newest(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_checkpoints_before_as_they_are(tmp_path, whole, monkeypatch):
    resource = pytest.importorskip("resource")

    class Full(keras.callbacks.Callback):
        """From the third epoch on no file of this process can be longer than 2 kB, as on a disk that is full."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(TrainError, match=r"no checkpoint could be written to .* \(File too large\).*make room"):
            fit(Full(), train.Resume(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name[:15] for path in sorted(tmp_path.iterdir())] == ["000001-00000000", "000002-00000000"]
    Full.on_epoch_begin = lambda self, epoch, logs=None: None
    assert_same(fit(Full(), train.Resume(tmp_path)), whole)


def test_a_checkpoint_of_another_model_or_other_callbacks_is_refused(tmp_path):
    with pytest.raises(Killed):
        fit(Kill(1, 0), train.Resume(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=r"is of another model: it has the shape \(2, 3\) .*expected \(2, 4\)"):
        fit(Kill(99), train.Resume(tmp_path), units=4)
    with pytest.raises(
        DataError, match=r"is of a run with the callbacks EarlyStopping, History, expected EarlyStopping, Mod"
    ):
        fit(keras.callbacks.ModelCheckpoint(tmp_path / "x.keras"), train.Resume(tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_holds_no_pickle(tmp_path):
    with pytest.raises(Killed):
        fit(Kill(0, None), Kill(99), train.Resume(tmp_path, every=3))
    notes, arrays = checkpoint_files.read_newest(tmp_path)  # which allows none
    assert notes[0] == {"epoch": 0, "batch": 3, "stopped": False} and len(arrays) > 10


@pytest.mark.parametrize(("option", "value", "least"), [("every", -1, 0), ("keep", 0, 1)])
def test_settings_out_of_range_are_refused(option, value, least):
    with pytest.raises(SettingError, match=f"{option} is {value}; expected a whole number of at least {least}"):
        train.Resume("somewhere", **{option: value})


def test_callbacks_that_know_no_batches_say_how_to_pass_them(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for callback in (train.Resume(tmp_path), train.Diagnosis()):
        with pytest.raises(SettingError, match=r"expected fit\(batches, callbacks=zoo.train.together"):
            model.fit(np.ones((4, 2)), np.ones((4, 1)), callbacks=[callback], verbose=0)
