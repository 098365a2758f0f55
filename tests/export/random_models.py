"""Random recurrent models for the fuzz tests, each from one seed."""

import random

import cases
import keras
import numpy as np
from keras import layers as L
from keras import ops

STEPS = 6
_FEATURES, _TOKENS, _UNITS = 4, 9, 5
_ACTIVATIONS = ["relu", "sigmoid", "softsign", "elu", "linear"]
_OURS = [case for case in cases.LAYERS if not case.spikes]  # a rounding may decide on a spike


class Draw:
    """Draws from a seed; the same seed builds the same model."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def chance(self, probability):
        return bool(self.random.random() < probability)

    def one(self, options):
        return options[self.random.integers(len(options))]

    def one_of_cases(self, options):
        """Draw by what the cases say, so that a case more in the table changes the models of few seeds."""
        drawn = self.random.integers(2**32)
        return max(options, key=lambda case: random.Random(f"{drawn} {case} {case.arguments}").random())


@keras.saving.register_keras_serializable("fuzz")
class UsersCell(L.Layer):
    """A cell as a user writes it: Keras' contract and nothing of ours, two states of different sizes."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.state_size, self.output_size = units, [units, 2], units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1] + self.units, self.units), name="kernel")
        self.slow = self.add_weight((self.units, 2), name="slow")
        self.back = self.add_weight((2, self.units), name="back")

    def call(self, inputs, states):
        hidden, slow = states
        slow = 0.9 * slow + 0.1 * ops.tanh(ops.matmul(hidden, self.slow))
        mixed = ops.matmul(ops.concatenate([inputs, hidden], axis=-1), self.kernel) + ops.matmul(slow, self.back)
        hidden = ops.where(mixed > 0, ops.tanh(mixed), 0.1 * mixed)
        return hidden, [hidden, slow]


