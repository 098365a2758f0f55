"""Encoders are what their files hold, and features are computed once."""

import keras
import numpy as np
import pytest
from PIL import Image

from zoo import export
from zoo.errors import DataError, SettingError
from zoo.recipes.image_captioning import encoders, features

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("float32")


def network():
    """A small classifier with all that the reader knows: its map is 4 x 4 x 10."""
    given = keras.Input((32, 32, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(given)
    x = keras.layers.Conv2D(6, 3, 2, "same", activation="relu")(x)
    x = keras.layers.DepthwiseConv2D(3, 1, "same", activation="relu6")(x)
    y = keras.layers.Conv2D(6, 1)(x)
    x = keras.layers.Add()([x, y])
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Concatenate()([x, keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)])
    x = keras.layers.AveragePooling2D(2, name="map")(x)
    return keras.Model(given, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


def places(values):
    return values.reshape(len(values), -1, values.shape[-1])


@pytest.fixture
def classifier():
    model = network()
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.5, weight.shape))
    return model


@pytest.mark.on_tensorflow
@pytest.mark.parametrize("scheme", ["float32", "float16", "full_int8"])
def test_a_tflite_file_is_read_up_to_its_last_map(classifier, tmp_path, scheme):
    body = keras.Model(classifier.inputs, classifier.output)
    # Without the scaling, that ops of their own would be: a published classifier takes pixels on its input's scale.
    scaled = keras.Input((32, 32, 3), name="scaled")
    x = scaled
    tensors = {id(classifier.layers[1].output): scaled}
    for layer in classifier.layers[2:]:
        taken = layer.input if isinstance(layer.input, list) else [layer.input]
        given = [tensors[id(one)] for one in taken]
        x = tensors[id(layer.output)] = layer(given if len(given) > 1 else given[0])
    examples = {"representative_data": PICTURES / 127.5 - 1} if scheme == "full_int8" else {}
    path = export.to_tflite(keras.Model(scaled, x), tmp_path / "m.tflite", scheme=scheme, **examples)
    encoder = encoders.build(str(path), "imagenet", 32)
    expected = places(keras.Model(body.inputs, classifier.get_layer("map").output).predict(PICTURES, verbose=0))
    found = encoder.predict(PICTURES, verbose=0)
    assert found.shape == (3, 16, 10) and not encoder.trainable
    # float32: sums in another order; float16 holds 11 bits; int8 weights are off by up to half of 1/127 of the largest
    limit = {"float32": 1e-5, "float16": 2e-3, "full_int8": 0.03}[scheme] * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=limit)


def test_a_keras_file_is_read_up_to_its_last_map(classifier, tmp_path):
    classifier.save(tmp_path / "m.keras")
    encoder = encoders.build(str(tmp_path / "m.keras"), "imagenet", 32)
    expected = keras.Model(classifier.inputs, classifier.get_layer("map").output).predict(PICTURES, verbose=0)
    np.testing.assert_allclose(encoder.predict(PICTURES, verbose=0), places(expected), atol=1e-5)
    with pytest.raises(SettingError, match=r"takes \(32, 32, 3\) and has .* expected pictures of \(48, 48, 3\)"):
        encoders.build(str(tmp_path / "m.keras"), "imagenet", 48)


def test_an_application_of_keras_is_fed_as_it_was_trained(tmp_path, monkeypatch):
    network = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(5, 3, 2)])
    monkeypatch.setattr(keras.applications, "MobileNetV2", _standing_in(network, keras.applications.MobileNetV2))
    (tmp_path / "w.h5").write_bytes(b"")
    encoder = encoders.build("MobileNetV2", str(tmp_path / "w.h5"), 32)
    np.testing.assert_allclose(
        encoder.predict(PICTURES, verbose=0), places(network.predict(PICTURES / 127.5 - 1, verbose=0)), atol=1e-4
    )
    encoder.save(tmp_path / "e.keras")
    again = keras.saving.load_model(tmp_path / "e.keras")
    np.testing.assert_allclose(again.predict(PICTURES, verbose=0), encoder.predict(PICTURES, verbose=0), atol=1e-6)


def _standing_in(network, original):
    def make(**options):
        assert options["include_top"] is False and options["input_shape"] == (32, 32, 3)
        return network

    make.__module__ = original.__module__
    return make


def test_small_learns_and_others_do_not():
    assert encoders.build("small", "imagenet", 48).trainable
    assert encoders.build("small", "imagenet", 48).output_shape == (None, 36, 64)


