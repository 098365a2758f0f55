"""What trains here, and how fast it can: libraries, devices, and which recurrent layers run on cuDNN."""

from dataclasses import dataclass

import keras

from zoo.train import surroundings

_PLAIN = {keras.layers.LSTM: "lstm", keras.layers.GRU: "gru"}


@dataclass(frozen=True)
class Finding:
    """Whether one recurrent layer runs on cuDNN, given a GPU, and what prevents it."""

    layer: str  # its path in the model
    kind: str  # its class
    prevented_by: tuple[str, ...]  # empty where it runs on cuDNN
    note: str = ""

    def __str__(self):
        if self.prevented_by:
            return f"{self.layer} ({self.kind}): not on cuDNN: {'; '.join(self.prevented_by)}"
        return f"{self.layer} ({self.kind}): on cuDNN{self.note and f', {self.note}'}"


def surroundings_report():
    """Return {topic: text} about versions, the processor and the devices that Keras sees."""
    hardware = surroundings.hardware()
    devices = [device for device in hardware["devices"] if not device.startswith("cpu")]
    versions = {name: version for name, version in surroundings.versions().items() if version}
    return {
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "backend": keras.backend.backend(),
        "machine": f"{hardware['machine']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB",
        "processor": hardware["processor"] or "unknown",
        "accelerators": ", ".join(devices) or f"none that {keras.backend.backend()} can see",
        "precision": keras.config.dtype_policy().name,
    }


def cudnn_report(model, *, backend=None):
    """Return a `Finding` for each recurrent layer of a model: whether it runs on cuDNN where there is a GPU.

    Follows what Keras 3 asks for: an LSTM or GRU of the default activations, with a bias, not unrolled and without
    recurrent dropout; on JAX an LSTM, no GRU; on JAX and torch no mask.

    Args:
        model: a built `keras.Model`.
        backend: "tensorflow", "jax" or "torch" (default: the one that runs).

    Reference:
        https://keras.io/api/layers/recurrent_layers/lstm and .../gru, "requirements to use the cuDNN implementation"
    """
    backend = backend or keras.backend.backend()
    return [_finding(path, layer, masked, backend) for path, layer, masked in _recurrent(model)]


def _recurrent(layer, path="", masked=False):
    """Yield (path, layer, whether a mask reaches it) of every recurrent layer in a layer."""
    for one in layer.layers if isinstance(layer, keras.Model) else [layer]:
        here = f"{path}/{one.name}" if path else one.name
        mask = masked or _is_masked(one)
        if isinstance(one, keras.Model):
            yield from _recurrent(one, here, mask)
        elif isinstance(one, keras.layers.Bidirectional):
            for side in (one.forward_layer, one.backward_layer):
                yield from _recurrent(side, here, mask)
        elif isinstance(one, keras.layers.Wrapper):
            yield from _recurrent(one.layer, here, mask)
        elif isinstance(one, keras.layers.RNN) or hasattr(one, "cell"):
            yield here, one, mask


def _is_masked(layer):
    try:
        return any(getattr(one, "_keras_mask", None) is not None for one in keras.tree.flatten(layer.input))
    except (AttributeError, ValueError):  # inside of a wrapper, where a layer has no input of its own
        return False


def _finding(path, layer, masked, backend):
    kind = next((name for known, name in _PLAIN.items() if isinstance(layer, known)), None)
    if kind is None:
        cell = getattr(layer, "cell", None)
        around = (
            f"it runs {type(cell).__name__} step by step" if type(layer) is keras.layers.RNN else "it has other gates"
        )
        return Finding(path, type(layer).__name__, (f"{around}, and cuDNN has LSTM and GRU alone",))
    reasons = [
        f"{name} is {value!r}, expected {expected!r}"
        for name, value, expected in (
            ("activation", _name(layer.activation), "tanh"),
            ("recurrent_activation", _name(layer.recurrent_activation), "sigmoid"),
            ("unroll", layer.unroll, False),
            ("use_bias", layer.use_bias, True),
            ("recurrent_dropout", layer.recurrent_dropout, 0.0),
            ("use_cudnn", layer.use_cudnn, "auto"),
            ("reset_after", getattr(layer, "reset_after", True), True),
        )
        if value != expected and (name, value) != ("use_cudnn", True)
    ]
    if kind == "gru" and backend == "jax":
        reasons.append("Keras on JAX has no cuDNN for GRU: train it on TensorFlow or torch, or take an LSTM")
    if masked and backend != "tensorflow":
        reasons.append(
            f"a mask reaches it, which Keras on {backend} leaves to its own loop: pad to like lengths instead"
        )
    note = "if all padding is at the end" if masked else ""
    return Finding(path, type(layer).__name__, tuple(reasons), note)


def _name(activation):
    return getattr(activation, "__name__", str(activation))
