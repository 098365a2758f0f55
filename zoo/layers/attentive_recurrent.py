"""The layer that runs a cell with a memory over a sequence."""

import contextlib

import keras

from zoo.errors import SettingError
from zoo.layers.attention_cell import AttentionCell, check_memory
from zoo.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable("zoo")
class AttentiveRecurrent(Recurrent):
    """Run a cell that attends to a memory over a sequence: a decoder that looks at what an encoder saw.

    `Recurrent` with a memory, which all steps read, and whose keys are one matmul before the loop. The memory's mask
    may come with it, as Keras' layers hand masks on.

    Args:
        cell: `AdditiveAttention` or `DotAttention`.
        return_attention: bool, also the attention, for pictures or to regularise it.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, checkpoint_every, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: list of states, each (batch, size); zeros if left out.
        mask: (batch, time), True where a step counts.
        memory: (batch, memory steps, memory features).
        memory_mask: (batch, memory steps), True where the memory counts.

    Returns:
        (batch, size) or, with `return_sequences`, (batch, time, size); followed by the final states with
        `return_state`; followed, with `return_attention`, by the attention of the last step (batch, memory steps) or,
        with `return_sequences`, of all (batch, time, memory steps). A masked step repeats attention as it does outputs.

    Raises:
        SettingError: `cell` is no attention cell; no memory, or one that does not fit the cell or the sequences.

    Example:
        >>> cell = AdditiveAttention(LSTMCell(3), units=4, memory_features=6)
        >>> layer = AttentiveRecurrent(cell, return_sequences=True, return_attention=True)
        >>> output, attention = layer(np.ones((2, 7, 5)), memory=np.ones((2, 9, 6)))
        >>> tuple(attention.shape)
        (2, 7, 9)

    Reference:
        D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align and translate",
        ICLR 2015, https://arxiv.org/abs/1409.0473
    """

    def __init__(self, cell, return_attention=False, **kwargs):
        if not isinstance(cell, AttentionCell):
            raise SettingError(
                f"cell is a {type(cell).__name__}; expected AdditiveAttention or DotAttention around a cell "
                "(zoo.layers.Recurrent takes a cell without memory)"
            )
        super().__init__(cell, **kwargs)
        self.return_attention = bool(return_attention)

    def call(
        self,
        sequences,
        initial_state=None,
        mask=None,
        memory=None,
        memory_mask=None,
        sequences_mask=None,  # where Keras puts the mask that comes with `sequences`, in a layer with other inputs too
        training=False,
    ):
        check_memory(self.cell, memory, memory_mask)
        batches = {tensor.shape[0] for tensor in (sequences, memory)} - {None}
        if len(batches) > 1:
            raise SettingError(f"memory is of {memory.shape[0]} rows; expected one for each of {sequences.shape[0]}")
        mask = sequences_mask if mask is None else mask
        with self.cell.reading(self.cell.attend(memory, memory_mask)):
            result = super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        joined, *states = result if self.return_state else [result]
        output, attention = self.cell.split(joined)
        return self._returned(output, states, attention)

    def _returned(self, output, states, attention):
        results = (output, *states, attention) if self.return_attention else (output, *states)
        return results if len(results) > 1 else output

    def compute_output_shape(self, sequences_shape, initial_state_shape=None, memory_shape=None):
        check_memory(self.cell, None if memory_shape is None else keras.KerasTensor(memory_shape), None)
        result = super().compute_output_shape(sequences_shape, initial_state_shape)
        output, *states = result if self.return_state else [result]
        return self._returned(output, states, (*output[:-1], memory_shape[1]))

    def compute_mask(self, inputs, mask):
        result = super().compute_mask(inputs, mask)
        output, *states = result if self.return_state else [result]
        return self._returned(output, states, None)

    def step_values(self):
        return [*super().step_values(), *self.cell.attended]

    @contextlib.contextmanager
    def stepping_with(self, values):
        own = len(self.cell.weights)
        with super().stepping_with(values[:own]), self.cell.reading(values[own:]):
            yield

    def get_config(self):
        return {**super().get_config(), "return_attention": self.return_attention}
