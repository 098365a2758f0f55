"""What turns a picture into a map of features: a small network of ours, one of Keras, or a file of the user."""

import hashlib
import importlib
from pathlib import Path

import numpy as np

from zoo.errors import DataError, SettingError

SMALL, SQUEEZENET, IMAGENET = "small", "squeezenet", "imagenet"
_FIRES = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}  # module: width that it squeezes to
_EXPANDS = 4  # times as many channels leave by each of its two convolutions
_BGR_MEANS = (103.939, 116.779, 123.68)  # of ImageNet's pictures, that SqueezeNet's authors take off
_SMALL = ((24, 2), (48, 2), (64, 2), (64, 1))  # channels, stride; at last a place sees 31 pixels, a whole thing


def build(name, weights, size):
    """Return a `keras.Model` from pictures, (batch, size, size, 3) of 0 to 255, to features (batch, places, channels).

    Args:
        name: "small", not trained; "squeezenet"; a name of `keras.applications`, as MobileNetV2; or the path of a
            .keras or .tflite file, of which the last map counts that has more than one place.
        weights: "imagenet", fetched by Keras, or the path of an .h5 file of the named network without its top.
        size: int, pixels.

    Raises:
        SettingError: there is no network of that name; the network takes no pictures of that size.
        DataError: a file is missing, damaged or of another network.
    """
    import keras

    if Path(name).suffix in (".keras", ".tflite"):
        encoder = _from_file(Path(name).expanduser(), size)
    elif name == SMALL:
        encoder = _small(size)
    elif name == SQUEEZENET:
        encoder = _squeezenet(size)
        _read_squeezenet(encoder, weights)
    else:
        encoder = _application(name, weights, size)
    height, width, channels = encoder.output.shape[1:]
    x = keras.layers.Reshape((height * width, channels), name="places")(encoder.output)
    encoder = keras.Model(encoder.input, x, name="encoder")
    encoder.trainable = name == SMALL
    return encoder


def identity(encoder):
    """Return a hash of what an encoder computes, its layers and weights; str."""
    hashed = hashlib.sha256(repr([(type(layer).__name__, layer.name) for layer in encoder.layers]).encode())
    for value in encoder.get_weights():
        hashed.update(np.ascontiguousarray(value).tobytes())
    return hashed.hexdigest()


def _small(size):
    import keras

    pictures = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="scale")(pictures)
    for number, (channels, stride) in enumerate(_SMALL, 1):
        x = keras.layers.Conv2D(channels, 3, stride, "same", use_bias=False, name=f"convolution_{number}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"normalise_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)
    return keras.Model(pictures, x)


def _application(name, weights, size):
    import keras

    make = getattr(keras.applications, name, None)
    if not name[:1].isupper() or not callable(make):
        known = ", ".join(known for known in dir(keras.applications) if known[0].isupper())
        raise SettingError(
            f"encoder is {name!r}, expected {SMALL}, {SQUEEZENET}, a .keras or .tflite file, or one of {known}."
        )
    if weights != IMAGENET and not Path(weights).expanduser().is_file():
        raise DataError(f"there is no file {weights}, expected weights of {name} without its top, or {IMAGENET}.")
    preprocess = importlib.import_module(make.__module__).preprocess_input
    pictures = keras.Input((size, size, 3), name="image")
    given = weights if weights == IMAGENET else str(Path(weights).expanduser())
    try:
        network = make(include_top=False, weights=given, input_shape=(size, size, 3))
    except (ValueError, OSError) as error:
        raise DataError(f"{name} with weights {weights} and pictures of {size} cannot be made: {error}") from error
    return keras.Model(pictures, network(preprocess(pictures)))


def _squeezenet(size):
    """SqueezeNet 1.1 without its top; layers are named as in the public weights, with _ for /."""
    import keras

    pictures = keras.Input((size, size, 3), name="image")
    x = _Bgr(name="blue_green_red")(pictures)
    x = keras.layers.Conv2D(64, 3, 2, activation="relu", name="conv1")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    for number, squeezed in _FIRES.items():
        x = keras.layers.Conv2D(squeezed, 1, activation="relu", name=f"fire{number}_squeeze1x1")(x)
        sides = [
            keras.layers.Conv2D(_EXPANDS * squeezed, n, padding="same", activation="relu", name=f"fire{number}_{side}")
            for n, side in ((1, "expand1x1"), (3, "expand3x3"))
        ]
        x = keras.layers.Concatenate(name=f"fire{number}_concat")([side(x) for side in sides])
        if number in (3, 5):
            x = keras.layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
    return keras.Model(pictures, x)


def _Bgr(name):
    """A convolution that turns red, green, blue around and takes the means off, as Caffe's networks expect."""
    import keras

    turn = np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3)
    return keras.layers.Conv2D(
        3,
        1,
        kernel_initializer=keras.initializers.Constant(turn),
        bias_initializer=keras.initializers.Constant(-np.array(_BGR_MEANS, np.float32)),
        name=name,
    )


def _read_squeezenet(encoder, path):
    import h5py

    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(
            f"there is no file {path}, expected SqueezeNet 1.1's weights, tf_dim_ordering, notop (.h5): give its path"
            " as weights."
        )
    try:
        with h5py.File(path, "r") as file:
            for layer in encoder.layers:
                if layer.name.startswith(("conv1", "fire")) and layer.weights:
                    found = _arrays(file[layer.name.replace("_", "/")] if "_" in layer.name else file[layer.name])
                    layer.set_weights(sorted(found, key=lambda array: -array.ndim))  # the kernel, then the bias
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} holds no weights of SqueezeNet 1.1 ({error}): fetch them again.") from error


def _arrays(group):
    import h5py

    found = []
    group.visititems(lambda _, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return found


def _from_file(path, size):
    import keras

    if not path.is_file():
        raise DataError(f"there is no file {path}, expected a .keras or .tflite file: check the path.")
    if path.suffix == ".tflite":
        from zoo.recipes.image_captioning.tflite_encoder import read_encoder

        return read_encoder(path, size)
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
        maps = [layer.output for layer in network.layers if len(getattr(layer.output, "shape", ())) == 4]
        maps = [one for one in maps if None not in one.shape[1:] and one.shape[1] * one.shape[2] > 1]
    except (ValueError, TypeError, OSError, KeyError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as a Keras model ({error}): save it again.") from error
    if not maps or tuple(network.inputs[0].shape[1:]) != (size, size, 3):
        raise SettingError(
            f"{path} takes {network.inputs[0].shape[1:]} and has {len(maps)} maps of features, expected pictures of"
            f" ({size}, {size}, 3), as image_size says, and one map or more."
        )
    pictures = keras.Input((size, size, 3), name="image")
    return keras.Model(pictures, keras.Model(network.inputs, maps[-1])(pictures))
