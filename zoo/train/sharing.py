"""How a step is shared out: on TensorFlow by reductions within the optimizer, on JAX by the layout of the data."""

import atexit
import contextlib
import contextvars
import hashlib
import io
import os
import sys

import keras
import numpy as np

from zoo.errors import SettingError
from zoo.train import state
from zoo.train.surroundings import versions

_TIMEOUT = 1800  # seconds in a collective operation of TensorFlow: longer than any worker traces or validates


class Sharing:
    """How training is shared out; this one, not at all.

    Attributes:
        devices: how many there are in all, which take as many rows of a batch each.
        cluster: the `Cluster` of the workers, or None.
    """

    devices, cluster = 1, None

    @property
    def workers(self):
        """How many processes train together."""
        return self.cluster.workers if self.cluster else 1

    @property
    def worker(self):
        """Which of them this is."""
        return self.cluster.worker if self.cluster else 0

    @property
    def chief(self):
        """Whether this process is the one that writes."""
        return self.worker == 0

    def scope(self):
        """Return the context in which models are made and trained."""
        return contextlib.nullcontext()

    def prepare(self, model):
        """Make the steps of a compiled model those of the whole batch."""

    def release(self, model):
        """Undo what `prepare` did."""

    def begin(self, model, **about):
        """Let all workers begin with the chief's weights, if their models and what is known `about` the run agree."""
        if not self.cluster:
            return
        variables = state.variables(model)
        computing = versions(("recurrent-zoo", "keras", "numpy", keras.backend.backend()))
        found = {"versions": computing, "model": [list(one.shape) for one in variables], "training": about}
        self.cluster.agree(found)
        content = io.BytesIO()
        if self.chief:
            np.savez(content, *(keras.ops.convert_to_numpy(one) for one in variables))
        with np.load(io.BytesIO(self.cluster.from_chief(content.getvalue())), allow_pickle=False) as held:
            for place, one in enumerate(variables):
                one.assign(held[f"arr_{place}"])

    def in_batches(self, training):
        """Hear whether what the model is given are batches to train on, of which each worker has its own rows."""

    def settle(self, model):
        """Make equal on all workers what is no weight, and was learnt from each one's own rows."""

    def average(self, logs):
        """Put into the logs of an epoch their mean over all workers."""

    def abandon(self):
        """End the work of all workers, as this one cannot go on."""
        self.cluster.abandon()


class Mirrored(Sharing):
    """Devices of one machine, on TensorFlow."""

    def __init__(self, names):
        import tensorflow as tf

        self.devices, self._tf, self._strategy = len(names), tf, tf.distribute.MirroredStrategy(names)

    def scope(self):
        return self._strategy.scope()

    def prepare(self, model):
        _reduce_before_clipping(model, self.total)
        inner = _innermost(model.optimizer)
        inner._all_reduce_sum_gradients = list  # Keras would, after clipping, add up again
        # What `fit` has just built, `evaluate` would build again, from the mean of parts that must be of one size.
        model._maybe_symbolic_build = lambda **batches: None

    def release(self, model):
        _restore(model, "apply")
        inner = _innermost(model.optimizer)
        vars(inner).pop("_all_reduce_sum_gradients", None)
        vars(model).pop("_maybe_symbolic_build", None)

    def total(self, gradients):
        """Return the sums over the devices; of losses that Keras has divided by their number."""
        return self._tf.distribute.get_replica_context().all_reduce(self._tf.distribute.ReduceOp.SUM, gradients)


