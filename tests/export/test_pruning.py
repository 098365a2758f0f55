"""Pruning in training and at once: against tfmot, against the formula, on every backend."""

import gzip
import math
import os

import keras
import numpy as np
import pytest
from keras import ops

from zoo import export, layers
from zoo.errors import DataError, SettingError
from zoo.export.pruning.callback import NumpyMasks
from zoo.export.pruning.schedules import Schedule
from zoo.export.pruning.tfmot_core import TfmotMasks, importing

K = keras.layers
TIME, FEATURES, CLASSES = 4, 8, 3
BACKEND = keras.backend.backend()


def model_of_all_kinds():
    return keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            layers.PeepholeLSTM(8, return_sequences=True),
            K.LSTM(8, return_sequences=True),
            K.Bidirectional(K.GRU(4, return_sequences=True)),
            layers.IndRNN(8),
            K.Dense(CLASSES, activation="softmax"),
        ]
    )


def small_model():
    return keras.Sequential([keras.Input((FEATURES,)), K.Dense(10, activation="tanh"), K.Dense(CLASSES)])


def matrices(model):
    """Path and value of every kernel and recurrent kernel: in these models all there is to prune."""
    return [(v.path, ops.convert_to_numpy(v)) for v in model.trainable_variables if "kernel" in v.name]


def fit(model, *callbacks, batches=8, epochs=1, jit_compile="auto"):
    shape = (16 * batches, *model.input_shape[1:])
    x, y = np.random.normal(size=shape), np.random.normal(size=(16 * batches, CLASSES))
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile)
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=list(callbacks))


