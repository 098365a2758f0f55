"""A recurrent network that learns from a stream, one step at a time."""

import keras
import numpy as np
from keras import ops

from zoo.errors import DataError, SettingError
from zoo.layers.cell import as_tensors
from zoo.train.autodiff import compiled, compiled_update, value_and_gradients
from zoo.train.rtrl import RTRL


class OnlineLearner:
    """Learn from a stream that never ends, in constant memory, by real-time recurrent learning.

    At each step the network answers first and learns then, from the gradient that back-propagation through all of the
    past would give; `RTRL` carries it along:

        y'[t] = readout(output[t]);  output[t], s[t] = cell(x[t], s[t-1])
        weights -= optimizer(d loss(y[t], y'[t]) / d weights)

    Nothing of the past is kept but the states and the influence of the weights on them. As the weights change while
    the influence is carried, it is that of weights slightly older, which small learning rates forgive (Williams and
    Zipser, 1989). The weights are the cell's and the readout's own: train a model with `fit`, go on here with its
    cell and its readout, and the model has learnt.

    Args:
        cell: built `zoo.layers.Cell`, such as `layer.cell` of a model. Element-wise ones (IndRNN, MinGRU, MinLSTM) are
            cheap; of others take few units, see `RTRL`.
        readout: built layer or `keras.Model` of single steps, such as a Dense: (..., size) -> (..., outputs).
        optimizer: of Keras, by name or instance, which belongs to this learner alone. None is Adam with a learning
            rate of 0.001 and gradients clipped to a norm of 1.
        loss: of Keras, by name or instance.
        form: of `RTRL`.

    Raises:
        SettingError: as `RTRL`; the readout is not built, or not of the cell's output.

    Example:
        >>> layer, readout = layers.IndRNN(8, return_sequences=True), keras.layers.Dense(1)
        >>> model = keras.Sequential([keras.Input((None, 2)), layer, readout])
        >>> learner = OnlineLearner(layer.cell, readout)
        >>> learner.partial_fit(np.ones((5, 2)), np.zeros((5, 1))).shape
        (5, 1)

    Reference:
        as `RTRL`
    """

    def __init__(self, cell, readout, *, optimizer=None, loss="mse", form=None):
        self.rtrl = RTRL(cell, form)
        if not isinstance(readout, keras.layers.Layer) or not readout.built:
            raise SettingError(
                f"readout is a {type(readout).__name__}; expected a built layer or model: readout.build((None, size))"
            )
        self.cell, self.readout = cell, readout
        self.features = cell.get_build_config()["input_shape"][-1]
        # a model that was built in another, over sequences, still wants a time axis
        self._over_time = len(getattr(readout, "inputs", None) or ()) == 1 and len(readout.inputs[0].shape) == 3
        self.outputs = _outputs(readout, (None, *[1] * self._over_time, cell.output_size))
        self.loss = keras.losses.get(loss)
        self.optimizer = keras.optimizers.get(
            keras.optimizers.Adam(0.001, global_clipnorm=1.0) if optimizer is None else optimizer
        )
        self._variables = [*cell.trainable_variables, *readout.trainable_variables]
        self._answer, self._carry = compiled(self._answer_and_gradients), compiled(self.rtrl.step)
        self._update = compiled_update(self.optimizer, self._variables)
        self.reset()

    def reset(self):
        """Start a new sequence: forget the states, keep what was learnt."""
        self.states, self.influence = self.cell.get_initial_state(1), self.rtrl.start(1)

    def partial_fit(self, x, y):
        """Go on by some steps of the stream, learning from each.

        Args:
            x: (time, features).
            y: targets (time, outputs).

        Returns:
            The answers (time, outputs), each given before its target was learnt from.

        Raises:
            DataError: shapes that do not fit, NaN or infinity; nothing is learnt then, not even from the steps before.
            SettingError: a loss or gradient became infinite or NaN; the weights are those before that step.
        """
        x, y = self._checked(x, "x", self.features), self._checked(y, "y", self.outputs)
        if len(x) != len(y):
            raise DataError(f"x has {len(x)} steps and y {len(y)}; expected a target for each")
        return np.concatenate([self._learn(one, target) for one, target in zip(x, y, strict=True)])

    def predict(self, x):
        """Go on by some steps (time, features) without learning, as where targets are missing; return the answers."""
        x = self._checked(x, "x", self.features)
        weights = self.rtrl.weights()
        outputs = [self._go_on(ops.convert_to_tensor(one[None]), weights) for one in x]
        return ops.convert_to_numpy(self._read(ops.concatenate(outputs)))

    def _learn(self, x, y):
        x, y, weights = ops.convert_to_tensor(x[None]), ops.convert_to_tensor(y[None]), as_tensors(self._variables)
        answer, loss, gradients, size = self._answer(x, y, self.states, self.influence, weights)
        if not np.isfinite(float(loss) + float(size)):
            raise SettingError(
                f"the loss is {float(loss)} and the norm of its gradient {float(size)}: learning has diverged; lower "
                "the learning rate, scale the inputs, or bound the recurrent weights, and reset()"
            )
        self._go_on(x, weights[: self._of_cell])  # with the weights that answered, before they change
        self._update(gradients)
        return ops.convert_to_numpy(answer)

    def _go_on(self, x, weights):
        output, self.states, self.influence = self._carry(x, self.states, self.influence, weights)
        return output

    def _read(self, outputs):
        return self.readout(ops.expand_dims(outputs, 1))[:, 0] if self._over_time else self.readout(outputs)

    @property
    def _of_cell(self):
        return len(self.cell.trainable_variables)

    def _answer_and_gradients(self, x, y, states, influence, weights):
        """Return the answer, its loss, the gradient of each weight, and their norm."""
        kept, of_cell = len(states), self._of_cell

        def loss(arguments):
            states, weights = arguments[:kept], arguments[kept:]
            output, _ = self.rtrl.run(x, states, weights[:of_cell])
            mapping = list(zip(self.readout.trainable_variables, weights[of_cell:], strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                answer = self._read(output)
            return ops.mean(self.loss(y, answer)), answer

        value, answer, gradients = value_and_gradients(loss, [*states, *weights])
        gradients, through_states = gradients[kept:], self.rtrl.gradients(gradients[:kept], influence)
        gradients = [*(now + past for now, past in zip(gradients, through_states, strict=False)), *gradients[of_cell:]]
        return answer, value, gradients, ops.sqrt(sum(ops.sum(ops.square(each)) for each in gradients))

    def _checked(self, given, name, size):
        given = np.asarray(given)
        if given.ndim != 2 or given.shape[1] != size or given.dtype.kind not in "biuf" or len(given) == 0:
            raise DataError(
                f"{name} has the shape {given.shape} and dtype {given.dtype}; expected numbers (time, {size}) of at "
                "least one step"
            )
        if not np.isfinite(given).all():
            step = int(np.argmin(np.isfinite(given).all(axis=1)))
            raise DataError(
                f"{name} has a NaN or infinity at step {step}; expected finite numbers, and predict(x) where a "
                "target is missing"
            )
        return given.astype(self.cell.compute_dtype)


def _outputs(readout, shape):
    try:
        return readout.compute_output_shape(shape)[-1]
    except ValueError as error:
        raise SettingError(f"readout {readout.name} does not take the cell's output {shape}: {error}") from error
