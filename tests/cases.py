"""The one table of layers and recipes: a line here, and every promise is tested for it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from zoo import layers


@dataclass(frozen=True)
class LayerCase:
    """A recurrent layer with arguments that differ from their defaults, or a forgotten one would go unseen."""

    layer: type
    arguments: dict = field(default_factory=dict)
    cell: Callable | None = None  # dtype -> the cell of a `Recurrent`, where no layer makes its own
    chance: bool = False  # training draws noise, and is compared where the same seed draws the same
    output_is_state: bool = True  # the output is the first state
    by_batch: bool = False  # training normalises by the batch, so that it is not what inference is
    spikes: bool = False  # outputs are 0 or 1: a rounded voltage can decide on one, and training moves in jumps

    def make(self, **more):
        given = {} if self.cell is None else {"cell": self.cell(more.get("dtype"))}
        return self.layer(**{**given, **self.arguments, **more})

    def __str__(self):
        return self.layer.__name__ if self.cell is None else type(self.cell(None)).__name__


LAYERS = [
    LayerCase(
        layers.LIF,
        {
            "units": 5,
            "time_constant": 0.004,
            "time_step": 0.0015,
            "threshold": 0.6,
            "slope": 2.0,
            "recurrent": True,
        },
        spikes=True,
    ),
    LayerCase(layers.FastGRNN, {"units": 5, "input_rank": 3, "recurrent_rank": 2, "density": 0.8}),
    LayerCase(layers.SLSTM, {"units": 6, "heads": 3}),
    LayerCase(layers.MinLSTM, {"units": 5}),
    LayerCase(layers.MinGRU, {"units": 5}),
    LayerCase(layers.LayerNormLSTM, {"units": 8}),
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
    LayerCase(layers.BatchNormLSTM, {"units": 5, "momentum": 0.7}, by_batch=True),
    LayerCase(layers.BatchNormLSTM, {"units": 5, "steps": 9, "momentum": 0.7}, by_batch=True),
    LayerCase(layers.IndRNN, {"units": 5, "steps": 9, "activation": "tanh", "remember": True}),
    LayerCase(layers.PeepholeLSTM, {"units": 5}),
    LayerCase(layers.PeepholeLSTM, {"units": 5, "coupled": True}),
    LayerCase(layers.PeepholeLSTM, {"units": 5, "projection": 3, "coupled": True}),
    LayerCase(layers.Recurrent, cell=lambda dtype: layers.LSTMCell(5, dtype=dtype)),
    LayerCase(layers.Recurrent, cell=lambda dtype: layers.GRUCell(5, dtype=dtype)),
    LayerCase(
        layers.Recurrent,
        cell=lambda dtype: layers.Zoneout(layers.PeepholeLSTMCell(5, dtype=dtype), {"cell": 0.3}, seed=3),
        chance=True,
    ),
    LayerCase(
        layers.Recurrent,
        cell=lambda dtype: layers.VariationalDropout(layers.GRUCell(5, dtype=dtype), 0.2, 0.3, seed=3),
        chance=True,
    ),
    LayerCase(
        layers.Recurrent,
        cell=lambda dtype: layers.ResidualCell(layers.PeepholeLSTMCell(4, dtype=dtype)),
        output_is_state=False,
    ),
    LayerCase(
        layers.Recurrent,
        cell=lambda dtype: layers.SampledCell(layers.VariationalDropout(layers.LSTMCell(5, dtype=dtype), 0.2, seed=3)),
        chance=True,
    ),
    LayerCase(
        layers.Recurrent,
        cell=lambda dtype: layers.StackedCells(
            [
                layers.Zoneout(layers.LSTMCell(3, dtype=dtype), {"hidden": 0.2}, seed=3),
                layers.VariationalDropout(layers.GRUCell(5, dtype=dtype), 0.2, 0.3, seed=4),
                layers.ResidualCell(layers.IndRNNCell(5, activation="tanh", dtype=dtype)),
            ]
        ),
        chance=True,
        output_is_state=False,
    ),
    LayerCase(layers.ZoneoutGRU, {"units": 5, "rate": 0.3, "seed": 3}, chance=True),
    LayerCase(layers.ZoneoutLSTM, {"units": 5, "cell_rate": 0.2, "hidden_rate": 0.4, "seed": 3}, chance=True),
]

MEMORY_FEATURES = 6
# Cells that attend to a memory, which their layer is called with: test_attention.py asks of them what test_contract.py
# asks of the others.
ATTENTION = [
    LayerCase(
        layers.AttentiveRecurrent,
        cell=lambda dtype: layers.AdditiveAttention(layers.LSTMCell(5, dtype=dtype), 3, MEMORY_FEATURES),
    ),
    LayerCase(
        layers.AttentiveRecurrent,
        cell=lambda dtype: layers.AdditiveAttention(
            layers.LSTMCell(5, dtype=dtype), 3, MEMORY_FEATURES, query_inputs=True
        ),
    ),
    LayerCase(
        layers.AttentiveRecurrent,
        cell=lambda dtype: layers.DotAttention(
            layers.StackedCells([layers.IndRNNCell(5, activation="tanh", dtype=dtype), layers.GRUCell(3, dtype=dtype)]),
            4,
            MEMORY_FEATURES,
        ),
    ),
]

RECIPES = ["keyword_spotting", "forecasting", "image_captioning", "sentiment", "speech_recognition", "video_captioning"]
