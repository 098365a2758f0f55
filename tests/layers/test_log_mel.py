"""LogMel and RunningLevel against NumPy's FFT and formulas in float64, and in the runtime."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from zoo.errors import SettingError
from zoo.layers.log_mel import LogMel
from zoo.layers.running_level import RunningLevel

# float32 against float64: about 1e-7 of the loudest bin of a frame, which the floor (-60 dB) lifts to 1e-5 at most.
CLOSE = {"rtol": 0, "atol": 3e-5}
SETTINGS = [  # rate in Hz, frame and hop in ms, bands: hops that divide the frame, that do not, odd factors
    (8000, 32.0, 20.0, 40),
    (8000, 25.0, 10.0, 24),
    (16000, 25.0, 10.0, 40),
    (11025, 30.0, 12.3, 30),
    (44100, 25.0, 10.0, 40),
    (16000, 40.0, 40.0, 30),
]


def numpy_log_mel(samples, rate, frame, hop, bands, low=20.0, floor=1e-6):
    window = np.hanning(frame + 1)[:-1]
    window *= 2 / window.sum()
    starts = range(0, samples.shape[-1] - frame + 1, hop)
    spectra = np.fft.rfft(np.stack([samples[:, at : at + frame] for at in starts], 1).astype("float64") * window)
    mel = 1127 * np.log1p(np.array([low, rate / 2]) / 700)  # HTK's constant for natural logarithms
    corners = 700 * np.expm1(np.linspace(*mel, bands + 2) / 1127)
    bins = np.fft.rfftfreq(frame, 1 / rate)
    filters = [
        np.interp(1127 * np.log1p(bins / 700), 1127 * np.log1p(corners[i : i + 3] / 700), [0, 1, 0], left=0, right=0)
        for i in range(bands)
    ]
    return np.log(np.maximum(np.abs(spectra) ** 2 @ np.array(filters).T, floor))


@pytest.mark.parametrize(("rate", "frame_ms", "hop_ms", "bands"), SETTINGS)
def test_log_mel_equals_numpys_fft_and_the_mel_formula(rate, frame_ms, hop_ms, bands):
    layer = LogMel(rate, mels=bands, frame_ms=frame_ms, hop_ms=hop_ms)
    samples = np.random.normal(size=(3, rate // 2)).astype("float32") * [[1.0], [0.01], [1e-5]]  # loud, quiet, silent
    expected = numpy_log_mel(samples, rate, layer.frame, layer.hop, bands)
    np.testing.assert_allclose(np.array(layer(samples)), expected, **CLOSE)
    assert np.ptp(expected) > 5  # the comparison has something to compare


@pytest.mark.parametrize(("rate", "frame_ms", "hop_ms", "bands"), SETTINGS)
def test_the_frame_is_rounded_up_by_a_few_samples_and_the_matrices_are_small(rate, frame_ms, hop_ms, bands):
    layer = LogMel(rate, mels=bands, frame_ms=frame_ms, hop_ms=hop_ms)
    assert rate * frame_ms / 1000 - 1e-6 <= layer.frame <= rate * frame_ms / 1000 * 1.05
    assert layer.hop == round(rate * hop_ms / 1000)
    constants = [each for each in keras.tree.flatten([layer._constants, layer._bands]) if isinstance(each, np.ndarray)]
    assert sum(each.size for each in constants) < layer.frame**2 / 6  # the plain transform alone has frame ** 2


def test_a_full_scale_sine_has_energy_one_in_its_band():
    time = np.arange(8000) / 8000
    energy = np.exp(np.array(LogMel(8000, mels=24)(np.sin(2 * np.pi * 1000 * time)[None])))[0]
    # The triangles sum to 1 and the Hann window spreads a sine over 1 + 2 (1/2)^2 = 1.5 times its peak power.
    np.testing.assert_allclose(energy.sum(axis=-1), 1.5, rtol=1e-3)


@pytest.mark.parametrize("samples", [200, 201, 359, 360, 361, 8000])
def test_the_number_of_frames_is_as_promised_for_any_length(samples):
    layer = LogMel(8000, mels=20, frame_ms=25, hop_ms=20)
    assert layer(np.zeros((2, samples))).shape == layer.compute_output_shape((2, samples))
    assert layer.compute_output_shape((None, samples)) == (None, 1 + (samples - 200) // 160, 20)


def test_features_stay_float32_inside_a_mixed_precision_model():
    samples = np.random.normal(size=(1, 4000)).astype("float32")
    mixed = LogMel(8000, dtype="mixed_float16")(samples)
    assert keras.backend.standardize_dtype(mixed.dtype) == "float16"
    np.testing.assert_allclose(np.array(mixed), np.array(LogMel(8000)(samples)), atol=4e-3)  # half a step of float16


@pytest.mark.parametrize("settings", [{"mels": 21, "frame_ms": 30.0, "hop_ms": 15.0, "low_hz": 90.0, "floor": 1e-8}])
def test_saving_keeps_every_setting(settings):
    layer = LogMel(11025, **settings)
    copy = LogMel.from_config(layer.get_config())
    samples = np.random.normal(size=(2, 5000)).astype("float32")
    np.testing.assert_array_equal(np.array(copy(samples)), np.array(layer(samples)))
    assert {name: copy.get_config()[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sample_rate": 0}, "sample_rate is 0; expected a whole number"),
        ({"sample_rate": 8000, "mels": 0}, "mels is 0; expected a whole number"),
        ({"sample_rate": "8000"}, "sample_rate is '8000'; expected a whole number"),
        ({"sample_rate": 8000, "mels": 500}, "500 mel bands are too many for 128 frequency bins"),
        ({"sample_rate": 8000, "hop_ms": 50.0}, "the frame at least as long as the hop"),
        ({"sample_rate": 8000, "hop_ms": 0.01}, "one sample or more"),
        ({"sample_rate": 8000, "low_hz": 4000.0}, "half of 8000 Hz"),
        ({"sample_rate": 8000, "floor": float("nan")}, "floor must be a number above 0"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings, says):
    with pytest.raises(SettingError, match=says):
        LogMel(**settings)


@pytest.mark.parametrize(("samples", "says"), [(255, "shorter than one frame of 256"), (None, "must be fixed")])
def test_clips_without_a_frame_are_refused(samples, says):
    with pytest.raises(SettingError, match=says):
        keras.Sequential([keras.Input((samples,)), LogMel(8000)])


def test_the_running_level_is_the_loudest_energy_so_far():
    features = np.random.normal(-6, 4, size=(3, 37, 5)).astype("float32")
    y = np.array(RunningLevel(range_db=20.0, lowest_db=-30.0)(features))
    level = np.full((3, 1), -30.0 * np.log(10) / 10, "float32")
    for t in range(37):
        level = np.maximum(level, features[:, t].max(axis=-1, keepdims=True))
        # One float32 subtraction on both sides; the constant is rounded once.
        np.testing.assert_allclose(y[:, t], np.maximum(features[:, t] - level, -2 * np.log(10)), rtol=0, atol=2e-6)


def test_the_running_level_knows_nothing_of_the_future_and_nothing_of_loudness():
    features = np.random.normal(-4, 2, size=(1, 20, 4)).astype("float32")
    layer = RunningLevel(lowest_db=-200.0)
    whole = np.array(layer(features))
    np.testing.assert_array_equal(np.array(layer(features[:, :9])), whole[:, :9])
    np.testing.assert_allclose(np.array(layer(features - 5)), whole, atol=2e-6)  # float32 rounding near 10


def test_the_running_level_is_saved_and_refuses_an_empty_range():
    assert RunningLevel.from_config(RunningLevel(range_db=31.0, lowest_db=-51.0).get_config()).range_db == 31.0
    with pytest.raises(SettingError, match="range_db must be above 0"):
        RunningLevel(range_db=0)


@pytest.mark.on_tensorflow
def test_the_exported_front_end_has_built_in_operations_only_and_no_quantiser_touches_it():
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    model = keras.Sequential([keras.Input((8000,)), LogMel(8000, mels=24, frame_ms=25.0), RunningLevel()])
    traced = tf.function(model).get_concrete_function(tf.TensorSpec((1, 8000)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]  # dynamic-range int8 of every constant of 1024 and more
    content = converter.convert()  # raises where an operation would need Flex
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    assert not {"CUSTOM", "GATHER", "RFFT2D"} & {each["op_name"] for each in interpreter._get_ops_details()}
    samples = (np.random.normal(size=(1, 8000)) * np.linspace(0, 0.3, 8000)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], samples)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, np.array(model(samples)), **CLOSE)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_front_end_is_the_same_on_every_backend(backend):
    pytest.importorskip(backend)
    code = (
        "import json, numpy as np; from keras import ops; from zoo.layers.log_mel import LogMel;"
        "from zoo.layers.running_level import RunningLevel;"
        "x = np.random.default_rng(0).normal(size=(2, 3000)).astype('float32') * 0.1;"
        "print(json.dumps(ops.convert_to_numpy(RunningLevel()(LogMel(8000, mels=20)(x))).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    samples = np.random.default_rng(0).normal(size=(2, 3000)).astype("float32") * 0.1
    expected = np.array(RunningLevel()(LogMel(8000, mels=20)(samples)))
    np.testing.assert_allclose(json.loads(done.stdout), expected, **CLOSE)
