"""The layer that runs a cell over a sequence."""

import keras
from keras import ops

from zoo.errors import SettingError
from zoo.layers.bptt import run_steps, split_noise
from zoo.layers.cell import Cell, as_tensors, check_states, check_units, project, reading
from zoo.layers.checkpoint import run_segments

_OF_ANY_LAYER = ("name", "trainable", "dtype")


@keras.saving.register_keras_serializable("zoo")
class Recurrent(keras.layers.RNN):
    """Run a `Cell` over a sequence, with fast back-propagation through time.

    The whole contract of `keras.layers.RNN`, for cells that split their step: the input projection of all time steps is
    one matmul, and so is each weight's gradient, taken after a backward loop that only carries the states' gradients:

        forward    P = project(X);  s[t] = advance(P[t], recur(s[t-1]), s[t-1])
        backward   dP[t], dR[t], ds[t-1] = vjp of advance at step t;  ds[t-1] += vjp of recur (dR[t])
        weights    dU = vjp of recur at (s[0..T-1], dR[1..T]) in one piece;  dW, dx = vjp of project, likewise

    On TensorFlow and JAX; on other backends the loop is differentiated as it stands.

    Args:
        cell: `Cell`, one step.
        checkpoint_every: int k, in training keep the states every k steps only and compute the others again in the
            backward pass: of T steps memory for T / k + k in place of T, beside the inputs, outputs and noise, for one
            more forward pass. None keeps all.
        return_sequences: bool, the output of every step instead of the last.
        return_state: bool, also the final states.
        go_backwards: bool, take the steps from last to first; outputs come in that order.
        stateful: bool, start where the last batch ended.
        unroll: bool, one copy of the step for each time step in place of a loop.
        zero_output_for_mask: bool, zeros at masked steps instead of the previous output.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: list of states, each (batch, size); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, size) or, with `return_sequences`, (batch, time, size); followed by the final states with
        `return_state`.

    Raises:
        SettingError: `cell` is no `Cell`; `initial_state` has the wrong number of states, or shape;
            `checkpoint_every` is not a positive whole number.

    Reference:
        P. Werbos, "Backpropagation through time: what it does and how to do it", Proc. IEEE 78(10), 1990.
    """

    def __init__(self, cell, checkpoint_every=None, **kwargs):
        if not isinstance(cell, Cell):
            raise SettingError(
                f"cell is a {type(cell).__name__}; expected a zoo Cell (keras.layers.RNN takes any other)"
            )
        super().__init__(cell, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=3)
        self.checkpoint_every = None if checkpoint_every is None else check_units(checkpoint_every, "checkpoint_every")

    def get_config(self):
        return {**super().get_config(), "checkpoint_every": self.checkpoint_every}

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if initial_state is not None:
            states = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
            check_states(self.cell, states, sequences.shape[0])
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if mask is not None:
            mask = ops.swapaxes(ops.cast(keras.tree.flatten(mask)[0], "bool"), 0, 1)
        inputs = ops.swapaxes(sequences, 0, 1)  # (time, batch, ...): a step is then one contiguous block
        if self.go_backwards:
            inputs, mask = ops.flip(inputs, axis=0), None if mask is None else ops.flip(mask, axis=0)
        steps, batch_size = ops.shape(inputs)[0], ops.shape(inputs)[1]
        noise = self.cell.draw_noise(steps, batch_size) if training else None
        carry = [*initial_state, self.cell.get_initial_output(batch_size)]
        if training and self.checkpoint_every is not None:
            carry, outputs = self._run_in_segments(inputs, mask, noise, carry)
        else:
            carry, outputs = self._run(inputs, mask, noise, carry, training)
        outputs = ops.expand_dims(carry[-1], 1) if outputs is None else ops.swapaxes(outputs, 0, 1)
        return carry[-1], outputs, carry[:-1]

    def _run_in_segments(self, inputs, mask, noise, carry):
        noise, fixed_noise, join_noise = split_noise(noise)

        def run(inputs, mask, noise, carry, weights, training):
            with self.stepping_with(weights):
                return self._run(inputs, mask, join_noise(noise, fixed_noise), carry, training)

        return run_segments(
            run,
            inputs,
            mask,
            noise,
            carry,
            self.step_values(),
            every=self.checkpoint_every,
            return_sequences=self.return_sequences,
        )

    def step_values(self):
        """Return the list of tensors that steps read: the values of the cell's variables."""
        return as_tensors(self.cell.weights)

    def stepping_with(self, values):
        """Return a context within which steps read `values` in place of `step_values()`.

        For gradients, which need what the steps read as arguments.
        """
        return reading(self.cell, self.cell.weights, values)

    def _run(self, inputs, mask, noise, carry, training):
        """Run the cell over time-major inputs from `carry`, the states and the output before."""
        steps, batch_size = ops.shape(inputs)[0], ops.shape(inputs)[1]
        rows = ops.reshape(inputs, (-1, *inputs.shape[2:]))  # (time x batch, ...): one matmul for all steps
        projected = project(self.cell, rows, noise)
        return run_steps(
            self.cell,
            ops.reshape(projected, (steps, batch_size, *projected.shape[1:])),
            carry,
            mask=mask,
            noise=noise,
            zero_output_for_mask=self.zero_output_for_mask,
            return_sequences=self.return_sequences,
            unroll=self.unroll,
            training=training,
        )


class SequenceLayer(Recurrent):
    """A layer that makes its own cell; its configuration is the cell's arguments and those of `Recurrent`."""

    def __init__(self, cell, **kwargs):
        super().__init__(cell, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        return {**config, **self.cell_arguments()}

    def cell_arguments(self):
        """Return the arguments of this layer that are not those of `Recurrent`."""
        return {k: v for k, v in self.cell.get_config().items() if k not in _OF_ANY_LAYER}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
