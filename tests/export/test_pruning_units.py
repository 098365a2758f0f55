"""Whole units taken out: what nobody listened to is not missed, and every reader fits."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo import export, layers
from zoo.errors import SettingError

K = keras.layers
TIME, FEATURES, UNITS = 5, 3, 6
GONE = [0, 2, 5]  # the units that nobody listens to


def randomise(model):
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path else -1.0
        variable.assign(np.random.uniform(low, 1, variable.shape))


def silence(cell, readers, units=GONE):
    """Zero the weights out of some units: in their own layer, and in `readers`, a list of (variable, axis, first)."""
    own = [(variable, 0, 0) for variable in cell.weights if variable.name in ("recurrent_kernel", "recurrent_in")]
    zero([*own, *readers], units)


def zero(parts, units):
    for variable, axis, first in parts:
        value = np.moveaxis(ops.convert_to_numpy(variable).copy(), axis, 0)
        value[first + np.array(units)] = 0
        variable.assign(np.moveaxis(value, 0, axis))


def assert_same_answers(model, smaller, batch=2):
    x = np.random.normal(size=(batch, *model.input_shape[1:])).astype("float32")
    # the same sums with zeros left out, in float32 over five steps of two layers
    np.testing.assert_allclose(*(ops.convert_to_numpy(each(x)) for each in (model, smaller)), rtol=1e-4, atol=1e-5)


CASES = {
    "LSTM": lambda: K.LSTM(UNITS, return_sequences=True),
    "LSTM without bias": lambda: K.LSTM(UNITS, return_sequences=True, use_bias=False),
    "GRU": lambda: K.GRU(UNITS, return_sequences=True),
    "GRU with the reset before": lambda: K.GRU(UNITS, return_sequences=True, reset_after=False),
    "SimpleRNN": lambda: K.SimpleRNN(UNITS, return_sequences=True),
    "PeepholeLSTM": lambda: layers.PeepholeLSTM(UNITS, return_sequences=True),
    "PeepholeLSTM, coupled": lambda: layers.PeepholeLSTM(UNITS, coupled=True, return_sequences=True),
    "IndRNN": lambda: layers.IndRNN(UNITS, steps=TIME, return_sequences=True),
    "MinGRU": lambda: layers.MinGRU(UNITS, return_sequences=True),
    "MinLSTM": lambda: layers.MinLSTM(UNITS, return_sequences=True),
    "BatchNormLSTM": lambda: layers.BatchNormLSTM(UNITS, return_sequences=True),
    "BatchNormLSTM, by steps": lambda: layers.BatchNormLSTM(UNITS, steps=TIME, return_sequences=True),
    "FastGRNN": lambda: layers.FastGRNN(UNITS, return_sequences=True),
    "FastGRNN of low rank": lambda: layers.FastGRNN(UNITS, input_rank=2, recurrent_rank=5, return_sequences=True),
    "LIF": lambda: layers.LIF(UNITS, recurrent=True, return_sequences=True),
    "ZoneoutLSTM": lambda: layers.ZoneoutLSTM(UNITS, 0.1, 0.2, return_sequences=True),
    "a cell in a cell": lambda: layers.Recurrent(
        layers.VariationalDropout(layers.GRUCell(UNITS), 0.1, 0.1), return_sequences=True
    ),
    "a cell in Keras' layer": lambda: K.RNN(layers.LSTMCell(UNITS), return_sequences=True),
}


@pytest.mark.parametrize("case", CASES)
def test_units_that_nobody_listens_to_are_not_missed(case):
    layer, reader = CASES[case](), K.GRU(4)
    model = keras.Sequential(
        [keras.Input((TIME, FEATURES)), layer, K.BatchNormalization(), K.Dropout(0.3), reader, K.Dense(2)]
    )
    randomise(model)
    cell = layer.cell
    while hasattr(cell, "cell"):
        cell = cell.cell
    silence(cell, [(reader.cell.kernel, 0, 0)])
    smaller = export.prune(model, sparsity=0.5, structure="units", layers=[layer.name])
    assert isinstance(smaller, keras.Sequential)
    assert smaller.layers[0].compute_output_shape((2, TIME, FEATURES))[-1] == 3
    assert [each.name for each in smaller.layers] == [each.name for each in model.layers]
    assert_same_answers(model, smaller)


@pytest.mark.parametrize(("heads", "gone"), [(1, GONE), (3, [0, 2, 4])])
def test_of_an_slstm_the_units_of_a_place_in_every_head_go_together(heads, gone):
    layer, reader = layers.SLSTM(UNITS, heads, return_sequences=True), K.Dense(2)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer, reader])
    randomise(model)
    zero([(reader.kernel, 0, 0)], gone)
    zero([(layer.cell.recurrent_kernel, 1, 0)], gone if heads == 1 else [0])  # (heads, units of a head, ...)
    smaller = export.prune(model, sparsity=0.5, structure="units")
    assert (smaller.layers[0].cell.units, smaller.layers[0].cell.heads) == (3, heads)
    assert_same_answers(model, smaller)


@pytest.mark.parametrize("coupled", [False, True])
def test_a_projected_lstm_loses_memory_and_keeps_its_width(coupled):
    inputs = keras.Input((TIME, FEATURES))
    layer = layers.PeepholeLSTM(UNITS, projection=UNITS, coupled=coupled, return_sequences=True, return_state=True)
    sequences, hidden, memory = layer(inputs)
    reader = K.Dense(2)
    joined = K.Concatenate()([K.Flatten()(sequences), hidden, memory])
    model = keras.Model(inputs, reader(joined))
    randomise(model)
    zero([(layer.cell.projection_kernel, 0, 0), (reader.kernel, 0, (TIME + 1) * UNITS)], GONE)
    smaller = export.prune(model, sparsity=0.5, structure="units")
    cell = smaller.get_layer(layer.name).cell
    assert (cell.units, cell.projection) == (3, UNITS)
    assert_same_answers(model, smaller)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (lambda: layers.LayerNormLSTM(UNITS, name="kept"), "normalises its units together"),
        (lambda: layers.EchoState(UNITS, seed=1, name="kept"), "has the reservoir that its seed gives"),
    ],
    ids=["LayerNormLSTM", "EchoState"],
)
def test_a_layer_whose_units_depend_on_each_other_says_why_it_keeps_them_and_reads_fewer(layer, why):
    inputs = [keras.Input((TIME, FEATURES)), K.LSTM(UNITS, return_sequences=True, name="cut")]
    model = keras.Sequential([*inputs, layer(), K.Dense(2)])
    randomise(model)
    silence(model.layers[0].cell, [(model.layers[1].cell.kernel, 0, 0)])
    smaller = export.prune(model, sparsity=0.5, structure="units")
    assert [each.units for each in (smaller.layers[0], smaller.layers[1].cell)] == [3, UNITS]
    assert_same_answers(model, smaller)
    with pytest.raises(SettingError, match=f"layers has 'kept', which {why}"):
        export.prune(model, sparsity=0.5, structure="units", layers=["kept"])
    alone = keras.Sequential([keras.Input((TIME, FEATURES)), layer(), K.Dense(2)])
    with pytest.raises(SettingError, match=f"no recurrent layer whose units can be dropped; kept {why}"):
        export.prune(alone, sparsity=0.5, structure="units")


def test_each_direction_loses_its_own_units():
    layer = K.Bidirectional(K.LSTM(UNITS, return_sequences=True))
    readers = [layers.PeepholeLSTM(4), K.Dense(2)]
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer, *readers])
    randomise(model)
    silence(layer.forward_layer.cell, [(readers[0].cell.kernel, 0, 0)], [0, 1, 2])
    silence(layer.backward_layer.cell, [(readers[0].cell.kernel, 0, UNITS)], [2, 3, 5])
    smaller = export.prune(model, sparsity=0.5, structure="units", layers=[layer.name])
    assert smaller.layers[0].compute_output_shape((2, TIME, FEATURES))[-1] == 6
    assert_same_answers(model, smaller)


def test_several_readers_on_several_ways_all_become_smaller():
    inputs = keras.Input((TIME, FEATURES))
    recurrent, convolution = K.LSTM(UNITS, return_sequences=True), K.Conv1D(4, 2)
    each, joint = K.TimeDistributed(K.Dense(3)), K.Dense(2)
    sequences = recurrent(inputs)
    pooled = K.GlobalAveragePooling1D()(K.Activation("tanh")(sequences))
    raw = K.Flatten()(inputs)
    joined = joint(K.Concatenate()([raw, pooled]))
    model = keras.Model(inputs, [joined, K.Flatten()(each(sequences)), K.GlobalMaxPooling1D()(convolution(sequences))])
    randomise(model)
    silence(
        recurrent.cell,
        [(joint.kernel, 0, TIME * FEATURES), (each.layer.kernel, 0, 0), (convolution.kernel, 1, 0)],
    )
    smaller = export.prune(model, sparsity=0.5, structure="units")
    assert smaller.get_layer(recurrent.name).units == 3
    x = np.random.normal(size=(2, TIME, FEATURES)).astype("float32")
    for whole, small in zip(model(x), smaller(x), strict=True):
        np.testing.assert_allclose(  # float32, zeros left out of the sums
            ops.convert_to_numpy(whole), ops.convert_to_numpy(small), rtol=1e-4, atol=1e-5
        )


def test_a_stateful_layer_and_returned_states_become_smaller():
    inputs = keras.Input(batch_shape=(2, TIME, FEATURES))
    recurrent, reader = K.LSTM(UNITS, stateful=True, return_state=True), K.Dense(2)
    _, hidden, memory = recurrent(inputs)
    model = keras.Model(inputs, reader(K.Concatenate()([hidden, memory])))
    randomise(model)
    recurrent.reset_states()
    silence(recurrent.cell, [(reader.kernel, 0, 0), (reader.kernel, 0, UNITS)])
    assert_same_answers(model, export.prune(model, sparsity=0.5, structure="units"))


def test_the_units_that_go_have_the_smallest_product_of_norms():
    layer, reader = K.SimpleRNN(UNITS), K.Dense(2)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer, reader])
    randomise(model)
    kernel, recurrent, bias = layer.get_weights()
    heard = [np.sqrt((kernel[:, u] ** 2).sum() + (recurrent[:, u] ** 2).sum() + bias[u] ** 2) for u in range(UNITS)]
    said = [np.sqrt((recurrent[u] ** 2).sum() + (reader.get_weights()[0][u] ** 2).sum()) for u in range(UNITS)]
    kept = np.sort(np.argsort(np.multiply(heard, said))[2:])
    smaller = export.prune(model, sparsity=1 / 3, structure="units")
    np.testing.assert_array_equal(smaller.layers[0].get_weights()[0], kernel[:, kept])
    np.testing.assert_array_equal(smaller.layers[0].get_weights()[1], recurrent[kept][:, kept])
    np.testing.assert_array_equal(smaller.layers[1].get_weights()[0], reader.get_weights()[0][kept])


def test_all_recurrent_layers_are_cut_and_the_model_trains_on():
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            K.Bidirectional(layers.PeepholeLSTM(8, return_sequences=True)),
            K.LayerNormalization(),
            layers.LayerNormLSTM(4, return_sequences=True),  # keeps its units: they are normalised together
            K.GRU(10),
            K.Dense(2),
        ]
    )
    before = model.get_weights()
    smaller = export.prune(model, sparsity=0.5, structure="units")
    assert [each.output.shape[-1] for each in smaller.layers] == [8, 8, 4, 5, 2]
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    smaller.compile("sgd", "mse")
    smaller.fit(np.ones((4, TIME, FEATURES)), np.ones((4, 2)), verbose=0)


def test_at_least_one_unit_stays():
    model = keras.Sequential([keras.Input((TIME, FEATURES)), K.LSTM(2), K.Dense(2)])
    assert export.prune(model, sparsity=0.99, structure="units").layers[0].units == 1


@pytest.mark.on_tensorflow
def test_the_file_of_a_smaller_model_is_smaller_and_runs(tmp_path):
    model = keras.Sequential([keras.Input((TIME, FEATURES)), K.LSTM(64), K.Dense(2)])
    smaller = export.prune(model, sparsity=0.75, structure="units")
    whole, small = (
        export.to_tflite(each, tmp_path / f"{name}.tflite") for name, each in (("whole", model), ("small", smaller))
    )
    assert small.stat().st_size < 0.25 * whole.stat().st_size  # of the recurrent kernel a sixteenth is left
    x = np.random.normal(size=(2, TIME, FEATURES)).astype("float32")
    export.verify(smaller, small, x)


def with_layer(layer, *more):
    return keras.Sequential([keras.Input((TIME, FEATURES)), K.LSTM(4, return_sequences=True, name="cut"), layer, *more])


def sharing():
    inputs, shared = keras.Input((TIME, FEATURES)), K.Dense(2, name="shared")
    cut = K.LSTM(FEATURES, return_sequences=True, name="cut")
    return keras.Model(inputs, [shared(inputs), shared(cut(inputs))])


def decoding():
    inputs = keras.Input((TIME, FEATURES))
    _, *states = K.LSTM(4, return_state=True, name="cut")(inputs)
    return keras.Model(inputs, K.Dense(2)(K.LSTM(4, name="decoder")(inputs, initial_state=states)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_layer(K.Flatten(name="flat"), K.Dense(2)), "flat, a Flatten, reads the units of cut"),
        (lambda: with_layer(K.Activation("softmax", name="soft"), K.Dense(2)), "soft, a Activation, reads"),
        (lambda: with_layer(K.Dropout(0.1)), "the units of cut are an output"),
        (
            lambda: with_layer(layers.Recurrent(layers.ResidualCell(layers.LSTMCell(4)), name="added"), K.Dense(2)),
            "added, a Recurrent, reads the units of cut",
        ),
        (sharing, "shared is used more than once"),
        (decoding, "decoder starts from states that come from elsewhere"),
        (lambda: keras.Sequential([keras.Input((4,)), K.Dense(2)]), "no recurrent layer whose units can be dropped"),
    ],
)
def test_a_layer_that_cannot_follow_is_named(make, message):
    with pytest.raises(SettingError, match=message):
        export.prune(make(), sparsity=0.5, structure="units")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1}, "sparsity is 1; expected a share above 0 and below 1"),
        ({"sparsity": 0.5, "size": (1, 2)}, "structure 'units' has none"),
        ({"sparsity": 0.5, "layers": ["dense"]}, "layers has 'dense', which is no recurrent layer"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        export.prune(with_layer(K.Dense(2)), structure="units", **arguments)
