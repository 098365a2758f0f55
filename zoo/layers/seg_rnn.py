"""A forecast from segments of the past: few recurrent steps, and all steps of the future at once."""

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError
from zoo.layers.cell import check_units
from zoo.layers.gru_cell import GRUCell
from zoo.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable("zoo")
class SegRNN(keras.layers.Layer):
    """Forecast every channel of a series from its own past, by one GRU over segments.

    The past is cut into segments, so that the GRU takes a few steps where it would take hundreds. The future is decoded
    in parallel: every segment of it is one more step of the same GRU from the same state, told by an embedding which
    segment and which channel it is. All channels share all weights but that embedding. As the state's product is then
    the same for all segments of the future, it is computed once for them all.

        e[n] = relu(segment[n] W_e + b_e)                      for each segment of the past
        h    = GRU(e[1], ..., e[N])
        y[m] = dropout(GRU step([position[m], channel[c]], h)) W_y + b_y     for each segment of the future

    Args:
        horizon: int, steps to forecast.
        units: int, even, width of the GRU.
        segment: int, steps of a segment; the past must be a multiple of it.
        dropout: float in [0, 1), share of the decoded features that is left out in training.
        seed: int, of the dropout.

    Call arguments:
        series: (batch, time, channels), scaled, relative to the last value.

    Returns:
        (batch, horizon, channels).

    Raises:
        SettingError: an argument is out of range, or the past is no whole number of segments.

    Example:
        >>> tuple(SegRNN(24, units=16, segment=12)(np.ones((2, 36, 3))).shape)
        (2, 24, 3)

    Reference:
        S. Lin et al., "SegRNN: Segment recurrent neural network for long-term time series forecasting", 2023,
        https://arxiv.org/abs/2308.11200
    """

    def __init__(self, horizon, units=512, segment=48, dropout=0.5, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.horizon, self.units = check_units(horizon, "horizon"), check_units(units)
        self.segment, self.dropout, self.seed = check_units(segment, "segment"), dropout, checks.seed(seed)
        if self.units % 2:
            raise SettingError(f"units is {units}; expected an even number: half tells the position, half the channel")
        self.embed = keras.layers.Dense(self.units, activation="relu", name="embed")
        self.recurrent = Recurrent(GRUCell(self.units, name="cell"), name="recurrent")
        self.drop = keras.layers.Dropout(dropout, seed=self.seed, name="dropout")
        self.predict = keras.layers.Dense(self.segment, name="predict")

    def build(self, input_shape):
        _, steps, channels = input_shape
        if steps % self.segment:
            raise SettingError(
                f"the past has {steps} steps and a segment {self.segment}; expected a whole number of segments"
            )
        self.ahead = -(-self.horizon // self.segment)  # segments of the future; the last may be cut
        half = self.units // 2
        self.position = self.add_weight(shape=(self.ahead, half), initializer=_normal(self.seed, 0), name="position")
        self.channel = self.add_weight(shape=(channels, half), initializer=_normal(self.seed, 1), name="channel")
        self.embed.build((None, steps // self.segment, self.segment))
        self.recurrent.build((None, steps // self.segment, self.units))
        self.predict.build((None, channels, self.ahead, self.units))

    def call(self, series, training=False):
        _, steps, channels = series.shape
        past = ops.reshape(ops.swapaxes(series, 1, 2), (-1, steps // self.segment, self.segment))
        state = self.recurrent(self.embed(past), training=training)  # (batch channels, units)
        decoded = self._decode(state, channels)
        ahead = self.predict(self.drop(decoded, training=training))  # (batch, channels, segments, segment)
        ahead = ops.reshape(ahead, (-1, channels, self.ahead * self.segment))
        return ops.swapaxes(ahead[:, :, : self.horizon], 1, 2)

    def _decode(self, state, channels):
        """One step of the GRU for each segment of the future, (batch, channels, segments, units)."""
        cell = self.recurrent.cell
        queries = ops.concatenate(
            [ops.tile(self.position, (channels, 1)), ops.repeat(self.channel, self.ahead, axis=0)], axis=-1
        )
        asked = ops.reshape(cell.project(queries), (1, channels, self.ahead, 3 * self.units))
        weights = [ops.convert_to_tensor(weight) for weight in cell.recur_weights]
        recurrent = ops.reshape(cell.recur([state], weights), (-1, channels, 1, 3 * self.units))
        decoded, _ = cell.advance(asked, recurrent, [ops.reshape(state, (-1, channels, 1, self.units))], [])
        return decoded

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.horizon, input_shape[2])

    def get_config(self):
        names = ("horizon", "units", "segment", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _normal(seed, which):
    return keras.initializers.RandomNormal(stddev=1.0, seed=None if seed is None else (2 * seed + which) % 2**32)