class Workers(Sharing):
    """Machines, on TensorFlow. Each trains as if alone, but for the gradients, which are the mean of all.

    `keras.Model.fit` does not run within a MultiWorkerMirroredStrategy (keras-team/keras, issue 20585), but the
    reductions of the strategy run within a step of `fit`.
    """

    def __init__(self, cluster):
        import tensorflow as tf

        if len(tf.config.list_physical_devices("GPU")) > 1:
            raise SettingError(
                f"worker {cluster.worker} sees {len(tf.config.list_physical_devices('GPU'))} GPUs, and on TensorFlow a "
                "worker computes on one: start a worker for each, as srun does with --gpus-per-task=1."
            )
        nodes = tf.train.ClusterSpec({"worker": cluster.addresses})
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            nodes, task_type="worker", task_id=cluster.worker, rpc_layer="grpc"
        )
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        self.devices, self.cluster, self._tf = cluster.workers, cluster, tf
        self._options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=_TIMEOUT)

    def prepare(self, model):
        model.jit_compile = False  # XLA has no operation for it on every device
        _reduce_before_clipping(model, self.mean)

    def release(self, model):
        _restore(model, "apply")

    def mean(self, gradients):
        """Return the mean over all workers of each of a list of tensors."""

        def reduced(*those):
            here = [self._tf.identity(one) for one in those]  # on the device of the replica
            context = self._tf.distribute.get_replica_context()
            return context.all_reduce(self._tf.distribute.ReduceOp.MEAN, here, options=self._options)

        means = self._strategy.run(reduced, args=tuple(gradients))
        return [self._strategy.experimental_local_results(one)[0] for one in means]

    def settle(self, model):
        """The running statistics of normalisation, say; frozen weights, being equal, are not sent."""
        variables = [one for one in model.non_trainable_variables if keras.backend.is_float_dtype(one.dtype)]
        values = [keras.ops.convert_to_numpy(one) for one in variables]
        hashes = self.cluster.exchange([hashlib.sha256(one.tobytes()).hexdigest() for one in values])
        differ = [place for place, those in enumerate(zip(*hashes, strict=True)) if len(set(those)) > 1]
        if differ:
            found = self.cluster.exchange([values[place].tolist() for place in differ])
            for place, *those in zip(differ, *found, strict=True):
                variables[place].assign(np.mean(those, axis=0))

    def average(self, logs):
        found = self.cluster.exchange({name: float(value) for name, value in logs.items()})
        logs.update({name: float(np.mean([one[name] for one in found])) for name in logs})


class _Rows(keras.distribution.DataParallel):
    """Shares out the rows of batches to train on. All else each device is given whole, so that any number will do."""

    training = False

    def get_data_layout(self, data_shape):
        if self.training:
            return super().get_data_layout(data_shape)
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


class Parallel(Sharing):
    """Devices and machines, on JAX, which computes as if they were one."""

    def __init__(self, names, cluster=None):
        self._distribution = _Rows(devices=names, auto_shard_dataset=False)
        self.devices, self.cluster = len(names), cluster

    def scope(self):
        return self._distribution.scope()

    def in_batches(self, training):
        self._distribution.training = training

    def abandon(self):
        super().abandon()
        atexit.register(_end)  # before what JAX has registered, which would wait minutes for the others


def _end():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _reduce_before_clipping(model, reduce):
    """Let the optimizer of a model reduce gradients over all devices first of all: Keras does it after clipping."""
    optimizer = model.optimizer
    _restore(model, "apply")
    apply = optimizer.apply

    def apply_reduced(gradients, trainable_variables=None):
        reduced = iter(reduce([keras.ops.convert_to_tensor(one) for one in gradients if one is not None]))
        return apply([None if one is None else next(reduced) for one in gradients], trainable_variables)

    optimizer.apply = apply_reduced
    model.train_function = None  # one of an earlier `fit` was traced without


def _restore(model, name):
    if vars(model.optimizer).pop(name, None) is not None:
        model.train_function = None


def _innermost(optimizer):
    """Return the optimizer within those that scale the loss."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


current_sharing = contextvars.ContextVar("sharing", default=Sharing())  # noqa: B039  it has no state


def current():
    """Return the `Sharing` of the `distributed` around the caller."""
    return current_sharing.get()
