"""How the network "deepar" learns: each value of the future is told from the true ones before it."""

import math

import keras
from keras import ops

from zoo.recipes.forecasting.training import Windows


class TaughtWindows(Windows):
    """Batches of ({"history", "future", and what else the recipe reads}, future)."""

    def __getitem__(self, index):
        inputs, future = super().__getitem__(index)
        inputs = inputs if isinstance(inputs, dict) else {"history": inputs}
        return {**inputs, "future": future}, future


class Teacher(keras.Model):
    """What a forecasting model tells of a future that it is shown, value by value.

        history, future -> [scaled future, mean, spread]        (batch, horizon, 3 channels)

    A value that is missing counts as the last one before it where the network reads it.

    Args:
        model: of a recipe with network "deepar"; its weights are those that train.
    """

    def __init__(self, model):
        super().__init__()
        self.model, self.known = model, None
        read = model.get_layer("deepar").input
        if isinstance(read, list):  # the series, and what is known of each step
            given = {name: each for name, each in model.input.items() if name != "history"}
            self.known = keras.Model(given, read[1])

    def call(self, inputs):
        scale, network = self.model.get_layer("scale"), self.model.get_layer("deepar")
        _, level, spread = scale(inputs["history"])
        whole = scale.filled(ops.concatenate([inputs["history"], inputs["future"]], axis=1))
        whole = (whole - level) / spread
        names = [layer.name for layer in self.model.layers]
        if "standing" in names:
            whole = whole + self.model.get_layer("standing")(level)
        known = self.known and self.known({name: inputs[name] for name in self.known.input})
        return ops.concatenate([whole[:, -network.horizon :], *network.told(whole, known)], axis=-1)


def negative_log_likelihood(degrees):
    """Return the loss (future, what `Teacher` gives) -> mean of -log p(value); what is missing counts as 0.

        z = (value - mean) / spread
        -log p = log spread + log(2 pi) / 2 + z^2 / 2                                                      normal
        -log p = log spread + log B(1/2, d/2) + log(d) / 2 + (d + 1)/2 log(1 + z^2 / d)       Student's t, d degrees

    Args:
        degrees: int d; 0 for the normal distribution.
    """
    if degrees:
        constant = math.lgamma(0.5) + math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2) + math.log(degrees) / 2
    else:
        constant = math.log(2 * math.pi) / 2

    def loss(future, told):
        value, mean, spread = ops.split(told, 3, axis=-1)
        square = ops.square((value - mean) / spread)
        tail = (degrees + 1) / 2 * ops.log1p(square / degrees) if degrees else square / 2
        surprise = ops.log(spread) + constant + tail
        return ops.mean(ops.where(ops.equal(future, future), surprise, ops.zeros_like(surprise)))

    return loss
