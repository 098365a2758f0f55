"""The ridge readout against the normal equations, solved in one piece."""

import re

import keras
import numpy as np
import pytest

from zoo.errors import SettingError
from zoo.layers import RidgeReadout

UNITS, OUTPUTS = 6, 2


def sequences(batch=3, time=20, noise=0.1):
    features = np.random.normal(size=(batch, time, UNITS)) + np.arange(UNITS)  # means that differ from zero
    weights = np.arange(UNITS * OUTPUTS).reshape(UNITS, OUTPUTS) / 5 - 1
    return features, features @ weights + [3.0, -20.0] + noise * np.random.normal(size=(batch, time, OUTPUTS))


def least_squares(features, targets, ridge):
    """The penalty as extra rows of a least squares problem, the bias as a column without penalty."""
    x, y = features.reshape(-1, UNITS), targets.reshape(-1, OUTPUTS)
    rows = np.vstack([np.hstack([x, np.ones((len(x), 1))]), np.sqrt(ridge) * np.eye(UNITS, UNITS + 1)])
    solution = np.linalg.lstsq(rows, np.vstack([y, np.zeros((UNITS, OUTPUTS))]), rcond=None)[0]
    return solution[:-1], solution[-1]


@pytest.mark.parametrize("ridge", [1e-6, 5.0])
def test_batches_give_the_least_squares_solution_of_the_whole(ridge):
    features, targets = sequences()
    readout = RidgeReadout(ridges=[ridge], washout=4)
    for one in range(3):
        readout.add(features[one : one + 1], targets[one : one + 1])
    kernel, bias = readout.solve().get_weights()
    expected_kernel, expected_bias = least_squares(features[:, 4:], targets[:, 4:], ridge)
    # Solved in float64 and then rounded to float32: 6e-8 of values up to 20
    np.testing.assert_allclose(kernel, expected_kernel, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-6, atol=2e-6)


def test_thousands_of_steps_give_the_least_squares_solution():
    features, targets = sequences(batch=1, time=5000)
    whole = RidgeReadout(ridges=[0.1])
    whole.add(features, targets)
    kernel, bias = whole.solve().get_weights()
    expected_kernel, expected_bias = least_squares(features, targets, 0.1)
    np.testing.assert_allclose(kernel, expected_kernel, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_sums_are_float64_for_features_of_any_dtype(dtype):
    features, targets = sequences(time=300)
    features = keras.ops.convert_to_numpy(keras.ops.cast(8 * features, dtype))
    readout = RidgeReadout(ridges=[1.0])
    readout.add(features, targets)
    expected, _ = least_squares(features.astype("float64"), targets, 1.0)
    np.testing.assert_allclose(readout.solve().get_weights()[0], expected, rtol=1e-6, atol=1e-6)


def test_features_and_targets_are_left_as_they_were():
    features, targets = sequences()
    before = features.copy(), targets.copy()
    RidgeReadout().add(features, targets)
    np.testing.assert_array_equal(features, before[0])
    np.testing.assert_array_equal(targets, before[1])


def test_a_large_mean_costs_no_digits():
    features, targets = sequences(noise=0.0)
    readout = RidgeReadout(ridges=[1e-9])
    for one in range(3):
        readout.add(features[one : one + 1] + 1e6, targets[one : one + 1])
    kernel, _ = readout.solve().get_weights()
    # The features themselves are rounded to 1e-10 beside 1e6; the sums of squares of 1e12 would be to 1e-4
    np.testing.assert_allclose(kernel, least_squares(features, targets, 1e-9)[0], atol=1e-6)


def test_continued_sequences_have_no_second_washout():
    features, targets = sequences(batch=1)
    whole, parts = RidgeReadout(ridges=[0.1], washout=5), RidgeReadout(ridges=[0.1], washout=5)
    whole.add(features, targets)
    parts.add(features[:, :12], targets[:, :12])
    parts.add(features[:, 12:], targets[:, 12:], continued=True)
    for one, other in zip(whole.solve().get_weights(), parts.solve().get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_ridge_with_the_least_held_out_error_is_chosen():
    features, targets = sequences(batch=1, time=8, noise=1.5)  # so few and noisy that a penalty helps
    held_out = sequences(batch=2, time=200)
    ridges = (1e-6, 1.0, 1e5)
    readout = RidgeReadout(ridges=ridges)
    readout.add(features, targets)
    kernel, _ = readout.solve([held_out]).get_weights()
    errors = {}
    for ridge in ridges:
        expected, bias = least_squares(features, targets, ridge)
        errors[ridge] = np.square(held_out[0] @ expected + bias - held_out[1]).mean()
    assert readout.errors == pytest.approx(errors, rel=1e-6)
    assert readout.ridge == min(errors, key=errors.get) == 1.0
    np.testing.assert_allclose(kernel, least_squares(features, targets, 1.0)[0], rtol=1e-5, atol=1e-6)


def test_a_ridge_that_drowns_in_rounding_is_passed_over():
    features, targets = sequences()
    twice = 1e4 * np.concatenate([features, features], axis=-1)
    readout = RidgeReadout(ridges=[1e-30, 1.0])
    readout.add(twice, targets)
    readout.solve([(twice, targets)])
    assert readout.ridge == 1.0
    hopeless = RidgeReadout(ridges=[1e-30])
    hopeless.add(twice, targets)
    with pytest.raises(SettingError, match=r"ridges is \(1e-30,\); all too small"):
        hopeless.solve()


def test_the_readout_is_an_ordinary_layer():
    readout = RidgeReadout(ridges=[1.0])
    readout.add(*sequences())
    layer = readout.solve()
    assert type(layer) is keras.layers.Dense
    assert tuple(layer(np.ones((2, 7, UNITS), "float32")).shape) == (2, 7, OUTPUTS)


@pytest.mark.parametrize("name", ["features", "targets"])
@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e200, -1e40])
def test_a_value_that_is_not_finite_is_refused_with_its_place(name, value):
    features, targets = sequences()
    {"features": features, "targets": targets}[name][2, 11, 1] = value
    with pytest.raises(SettingError, match=re.escape(f"{name} has {value} in sequence 2 at step 11; expected finite")):
        RidgeReadout(washout=3).add(features, targets)


