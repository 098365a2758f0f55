"""The activations that ONNX's recurrent ops know."""

import keras

from zoo.export.rules import Unsuitable

_KNOWN = {  # of Keras: (name, alpha, beta) of ONNX, None where it takes none
    keras.activations.linear: ("Affine", 1.0, 0.0),
    keras.activations.relu: ("Relu", None, None),
    keras.activations.tanh: ("Tanh", None, None),
    keras.activations.sigmoid: ("Sigmoid", None, None),
    keras.activations.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
    keras.activations.softsign: ("Softsign", None, None),
    keras.activations.softplus: ("Softplus", None, None),
    keras.activations.elu: ("Elu", 1.0, None),
    keras.activations.leaky_relu: ("LeakyRelu", 0.2, None),
}


def activation_attributes(*functions):
    """Return the attributes of an ONNX recurrent op that computes the Keras activations `functions`.

    Raises:
        Unsuitable: one that ONNX does not know.
    """
    for function in functions:
        if function not in _KNOWN:
            name = getattr(function, "__name__", type(function).__name__)
            raise Unsuitable(f"ONNX's recurrent ops have no activation {name}")
    known = [_KNOWN[function] for function in functions]
    attributes = {
        "activations": [name for name, _, _ in known],
        "activation_alpha": [alpha for _, alpha, _ in known if alpha is not None],
        "activation_beta": [beta for _, _, beta in known if beta is not None],
    }
    return {name: values for name, values in attributes.items() if values}
