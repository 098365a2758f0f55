"""Echo state network against its formula, and its reservoir against what was asked for."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.errors import SettingError
from zoo.layers import EchoState, EchoStateCell, RidgeReadout

BATCH, TIME, FEATURES = 2, 8, 3


def reservoir_weights(units, features=FEATURES, **arguments):
    cell = EchoStateCell(units, **arguments)
    cell.build((None, features))
    kernel, bias = [ops.convert_to_numpy(w).astype("float64") for w in (cell.kernel, cell.bias)]
    return kernel, cell.matrix().toarray().astype("float64"), bias


def test_it_is_the_formula():
    layer = EchoState(20, leak=0.3, bias_scaling=0.5, seed=1, return_sequences=True)
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    start = np.random.normal(size=(BATCH, 20)).astype("float32")
    got = layer(x, initial_state=[start])
    kernel, matrix, bias = reservoir_weights(20, bias_scaling=0.5, seed=1)
    assert np.abs(bias).max() > 0.1
    hidden = start.astype("float64")
    for t in range(TIME):
        hidden = 0.7 * hidden + 0.3 * np.tanh(x[:, t] @ kernel + hidden @ matrix + bias)
        # float32 against float64: sums of about 25 terms near 1
        np.testing.assert_allclose(ops.convert_to_numpy(got[:, t]), hidden, atol=5e-6)


def test_with_the_same_weights_it_is_the_reservoir_of_reservoirpy():
    nodes = pytest.importorskip("reservoirpy.nodes", reason="needs the extra `bench`")
    layer = EchoState(20, leak=0.3, bias_scaling=0.5, seed=1, return_sequences=True)
    x = np.random.normal(size=(TIME, FEATURES)).astype("float32")
    got = ops.convert_to_numpy(layer(x[None]))[0]
    kernel, matrix, bias = reservoir_weights(20, bias_scaling=0.5, seed=1)
    peer = nodes.Reservoir(lr=0.3, W=matrix.T, Win=kernel.T, bias=bias)
    np.testing.assert_allclose(got, peer.run(x.astype("float64")), atol=5e-6)  # float32 against float64, as above


@pytest.mark.parametrize(
    ("units", "connectivity"),
    [(1, 0.1), (40, 0.1), (600, 0.1), (600, 0.005), (600, 1 / 600), (600, 1.0)],
    ids=["one unit", "small", "sparse", "three connections", "one connection", "dense"],
)
def test_the_spectral_radius_is_the_one_asked_for(units, connectivity):
    _, matrix, _ = reservoir_weights(units, spectral_radius=1.2, connectivity=connectivity, seed=5)
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(1.2, abs=1e-3)


@pytest.mark.slow
def test_the_spectral_radius_of_thousands_of_units_is_the_one_asked_for():
    _, matrix, _ = reservoir_weights(3000, spectral_radius=0.95, connectivity=0.01, seed=2)
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(0.95, abs=1e-3)


def test_every_unit_hears_the_share_of_the_reservoir_that_was_asked_for():
    _, matrix, _ = reservoir_weights(50, connectivity=0.1, seed=4)
    np.testing.assert_array_equal((matrix != 0).sum(axis=0), 5)


@pytest.mark.parametrize(("units", "connectivity", "group"), [(100, 0.1, 8), (90, 0.5, 16), (30, 0.01, 1)])
def test_neighbours_hear_the_same_units_and_every_unit_is_heard(units, connectivity, group):
    _, matrix, _ = reservoir_weights(units, connectivity=connectivity, seed=3)
    heard = matrix != 0
    for start in range(0, units, group):
        neighbours = heard[:, start : start + group]
        np.testing.assert_array_equal(neighbours, neighbours[:, :1].repeat(neighbours.shape[1], axis=1))
    others = heard[:, ::group].sum(axis=1)  # in how many groups a unit is heard
    assert others.min() >= 1
    assert others.max() - others.min() <= 1
    assert np.linalg.matrix_rank(matrix) == units


def test_scalings_are_the_ranges_of_inputs_and_biases():
    kernel, _, bias = reservoir_weights(400, input_scaling=0.3, bias_scaling=0.7, seed=1)
    # The largest of 400 uniform draws is farther than 2% from the end once in 3000; the seed is fixed
    assert 0.98 * 0.3 < np.abs(kernel).max() <= 0.3
    assert 0.98 * 0.7 < np.abs(bias).max() <= 0.7


def test_a_seed_decides_the_reservoir_and_without_one_each_is_new():
    first, again, other = [reservoir_weights(9, seed=seed)[1] for seed in (7, 7, 8)]
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    drawn, redrawn = EchoStateCell(9), EchoStateCell(9)
    assert drawn.seed != redrawn.seed
    np.testing.assert_array_equal(
        *[
            reservoir_weights(9, seed=seed)[1]
            for seed in (drawn.seed, EchoStateCell.from_config(drawn.get_config()).seed)
        ]
    )


def test_nothing_of_a_reservoir_is_trained():
    layer = EchoState(9)
    layer.build((BATCH, TIME, FEATURES))
    assert not layer.trainable_variables
    assert len(layer.non_trainable_variables) == 3


def test_a_deep_reservoir_with_its_readout_predicts_and_is_saved(tmp_path):
    series = np.sin(np.arange(601) / 4) * np.sin(np.arange(601) / 9.5)
    series = series.reshape(1, -1, 1).astype("float32")
    reservoir = keras.Sequential(
        [
            keras.Input((None, 1)),
            EchoState(40, leak=0.5, bias_scaling=0.3, seed=1, return_sequences=True),
            EchoState(40, leak=0.5, bias_scaling=0.3, seed=2, return_sequences=True),
            keras.layers.Dropout(0.0),
        ]
    )
    readout = RidgeReadout(ridges=[1e-6], washout=50)
    readout.add(reservoir.predict(series[:, :400], verbose=0), series[:, 1:401])
    model = keras.Sequential([reservoir, readout.solve()])
    predicted = model.predict(series[:, :600], verbose=0)[:, 400:]
    error = np.square(predicted - series[:, 401:]).mean()
    assert error < 0.05 * np.square(np.diff(series[0, 400:, 0])).mean()  # far better than to repeat the last value
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.predict(series[:, :600], verbose=0)[:, 400:], predicted)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("units", 0),
        ("units", 2.5),
        ("spectral_radius", 0),
        ("spectral_radius", -0.5),
        ("spectral_radius", float("nan")),
        ("spectral_radius", None),
        ("connectivity", 0.0),
        ("connectivity", 1.5),
        ("leak", 0),
        ("leak", 1.01),
        ("leak", "fast"),
        ("input_scaling", 0),
        ("bias_scaling", -1),
        ("bias_scaling", float("inf")),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 0.5),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(SettingError, match=rf"{name} is {value!r}; expected"):
        EchoState(**{"units": 5, name: value})


def test_numbers_may_be_those_of_numpy(tmp_path):
    given = {"leak": np.float32(0.25), "spectral_radius": np.float64(0.5), "seed": np.int64(3)}
    model = keras.Sequential([keras.Input((TIME, FEATURES)), EchoState(np.int32(9), **given)])
    model.save(tmp_path / "model.keras")  # as JSON, which knows no numbers of NumPy
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    assert {name: loaded.get_config()[name] for name in given} == {"leak": 0.25, "spectral_radius": 0.5, "seed": 3}
    assert RidgeReadout(washout=np.int64(2)).washout == 2