@pytest.mark.parametrize("name", ["features", "targets"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.astype(str), "is an array of <U32; expected one of numbers"),
        (lambda x: x + 1j, "is an array of complex128"),
        (lambda x: x.astype(object), "is an array of object"),
        (lambda x: "features.npy", "is an array of <U12"),
        (lambda x: None, "is an array of object"),
        (lambda x: [x[0], x[1, 1:]], "is a list of unlike parts"),
        (lambda x: x[..., :0], r"is \(3, 20, 0\)"),
    ],
)
def test_what_holds_no_numbers_is_refused_by_name(name, change, words):
    given = dict(zip(("features", "targets"), sequences(), strict=True))
    with pytest.raises(SettingError, match=f"{name} {words}") as caught:
        RidgeReadout().add(**{**given, name: change(given[name])})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_of_any_size_give_numbers_or_are_refused(dtype):
    """The sums of squares of what float32 just holds are far below the end of float64."""
    features, targets = (np.sign(x) * 3e38 if dtype == "float32" else x for x in sequences())
    readout = RidgeReadout(ridges=[1e-4])
    readout.add(features.astype(dtype), targets)
    assert all(np.isfinite(weight).all() for weight in readout.solve().get_weights())


def test_weights_that_their_dtype_does_not_hold_are_refused():
    features, targets = sequences()
    readout = RidgeReadout(ridges=[1e-30])
    readout.add(1e-15 * features, 1e30 * targets)
    with pytest.raises(SettingError, match=r"the weights reach .*e\+\d\d, more than float32 holds"):
        readout.solve()


@pytest.mark.parametrize("held_out", [3, "pairs", [3], np.ones((2, 20, UNITS)), [sequences()[0]]])
def test_held_out_that_is_no_list_of_pairs_is_refused(held_out):
    readout = RidgeReadout()
    readout.add(*sequences())
    with pytest.raises(SettingError, match=r"held_out has a .*; expected a list of pairs"):
        readout.solve(held_out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ridges": []}, r"ridges is \(\)"),
        ({"ridges": [0]}, r"ridges is \(0,\); expected a list of numbers above 0"),
        ({"ridges": [float("nan")]}, r"ridges is \(nan,\)"),
        ({"washout": -1}, r"washout is -1; expected a whole number"),
        ({"washout": 1.5}, r"washout is 1\.5"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(arguments, message):
    with pytest.raises(SettingError, match=message):
        RidgeReadout(**arguments)


def test_what_does_not_fit_is_refused():
    features, targets = sequences()
    readout = RidgeReadout(washout=20)
    with pytest.raises(SettingError, match="no features"):
        readout.solve()
    with pytest.raises(SettingError, match="washout is 20; expected less than the 20 steps"):
        readout.add(features, targets)
    readout = RidgeReadout()
    with pytest.raises(SettingError, match=r"features is \(3, 20, 6\) and targets is \(3, 19, 2\)"):
        readout.add(features, targets[:, 1:])
    with pytest.raises(SettingError, match=r"targets is \(20, 2\)"):
        readout.add(features, targets[0])
    readout.add(features, targets)
    with pytest.raises(SettingError, match="features has 5 units and targets 2 outputs; expected 6 and 2"):
        readout.add(features[..., 1:], targets)
    with pytest.raises(SettingError, match=r"ridges has 6 values and held_out is None"):
        readout.solve()
    with pytest.raises(SettingError, match="held_out is empty"):
        readout.solve([])