def random_model(seed, dtype="float32"):
    """Return (model, inputs): one to four recurrent layers of any kind among others, and a batch for it.

    Args:
        seed: decides everything.
        dtype: Keras' dtype policy for all layers; nothing else depends on it.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(seed)
    try:
        return _Builder(Draw(seed)).build(seed)
    finally:
        keras.config.set_dtype_policy(before)


def random_inputs(model, generator, count, padded=False):
    """Return {input: array} of `count` sequences, of which frames or tokens here and there, or at the end, are zero."""
    arrays = {}
    for tensor in model.inputs:
        shape = (count, STEPS, *tensor.shape[2:])
        tokens = tensor.dtype == "int32"
        array = generator.integers(1, _TOKENS, shape) if tokens else generator.normal(size=shape)
        kept = generator.random((count, STEPS)) < 0.7
        if padded:
            kept = np.arange(STEPS) < generator.integers(0, STEPS + 1, (count, 1))
        array = array * kept.reshape(count, STEPS, *[1] * (len(shape) - 2))
        arrays[tensor.name] = array.astype("int32" if tokens else "float32")
    return arrays


class _Builder:
    """Builds one model; what holds for all of it is drawn first.

    Attributes:
        batch: sequences in the batch.
        steps: length of the axis of time, None where the model leaves it open.
        stateful: whether Keras' layers keep their states, which fixes the batch.
        padded: whether masks leave out ends of sequences only.
        outputs: what the model gives besides its last tensor.
    """

    def __init__(self, draw):
        self.draw = draw
        self.batch = draw.one([1, 1, 2, 3])
        self.steps = STEPS if draw.chance(0.7) else None
        self.stateful = self.steps is not None and draw.chance(0.1)
        self.padded = draw.chance(0.4)
        self.inputs, self.outputs = [], {}

    def build(self, seed):
        draw = self.draw
        x = self._front()
        x = draw.one([self._chain, self._chain, self._chain, self._two_inputs, self._encoder_decoder, self._twice])(x)
        if len(x.shape) == 3 and draw.chance(0.4):
            x = draw.one([L.GlobalAveragePooling1D, L.GlobalMaxPooling1D])()(x)
        outputs = {"y": L.Dense(2, name="y")(x), **self.outputs}
        inputs = self.inputs if len(self.inputs) > 1 else self.inputs[0]
        model = keras.Model(inputs, outputs if self.outputs else outputs["y"], name=f"seed_{seed}")
        for weight in model.weights:  # gates that work and biases that count, yet no sum that outgrows the tolerance
            if weight.trainable or "moving" in weight.name:
                values = draw.random.normal(size=weight.shape) * 0.3
                weight.assign(1 + values**2 if "variance" in weight.name else values)
        return model, random_inputs(model, draw.random, self.batch, self.padded)

    def _chain(self, x):
        """Layer after layer, with others between them."""
        count = self.draw.one([1, 1, 1, 2, 2, 3, 4])
        for position in range(count):
            sequences = position < count - 1 or self.draw.chance(0.5)
            x = self._nested(x, sequences) if self.draw.chance(0.1) else self._recurrent(x, sequences)
            if sequences and self.draw.chance(0.5):
                x = self._between(x)
        return x

    def _two_inputs(self, x):
        other = self._recurrent(self._front(), sequences=True)
        x = self._recurrent(x, sequences=True)
        self.outputs["first"] = x
        return self._recurrent(L.Concatenate()([x, other]), self.draw.chance(0.5))

    def _encoder_decoder(self, x):
        """An encoder's final states start its decoder, or are a memory that the decoder attends to."""
        if self.draw.chance(0.3):
            memory = L.Dense(cases.MEMORY_FEATURES)(self._recurrent(x, sequences=True))
            decoder = self.draw.one(cases.ATTENTION).make(return_sequences=True)
            return decoder(self._front(), memory=memory)
        make = self._any_layer(counts=False)  # the decoder's steps would count on from the encoder's
        _, *states = make(return_state=True)(x)
        return make(return_sequences=self.draw.chance(0.5))(self._front(), initial_state=states)

    def _twice(self, x):
        """One layer, used three times, which a stateful one cannot be in a file."""
        self.stateful = False
        layer = self._any_layer()(return_sequences=True)
        width = x.shape[-1]
        again = layer(L.Dense(width)(layer(x)))
        return L.Add()([layer(L.Dense(width, activation="tanh")(x)), again])

    def _nested(self, x, sequences):
        inner = keras.Input(batch_shape=x.shape)
        if self.draw.chance(0.5):
            return keras.Sequential([inner, L.Dense(_FEATURES), self._any_layer()(return_sequences=sequences)])(x)
        outputs, self.outputs = self.outputs, {}  # a state inside is none that the model around it could give
        nested = keras.Model(inner, self._recurrent(self._recurrent(inner, True), sequences))
        self.outputs = outputs
        return nested(x)

    def _front(self):
        """Return an input and what comes before the first recurrent layer."""
        fixed = self.batch if self.stateful else None
        name = f"x{len(self.inputs)}"
        if self.draw.chance(0.3):
            x = keras.Input(batch_shape=(fixed, self.steps), dtype="int32", name=name)
            self.inputs.append(x)
            return L.Embedding(_TOKENS, _FEATURES, mask_zero=self.draw.chance(0.7))(x)
        x = keras.Input(batch_shape=(fixed, self.steps, _FEATURES), name=name)
        self.inputs.append(x)
        if self.draw.chance(0.4):
            return L.Masking(0.0)(x)
        if self.draw.chance(0.3):
            padding, activation = self.draw.one(["same", "causal"]), self.draw.one(["relu", "swish"])
            return L.Conv1D(_FEATURES, 3, padding=padding, activation=activation)(x)
        if self.draw.chance(0.15):
            x = L.TimeDistributed(L.Reshape((_FEATURES, 1)))(x)
            x = L.ConvLSTM1D(2, 3, padding="same", return_sequences=True, go_backwards=self.draw.chance(0.2))(x)
            return L.TimeDistributed(L.Flatten())(x)
        return x

    def _recurrent(self, x, sequences):
        """Apply a recurrent layer of any kind."""
        draw, make = self.draw, self._any_layer(x.shape[-1])
        if draw.chance(0.25):
            mode = draw.one(["concat", "sum", "ave", "mul", None])
            backward = make(return_sequences=sequences, go_backwards=True) if draw.chance(0.3) else None
            y = L.Bidirectional(make(return_sequences=sequences), merge_mode=mode, backward_layer=backward)(x)
            return L.Subtract()(y) if mode is None else y
        if draw.chance(0.15):
            y, *states = make(return_sequences=sequences, return_state=True)(x)
            for state in keras.tree.flatten(states):
                self.outputs[f"state_{len(self.outputs)}"] = state
            return y
        return make(return_sequences=sequences, go_backwards=draw.chance(0.15))(x)

    def _any_layer(self, width=_FEATURES, *, counts=True):
        """Return a function that makes layers of one kind and size, for sequences of `width` features.

        Args:
            width: of a step.
            counts: whether it may be one that takes no more steps than it has statistics for.
        """
        if self.draw.chance(0.45):
            fitting = [case for case in _OURS if width == _FEATURES or str(case) != "ResidualCell"]
            fitting = [case for case in fitting if counts or "steps" not in case.arguments]
            return self.draw.one_of_cases(fitting).make
        options = {"stateful": self.stateful, "unroll": self.steps is not None and self.draw.chance(0.1)}
        if self.draw.chance(0.15):
            # Unrolled and backwards, Keras zeroes other steps than its loop does: it does not turn the mask around.
            options |= {"zero_output_for_mask": True, "unroll": False}
        if self.draw.chance(0.3):
            cells = self.draw.one(
                [
                    lambda: [L.LSTMCell(3), L.GRUCell(_UNITS)],
                    lambda: UsersCell(_UNITS),
                    lambda: [UsersCell(3), L.SimpleRNNCell(_UNITS, activation="softsign")],
                ]
            )
            return lambda **more: L.RNN(cells(), **options, **more)
        kind = self.draw.one([L.LSTM, L.GRU, L.SimpleRNN])
        options |= {
            "use_bias": self.draw.chance(0.85),
            "dropout": 0.2,
            "recurrent_dropout": 0.3 * self.draw.chance(0.5),
        }
        if self.draw.chance(0.25):
            options["activation"] = self.draw.one(_ACTIVATIONS)
        if kind is not L.SimpleRNN and self.draw.chance(0.2):
            options["recurrent_activation"] = self.draw.one(["hard_sigmoid", "relu6", "tanh"])
        if kind is L.GRU:
            options["reset_after"] = self.draw.chance(0.6)
        return lambda **more: kind(_UNITS, **options, **more)

    def _between(self, x):
        draw, width = self.draw, x.shape[-1]
        return draw.one(
            [
                lambda: L.Dense(_FEATURES, activation="gelu")(x),
                lambda: L.TimeDistributed(L.Dense(_FEATURES))(x),
                lambda: L.BatchNormalization()(x),
                lambda: L.LayerNormalization()(x),
                lambda: L.Dropout(0.3)(x),
                lambda: L.Attention(use_scale=draw.chance(0.5), score_mode=draw.one(["dot", "concat"]))([x, x]),
                lambda: L.MultiHeadAttention(2, 3)(x, x),
                lambda: L.Add()([x, L.Dense(width, activation="tanh")(x)]),
                lambda: L.DepthwiseConv1D(3, padding="same")(x),
            ]
        )()