class Zeros(keras.callbacks.Callback):
    """Remembers after each batch where the weights are zero."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([value == 0 for _, value in matrices(self.model)])


# The schedule


@pytest.mark.parametrize(("begin", "end", "frequency"), [(0, 20, 1), (3, 43, 10)])
def test_the_polynomial_schedule_is_its_formula_and_that_of_tfmot(begin, end, frequency):
    import tensorflow as tf

    with importing():
        from tensorflow_model_optimization.sparsity import keras as tfmot
    schedule = Schedule("polynomial", 0.8, begin, end, frequency)
    theirs = tfmot.PolynomialDecay(0.0, 0.8, begin, end, frequency=frequency)
    for step in range(60):
        done = min(max((step - begin) / (end - begin), 0), 1)
        assert schedule.at(step) == pytest.approx(0.8 - 0.8 * (1 - done) ** 3, abs=1e-6)  # float32
        due, sparsity = theirs(tf.constant(step))
        assert schedule.due(step) == bool(due)
        assert schedule.at(step) == pytest.approx(float(sparsity), abs=1e-7)  # one bit of float32


def test_the_constant_schedule_is_that_of_tfmot():
    import tensorflow as tf

    with importing():
        from tensorflow_model_optimization.sparsity import keras as tfmot
    schedule, theirs = Schedule("constant", 0.6, 2, 12, 5), tfmot.ConstantSparsity(0.6, 2, 12, 5)
    for step in range(20):
        due, sparsity = theirs(tf.constant(step))
        assert (schedule.due(step), schedule.at(step)) == (bool(due), float(sparsity))


# The masks


@pytest.mark.parametrize(
    ("structure", "size", "shapes"),
    [
        ("magnitude", None, [(7, 12), (3, 3, 2, 5), (64, 33)]),
        ("block", (4, 1), [(8, 12), (4, 6), (7, 5)]),  # a single row of blocks, and a row of blocks cut short
        ("block", (2, 3), [(8, 12), (2, 6), (5, 7)]),
        ("m_by_n", (2, 4), [(8, 12), (7, 5), (3, 6, 4), (3, 3, 8, 2)]),
        ("m_by_n", (1, 3), [(9, 4)]),
    ],
)
def test_our_masks_equal_those_of_tfmot_at_every_step(structure, size, shapes):
    """The same weights, changed alike between the steps."""
    import tensorflow as tf

    start = [np.random.normal(size=shape).astype("float32") for shape in shapes]
    schedule = Schedule("constant", 0.5, 1, 1, 1) if structure == "m_by_n" else Schedule("polynomial", 0.7, 2, 14, 3)
    theirs, ours = [tf.Variable(w) for w in start], [keras.Variable(w) for w in start]
    masks = [TfmotMasks(theirs, schedule, structure, size), NumpyMasks(ours, schedule, structure, size)]
    for step in range(18):
        for each in masks:
            each.apply(step)
        for one, other in zip(theirs, ours, strict=True):
            np.testing.assert_array_equal(one.numpy(), ops.convert_to_numpy(other))
            update = np.random.normal(scale=0.1, size=one.shape).astype("float32")
            one.assign_add(update)
            other.assign(other + update)
    assert all(np.mean(mask.numpy()) < 0.75 for mask in masks[0].masks)  # it was pruning that was compared


@pytest.mark.parametrize(("structure", "size"), [("block", (4, 2)), ("m_by_n", (2, 4)), ("magnitude", None)])
def test_our_core_is_tfmots_own_where_that_works(structure, size):
    import tensorflow as tf

    with importing():
        from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl
        from tensorflow_model_optimization.sparsity import keras as tfmot
    weight = np.random.normal(size=(16, 12)).astype("float32")
    schedule = Schedule("constant", 0.5, 1, 1, 1)
    ours, theirs, mask = tf.Variable(weight), tf.Variable(weight), tf.Variable(np.ones_like(weight))
    TfmotMasks([ours], schedule, structure, size).apply(1)
    core = pruning_impl.Pruning(
        lambda: tf.constant(1),
        [(theirs, mask, tf.Variable(0.0))],
        schedule.to_tfmot(tfmot),
        size if structure == "block" else (1, 1),
        "AVG",
        size if structure == "m_by_n" else None,
    )
    core.conditional_mask_update()
    core.weight_mask_op()
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_tfmot_does_not_change_which_keras_tensorflow_takes(monkeypatch):
    for value in (None, "0"):
        monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
        if value is not None:
            monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
        with importing():
            os.environ["TF_USE_LEGACY_KERAS"] = "1"  # as the first import of tfmot does
        assert os.environ.get("TF_USE_LEGACY_KERAS") == value


# In fit


@pytest.mark.parametrize("jit_compile", [False, True] if BACKEND == "tensorflow" else ["auto"])
def test_after_fit_every_matrix_has_the_zeros_asked_for_and_they_stayed(jit_compile):
    model, zeros = model_of_all_kinds(), Zeros()
    fit(model, export.Pruning(0.8, end=5, frequency=1), zeros, jit_compile=jit_compile)
    assert len(matrices(model)) == 10
    for _, value in matrices(model):
        assert np.sum(value != 0) == round(0.2 * value.size)
    for at_end, later in zip(zeros.seen[4], zeros.seen[7], strict=True):  # after steps 5 and 8
        np.testing.assert_array_equal(at_end, later)
    assert all(np.all(bias != 0) for bias in model.layers[-1].get_weights()[1:]), "biases are left alone"


def test_after_fit_two_of_any_four_inputs_are_zero():
    model = model_of_all_kinds()
    fit(model, export.Pruning(structure="m_by_n"))
    for _, value in matrices(model):
        groups = value.reshape(-1, 4, value.shape[-1])  # inputs are multiples of four in this model
        assert np.all(np.sum(groups != 0, axis=1) == 2)


def test_after_fit_blocks_are_zero_as_a_whole():
    model = small_model()
    fit(model, export.Pruning(0.5, structure="block", size=(4, 1), frequency=1))
    for _, value in matrices(model):
        height = math.ceil(value.shape[0] / 4)  # 10 inputs: the last block is cut short
        blocks = [np.split(value, range(4, value.shape[0], 4))[i] for i in range(height)]
        whole = np.array([np.all(block == 0, axis=0) for block in blocks])
        np.testing.assert_array_equal(whole, [np.any(block == 0, axis=0) for block in blocks])
        assert whole.sum() == whole.size - round(whole.size / 2)


def test_training_on_with_a_constant_schedule_keeps_the_zeros_of_a_pruned_model():
    model = export.prune(small_model(), sparsity=0.5)
    before = [value == 0 for _, value in matrices(model)]
    fit(model, export.Pruning(0.5, schedule="constant", end=0))
    for zero, (_, value) in zip(before, matrices(model), strict=True):
        np.testing.assert_array_equal(zero, value == 0)


def test_pruning_learns_what_training_without_it_learns():
    """A teacher with a fifth of its weights is found again by a student that may keep half."""
    x = np.random.normal(size=(512, FEATURES))
    truth = np.random.normal(size=(FEATURES, CLASSES)) * (np.random.uniform(size=(FEATURES, CLASSES)) < 0.2)
    model = keras.Sequential([keras.Input((FEATURES,)), K.Dense(CLASSES)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, x @ truth, batch_size=64, epochs=25, verbose=0, callbacks=[export.Pruning(0.5)])
    assert model.evaluate(x, x @ truth, verbose=0) < 1e-3 * np.mean((x @ truth) ** 2)  # 0.1% of the variance
    assert export.sparsity_report(model).zeros == 0.5


def test_only_the_layers_named_are_pruned():
    model = small_model()
    first, second = model.layers
    fit(model, export.Pruning(0.5, frequency=1, layers=[second.name]))
    assert np.all(first.get_weights()[0] != 0)
    assert np.sum(second.get_weights()[0] == 0) == 15


def test_frozen_layers_are_left_alone():
    model = small_model()
    model.layers[0].trainable = False
    fit(model, export.Pruning(0.5, frequency=1))
    assert np.all(model.layers[0].get_weights()[0] != 0)


def test_a_layer_names_its_own_prunable_weights():
    class Mine(K.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], CLASSES), initializer="glorot_uniform", name="table")
            self.prunable_weights = [self.table]

        def call(self, x):
            return ops.matmul(x, self.table)

    model = keras.Sequential([keras.Input((FEATURES,)), Mine()])
    fit(model, export.Pruning(0.5, frequency=1))
    assert np.sum(model.layers[0].get_weights()[0] == 0) == 12


def test_every_matrix_of_a_cell_is_prunable_and_no_bias_peephole_or_reservoir():
    cases = [
        (layers.PeepholeLSTMCell(4, projection=3), {"kernel", "recurrent_kernel", "projection_kernel"}),
        (layers.GRUCell(4), {"kernel", "recurrent_kernel"}),
        (layers.IndRNNCell(4), {"kernel"}),
        (layers.FastGRNNCell(4, input_rank=2), {"kernel_in", "kernel_out", "recurrent_kernel"}),
        (layers.EchoStateCell(4, connectivity=0.5), set()),
        (layers.Zoneout(layers.FastGRNNCell(4), {"hidden": 0.1}), {"kernel", "recurrent_kernel"}),
    ]
    for cell, names in cases:
        cell.build((None, 5))
        assert {weight.name for weight in cell.prunable_weights} == names
    stack = layers.StackedCells([layers.LSTMCell(3), layers.MinGRUCell(4)])
    stack.build((None, 5))
    assert [weight.shape for weight in stack.prunable_weights] == [(5, 12), (3, 12), (3, 8)]


def test_what_early_stopping_restores_is_masked_once_more():
    model = small_model()
    best = keras.callbacks.EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True)  # the first epoch
    fit(model, best, export.Pruning(0.8, begin=8, end=16, frequency=1), epochs=3)
    assert all(np.sum(value != 0) == round(0.2 * value.size) for _, value in matrices(model))


def test_training_that_ends_before_pruning_does_says_so():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    with pytest.warns(UserWarning, match="ended at step 1, before pruning did at step 5"):
        fit(small_model(), Stop(), export.Pruning(0.8, end=5, frequency=1))


def test_a_pruned_model_is_saved_as_any_other(tmp_path):
    model = small_model()
    fit(model, export.Pruning(0.5, frequency=1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights) == 4
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# At once


def test_pruning_at_once_gives_a_new_model_and_leaves_the_old_one():
    model = model_of_all_kinds()
    before = model.get_weights()
    pruned = export.prune(model, sparsity=0.8)
    for old, same, (_, value) in zip(before, model.get_weights(), [(0, w) for w in pruned.get_weights()], strict=True):
        np.testing.assert_array_equal(old, same)
        np.testing.assert_array_equal(value[value != 0], old[value != 0])
    for (_, whole), (_, value) in zip(matrices(model), matrices(pruned), strict=True):
        gone, stayed = np.abs(whole[value == 0]), np.abs(whole[value != 0])
        assert stayed.size == round(0.2 * whole.size)
        assert gone.max() <= stayed.min()


@pytest.mark.on_tensorflow
def test_a_pruned_model_is_smaller_when_gzipped(tmp_path):
    model = keras.Sequential([keras.Input((TIME, FEATURES)), K.LSTM(64), K.Dense(CLASSES)])
    files = {
        name: export.to_tflite(each, tmp_path / f"{name}.tflite")
        for name, each in (("dense", model), ("sparse", export.prune(model, sparsity=0.8)))
    }
    sizes = {name: export.gzipped_size(path) for name, path in files.items()}
    assert sizes["sparse"] < 0.4 * sizes["dense"]  # a fifth of the numbers, and where they are
    assert len(gzip.decompress(gzip.compress(files["dense"].read_bytes()))) == files["dense"].stat().st_size


def test_the_report_counts_the_zeros():
    model = small_model()
    kernel = np.ones((FEATURES, 10))
    kernel[:2] = 0
    model.layers[0].set_weights([kernel, np.zeros(10)])
    report = export.sparsity_report(model)
    assert [(row.shape, row.zeros) for row in report.rows] == [((FEATURES, 10), 0.25), ((10, CLASSES), 0.0)]
    assert report.zeros == 20 / 110
    assert report.parameters == 80 + 10 + 30 + 3
    assert "110 of 123 parameters" in str(report) and "18.2%" in str(report)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1}, "sparsity is 1; expected a share above 0 and below 1"),
        ({"sparsity": 0}, "sparsity is 0"),
        ({"sparsity": float("nan")}, "sparsity is nan"),
        ({"sparsity": True}, "sparsity is True"),
        ({}, "sparsity is None"),
        ({"sparsity": 0.5, "structure": "weights"}, "structure is 'weights'; expected one of magnitude, block"),
        ({"sparsity": 0.5, "size": (1, 4)}, "structure 'magnitude' has none"),
        ({"sparsity": 0.5, "structure": "block", "size": (0, 4)}, r"size\[0\] is 0; expected a whole number"),
        ({"sparsity": 0.5, "structure": "block", "size": 4}, "size is 4; expected two whole numbers"),
        ({"structure": "m_by_n", "size": (4, 4)}, "expected fewer zeros than there are in a group"),
        ({"structure": "m_by_n", "sparsity": 0.8}, "sparsity is 0.8, but 2 zeros in 4 are 0.5"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        export.Pruning(**arguments)
    if arguments.get("structure") != "weights":
        with pytest.raises(SettingError, match=message):
            export.prune(small_model(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "linear"}, "schedule is 'linear'; expected one of polynomial, constant"),
        ({"begin": -1}, "begin is -1"),
        ({"begin": 10, "end": 5}, "end is 5; expected a whole number of at least 10"),
        ({"frequency": 0}, "frequency is 0"),
        ({"begin": 1, "end": 20, "frequency": 10}, "never meet; take 11"),
        ({"begin": 5, "end": 5}, "end and begin are both 5"),
    ],
)
def test_times_that_cannot_be_kept_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        export.Pruning(0.5, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frequency": 10}, "fit has 8 steps, too few to prune every 10 steps"),
        ({"end": 20}, "end is 20, but fit has 8 steps only"),
        ({"frequency": 1, "layers": ["nowhere"]}, "layers has 'nowhere'; the model's layers are"),
        ({"frequency": 1, "layers": "dense"}, "layers is 'dense'; expected a list"),
        ({"frequency": 1, "layers": ["dropout"]}, "dropout is a Dropout with no trainable weights to prune"),
        ({"frequency": 1, "structure": "block"}, r"has the shape \(3, 8, 4\), and blocks are cut from matrices only"),
    ],
)
def test_a_model_or_training_that_does_not_go_with_the_settings_is_refused_at_the_start(arguments, message):
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            K.Conv1D(4, 3),
            K.Dropout(0.1, name="dropout"),
            K.GlobalAveragePooling1D(),
            K.Dense(3),
        ]
    )
    with pytest.raises(SettingError, match=message):
        fit(model, export.Pruning(0.5, **arguments))


def test_several_steps_in_one_call_are_refused():
    model = small_model()
    model.compile("adam", "mse", steps_per_execution=4)
    with pytest.raises(SettingError, match="steps_per_execution is 4; expected 1"):
        model.fit(np.ones((64, FEATURES)), np.ones((64, CLASSES)), verbose=0, callbacks=[export.Pruning(0.5)])


def test_a_training_of_unknown_length_needs_an_end():
    def batches():
        for _ in range(4):
            yield np.ones((2, FEATURES)), np.ones((2, CLASSES))

    model = small_model()
    model.compile("adam", "mse")
    with pytest.raises(SettingError, match="give the end of pruning, end="):
        model.fit(batches(), shuffle=False, verbose=0, callbacks=[export.Pruning(0.5)])
    with pytest.warns(UserWarning, match="ran out of data"):  # as Keras says of every such training
        model.fit(batches(), shuffle=False, verbose=0, callbacks=[export.Pruning(0.5, end=3, frequency=1)])
    assert export.sparsity_report(model).zeros == 0.5


def test_models_with_nothing_to_prune_are_refused(tmp_path):
    with pytest.raises(SettingError, match="is a list; expected a Keras model"):
        export.prune([], sparsity=0.5)
    with pytest.raises(SettingError, match="no trainable weights to prune"):
        export.prune(keras.Sequential([keras.Input((4,)), K.BatchNormalization()]), sparsity=0.5)
    with pytest.raises(SettingError, match="no trainable weights to prune"):  # nor any other weight
        export.prune(keras.Sequential([keras.Input((4,)), K.Dropout(0.1)]), sparsity=0.5)
    with pytest.raises(SettingError, match="not built"):
        export.prune(keras.Sequential([K.Dense(3)]), sparsity=0.5)
    with pytest.raises(DataError, match="no file"):
        export.gzipped_size(tmp_path / "nothing")


def test_a_subclassed_model_is_pruned_in_training_only():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = K.Dense(CLASSES)

        def call(self, x):
            return self.out(x)

    model = Mine()
    x = np.ones((64, FEATURES), "float32")
    model(x)
    with pytest.raises(SettingError, match="a Mine, whose layers only its own code knows"):
        export.prune(model, sparsity=0.5)
    model.compile("adam", "mse")
    model.fit(x, x[:, :CLASSES], batch_size=8, verbose=0, callbacks=[export.Pruning(0.5, frequency=1)])
    assert export.sparsity_report(model).zeros == 0.5