@pytest.mark.parametrize(
    ("name", "weights", "error", "sentence"),
    [
        ("resnet", "imagenet", SettingError, "encoder is 'resnet', expected small, squeezenet, .*MobileNetV2"),
        ("none.tflite", "imagenet", DataError, "there is no file none.tflite"),
        ("none.keras", "imagenet", DataError, "there is no file none.keras"),
        ("MobileNetV2", "none.h5", DataError, "there is no file none.h5"),
        ("squeezenet", "imagenet", DataError, "expected SqueezeNet 1.1's weights"),
    ],
)
def test_an_encoder_that_is_none_is_named(name, weights, error, sentence):
    with pytest.raises(error, match=sentence):
        encoders.build(name, weights, 64)


def test_files_that_are_damaged_are_named(tmp_path):
    for name in ("a.tflite", "a.keras"):
        (tmp_path / name).write_bytes(b"nonsense" * 10)
        with pytest.raises(DataError, match=rf"{name}"):
            encoders.build(str(tmp_path / name), "imagenet", 32)
    (tmp_path / "a.h5").write_bytes(b"nonsense" * 10)
    with pytest.raises(DataError, match=r"a.h5 holds no weights of SqueezeNet"):
        encoders.build("squeezenet", str(tmp_path / "a.h5"), 64)


@pytest.mark.on_tensorflow
def test_any_damage_to_a_tflite_file_is_an_error_of_ours_or_a_network(classifier, tmp_path):
    small = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, activation="relu")])
    whole = export.to_tflite(small, tmp_path / "m.tflite").read_bytes()
    random, refused = np.random.default_rng(0), 0
    for trial in range(60):
        spoilt = bytearray(whole[: random.integers(16, len(whole))] if trial % 3 == 0 else whole)
        for place in random.integers(8, len(spoilt), 8):
            spoilt[place] = random.integers(256)
        (tmp_path / "spoilt.tflite").write_bytes(spoilt)
        try:
            encoders.build(str(tmp_path / "spoilt.tflite"), "imagenet", 8)
        except (DataError, SettingError):
            refused += 1
    assert refused > 10


def test_features_are_computed_once_for_the_same_pictures_and_encoder(tmp_path):
    encoder, reads = encoders.build("small", "imagenet", 16), []
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, value in zip(paths, (10, 100, 200), strict=True):
        Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(path)

    def read(path):
        reads.append(path)
        return np.asarray(Image.open(path))

    def made():
        reads.clear()
        return features.features(encoder, paths, read, tmp_path / "cache"), len(reads)

    first, count = made()
    expected = encoder.predict(np.stack([read(path) for path in paths]).astype("float32"), verbose=0)
    assert count == 3 and first.dtype == np.float16
    np.testing.assert_allclose(first, expected, rtol=1e-3, atol=1e-3)  # float16
    again, count = made()
    assert count == 0 and np.array_equal(first, again)
    Image.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(paths[0])
    assert made()[1] == 3  # a picture changed
    encoder.layers[2].set_weights([weight + 1 for weight in encoder.layers[2].get_weights()])
    assert made()[1] == 3  # the encoder changed
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]  # nothing unfinished
    paths[1].unlink()
    with pytest.raises(DataError, match=r"1.png: No such file"):
        made()


@pytest.mark.real
def test_mobilenet_of_a_quantised_file_sees_what_the_file_sees(real_data):
    path = real_data / "encoders" / "mobilenet_v2_1.0_224_quant.tflite"
    encoder = encoders.build(str(path), "imagenet", 224)
    files = sorted((real_data / "flickr8k" / "images").iterdir())[:4]
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files])
    found = encoder.predict(pictures.astype("float32"), verbose=0)
    assert found.shape == (4, 49, 1280)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    top = []
    for picture in pictures:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        top.append(int(np.argmax(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))))
    # The head that the encoder leaves off, by hand: the mean of the map through the file's last convolution.
    details = {one["name"]: one for one in interpreter.get_tensor_details()}
    (kernel,) = [one for n, one in details.items() if list(one["shape"]) == [1001, 1, 1, 1280]]
    (bias,) = [one for n, one in details.items() if list(one["shape"]) == [1001] and one["dtype"] == np.int32]
    (scale, zero), (bias_scale, _) = kernel["quantization"], bias["quantization"]
    weights = scale * (interpreter.get_tensor(kernel["index"]).reshape(1001, 1280).astype("float32") - zero)
    logits = found.mean(axis=1) @ weights.T + bias_scale * interpreter.get_tensor(bias["index"])
    assert np.mean(logits.argmax(axis=1) == top) >= 0.75  # rounding of activations may decide where two are near


@pytest.mark.real
def test_squeezenet_of_its_public_weights_has_a_map(real_data):
    path = real_data / "encoders" / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
    encoder = encoders.build("squeezenet", str(path), 64)
    assert encoder.output_shape == (None, 9, 512)
    assert encoder.count_params() == 722_496 + 12  # SqueezeNet 1.1 without its last convolution; and the turning round
