"""The one table of layers and recipes: a line here, and every promise is tested for it."""

from dataclasses import dataclass, field

from zoo import layers


@dataclass(frozen=True)
class LayerCase:
    """A recurrent layer with arguments that differ from their defaults, or a forgotten one would go unseen."""

    layer: type
    arguments: dict = field(default_factory=dict)

    def make(self, **more):
        return self.layer(**{**self.arguments, **more})

    def __str__(self):
        return self.layer.__name__


LAYERS = [
    LayerCase(
        layers.EchoState,
        {
            "units": 6,
            "spectral_radius": 0.8,
            "connectivity": 0.5,
            "leak": 0.4,
            "input_scaling": 0.7,
            "bias_scaling": 0.2,
            "seed": 3,
        },
    ),
    LayerCase(layers.PeepholeLSTM, {"units": 5}),
]

RECIPES = ["keyword_spotting"]
