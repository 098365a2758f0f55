"""Training that can be killed at any moment and goes on from its last checkpoint, as if nothing had happened."""

import keras

from zoo import checks
from zoo.errors import SettingError
from zoo.train import checkpoint_files, state
from zoo.train.batches import JoinedCallback
from zoo.train.sharing import current


class Resume(JoinedCallback):
    """Keeps checkpoints in a folder; where there are some already, training goes on from the newest that is whole.

    A checkpoint holds the weights, the optimizer with its schedule's step, the random states of the layers, of Python
    and of NumPy, what Keras' callbacks remember, and the place in the data. On a CPU, with batches of `EpochBatches`, a
    run that was killed ends with the weights of one that was not, bit for bit. Callbacks of other origin take part by
    two methods: `get_state()`, of numbers, strings, lists, dicts and arrays, and `set_state(state)`.

    Pass it to `keras.Model.fit` through `zoo.train.together`, and `shuffle=False`: the batches have their own order.

    Within `zoo.train.distributed` the chief alone reads and writes them, and tells the other workers what it has read.

    Args:
        folder: of the checkpoints, for one run alone.
        every: batches from one checkpoint to the next within an epoch; 0 for the ends of epochs alone, which always
            have one.
        keep: checkpoints that stay.

    Raises:
        SettingError: `every` or `keep` is out of range.
            When training begins, of a model that takes several steps at once: `every` is not 0.
        DataError: the checkpoint in the folder is of another model or of other callbacks; when training begins.
        TrainError: a checkpoint cannot be written, as where the disk is full; the ones before stay.

    Example:
        >>> import keras, numpy as np
        >>> from zoo import train
        >>> batches = train.ArrayBatches(np.zeros((6, 2)), np.zeros((6, 1)), batch_size=4, seed=0)
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> resume = train.Resume("checkpoints")
        >>> history = model.fit(batches, callbacks=train.together(batches, resume), shuffle=False)  # doctest: +SKIP
    """

    after_others = True

    def __init__(self, folder, *, every=0, keep=3):
        super().__init__()
        self.every, self.keep = checks.whole(every, "every", least=0), checks.whole(keep, "keep")
        self.folder = folder
        self.resumed_at = None  # (epochs, batches of the next) behind the checkpoint that training went on from
        self._skip, self._metrics = 0, None

    def on_train_begin(self, logs=None):
        if self.every and self.model.steps_per_execution != 1:
            raise SettingError(
                f"Resume: received every={self.every} and a model of steps_per_execution="
                f"{self.model.steps_per_execution}; expected every=0, or a model that takes one step at a time."
            )
        found = checkpoint_files.read_newest_of_chief(self.folder, current().cluster)
        if found is None:
            return
        (place, notes), arrays = found
        _build(self.model, self.others[0].batches)
        source = f"the newest checkpoint in {self.folder}"
        self._metrics = state.restore(self.model, self.others, notes, arrays, source)
        epoch, self._skip = self.resumed_at = place["epoch"], place["batch"]
        self.model._initial_epoch = self.params["epochs"] if place["stopped"] else epoch  # as BackupAndRestore does

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._skip:
            self._pass_over()

    def _pass_over(self):
        """Let the first batches of the epoch go by untouched, as they were learnt from before the checkpoint."""
        model, learn, backend = self.model, self.model.train_function, keras.backend.backend()

        def step(*arguments):  # (state, batch) on JAX, else (batch,); a batch may yet be an iterator, as Keras has it
            batch = next(arguments[-1]) if hasattr(arguments[-1], "__next__") else None
            self._skip -= 1
            if self._skip == 0:
                model.train_function = learn
                if len(model.metrics_variables) < len(self._metrics):  # Keras would build them within the next step
                    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
                    outputs = model.compute_output_spec(x)  # and no call, from which layers could draw
                    outputs = keras.tree.map_structure(lambda one: keras.ops.zeros(one.shape, one.dtype), outputs)
                    model.compute_loss(x, y, outputs, weight, training=False)  # of several outputs, each loss has one
                    model.compute_metrics(x, y, outputs, weight)
                if backend == "tensorflow":
                    self._set_metrics()
            return ({}, arguments[0]) if backend == "jax" else {}

        model.train_function = step
        if backend != "tensorflow":  # there they are built, and on JAX part of the state that steps hand on
            self._set_metrics()

    def _set_metrics(self):
        for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
            variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        inside = self.params["steps"] is None or done < self.params["steps"]
        if (
            self.every
            and done % self.every == 0
            and inside
            and not self._skip
            and (self._epoch, done) != self.resumed_at
        ):
            self._save(self._epoch, done)

    def on_epoch_end(self, epoch, logs=None):
        self._save(epoch + 1, 0)

    def _save(self, epoch, batch):
        if not current().chief:
            return
        notes, arrays = state.gather(self.model, self.others)
        place = {"epoch": epoch, "batch": batch, "stopped": bool(self.model.stop_training)}
        checkpoint_files.write(self.folder, epoch, batch, [place, notes], arrays, keep=self.keep)


def _build(model, batches):
    """Make the variables of layers that Keras on TensorFlow makes in the first step, as in a subclassed model."""
    if not all(layer.built for layer in model._flatten_layers()):
        model._symbolic_build(data_batch=batches[0])  # as Keras does on the other backends
