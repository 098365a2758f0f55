"""Prune a model while it is trained."""

import warnings

import keras
from keras import ops

from zoo.errors import SettingError
from zoo.export.pruning.masks import check_shape, check_structure, mask
from zoo.export.pruning.schedules import Schedule, check_when, plan_schedule
from zoo.export.pruning.weights import check_layers, prunable
from zoo.export.signature import check_finite


class Pruning(keras.callbacks.Callback):
    """A callback of `fit` that sets more and more weights to zero, and holds them there.

    Before the first and after every training step the weights are multiplied by their masks, outside of what
    TensorFlow or XLA compiled. Nothing is added to the model, so that there is nothing to strip: it is saved and
    exported as it always was. On TensorFlow tfmot's own core makes the masks, elsewhere the same in NumPy.

        w <- m * w        m: 1 for the largest |w| (or blocks of them), 0 for a share of s(t), see `Schedule`

    Each `fit` runs the schedule from its start. The masks of "m_by_n" have none: they are made once, at step 1. Put the
    callback behind those that restore weights, such as `EarlyStopping`: what they bring back is masked once more.

    Args:
        sparsity: float in (0, 1), the final share of zeros of each weight; left out with "m_by_n", where m / n is.
        structure: "magnitude", single weights; "block", rectangles of a matrix; "m_by_n", at least m zeros in any n
            weights in a row that one output unit reads.
        size: (height, width) of a block in (inputs, outputs), by default (4, 1); (m, n), by default (2, 4).
        schedule: "polynomial", from no zeros to `sparsity`; "constant", `sparsity` from `begin` on.
        begin: int, training step from which on masks are made.
        end: int, last step at which they are; None for two thirds of all steps, so that a third is left to recover.
        frequency: int, steps between two makings of the masks.
        layers: list of names of layers, to prune only these; None for all layers that have something to prune.

    Raises:
        SettingError: a setting cannot be used, or, when `fit` starts, does not go with the model or the training.
        ExportError: when `fit` starts, a weight is NaN or infinite.

    Example:
        >>> model.fit(x, y, epochs=20, callbacks=[Pruning(0.8)])

    Reference:
        M. Zhu, S. Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017,
        https://arxiv.org/abs/1710.01878
    """

    def __init__(
        self,
        sparsity=None,
        *,
        structure="magnitude",
        size=None,
        schedule="polynomial",
        begin=0,
        end=None,
        frequency=10,
        layers=None,
    ):
        super().__init__()
        self.size, self.sparsity = check_structure(structure, size, sparsity)
        check_layers(layers)
        self.structure, self.layers = structure, layers
        self._when = check_when(schedule, begin, end, frequency)
        self._kind = schedule
        self._masks = self._schedule = self._step = None

    def on_train_begin(self, logs=None):
        if self.model.steps_per_execution != 1:
            raise SettingError(
                f"steps_per_execution is {self.model.steps_per_execution}; expected 1, as weights are masked between "
                "two steps: compile the model without it"
            )
        weights = prunable(self.model, self.layers)
        check_finite(self.model)
        for variable in weights:
            check_shape(variable.path, variable.shape, self.structure)
        epochs, steps = self.params["epochs"], self.params["steps"]
        steps = None if steps is None else epochs * steps
        if self.structure == "m_by_n":
            self._schedule = Schedule("constant", self.sparsity, 1, 1, 1)
        else:
            self._schedule = plan_schedule(self._kind, self.sparsity, *self._when, steps)
        self._masks = _masks(weights, self._schedule, self.structure, self.size)
        self._step = 0
        self._masks.apply(0)

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # within an epoch the weights live in the compiled step's state only
        self._masks.apply(self._step)

    def on_train_end(self, logs=None):
        self._masks.apply(self._step)  # another callback may have restored weights
        if self._step < self._schedule.end:
            warnings.warn(
                f"training ended at step {self._step}, before pruning did at step {self._schedule.end}: the model has "
                "fewer zeros than asked for",
                stacklevel=2,
            )


def _masks(variables, schedule, structure, size):
    if keras.backend.backend() == "tensorflow":
        from zoo.export.pruning.tfmot_core import TfmotMasks

        return TfmotMasks([variable.value for variable in variables], schedule, structure, size)
    return NumpyMasks(variables, schedule, structure, size)


class NumpyMasks:
    """Masks of Keras variables on any backend; as `TfmotMasks`."""

    def __init__(self, variables, schedule, structure, size):
        self._variables, self._schedule = variables, schedule
        self._structure, self._size = structure, size
        self.masks = None

    def apply(self, step):
        """Make the masks that the schedule wants at `step`, and multiply the variables by theirs."""
        if self._schedule.due(step):
            self.masks = [self._mask(variable, self._schedule.at(step)) for variable in self._variables]
        if self.masks is not None:
            for variable, each in zip(self._variables, self.masks, strict=True):
                variable.assign(variable * each)

    def _mask(self, variable, sparsity):
        weight = ops.convert_to_numpy(variable)
        return ops.convert_to_tensor(mask(weight, sparsity, self._structure, self._size))
