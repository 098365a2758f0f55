"""Training shared out over devices and machines: each takes its rows of every batch, and all take the same step."""

import contextlib
import time

import keras

from zoo.errors import SettingError, ZooError
from zoo.train.cluster import Cluster
from zoo.train.cluster_environment import cluster_from_environment
from zoo.train.sharing import Mirrored, Parallel, Sharing, Workers, current_sharing


@contextlib.contextmanager
def distributed(devices="all", *, wait=60.0):
    """Share training out over devices or machines: what is made, compiled and fitted within `with`.

    All have the same weights. Each computes the gradient of its rows of a batch, and all take the step of their mean,
    clipped as a whole, as one device would that had the whole batch:

        g = 1/n sum over devices of d mean(loss of its rows) / dw

    On TensorFlow by `tf.distribute`, mirrored or, between machines, by the collective operations of its multi-worker
    strategy; on JAX by `keras.distribution.DataParallel`. docs/cluster.md says what is equal to one device.

    Give `fit` the batches through `share`, and its callbacks through `together`. Without a GPU, a number of devices are
    parts of the processor, which is no quicker: to try it out.

    Args:
        devices: "all" of this machine, how many of them, "cluster" for that which the environment describes, or a
            `zoo.train.Cluster`. One device is no sharing at all.
        wait: seconds until all workers of a cluster must have come.

    Yields:
        A `Sharing`; its `chief` says whether this process is the one that writes.

    Raises:
        SettingError: there are not as many devices, the backend cannot, or the environment describes no cluster.
        TrainError: the workers of the cluster were not all there in time.

    Example:
        >>> import keras, numpy as np
        >>> from zoo import train
        >>> with train.distributed("all"):
        ...     batches = train.ArrayBatches(np.zeros((6, 2)), np.zeros((6, 1)), batch_size=4, seed=0)
        ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        ...     callbacks = train.together(batches)
        ...     history = model.fit(train.share(batches), callbacks=callbacks, shuffle=False, verbose=0)
    """
    sharing = _sharing(devices, wait)
    before = current_sharing.set(sharing)
    try:
        with sharing.scope():
            yield sharing
    except BaseException as error:
        if sharing.cluster:
            if not isinstance(error, (ZooError, KeyboardInterrupt)):
                time.sleep(2)  # if it came of another worker's end, the cluster says so and ends this one meanwhile
            sharing.abandon()
        raise
    finally:
        current_sharing.reset(before)
    if sharing.cluster:
        sharing.cluster.leave()


def _sharing(devices, wait):
    backend = keras.backend.backend()
    clustered = devices == "cluster" or isinstance(devices, Cluster)
    if not clustered and devices != "all" and not (type(devices) is int and devices > 0):
        raise SettingError(f"devices is {devices!r}, expected 'all', 'cluster' or a number of 1 or more.")
    if devices == 1:
        return Sharing()
    if backend not in ("tensorflow", "jax"):
        raise SettingError(
            f"devices is {devices!r} on the backend {backend!r}, expected tensorflow or jax: set "
            "KERAS_BACKEND, or take 1."
        )
    if clustered:
        cluster = devices if isinstance(devices, Cluster) else cluster_from_environment(wait=wait)
        return _of_cluster(cluster, backend)
    names = _devices_of_tensorflow(devices) if backend == "tensorflow" else _devices_of_jax(devices)
    if devices == "all":
        devices = len(names)
    if devices > len(names):
        raise SettingError(
            f"devices is {devices}, and this machine has {len(names)}: {', '.join(names)}; parts of the processor can "
            "stand for more only where there is no GPU and nothing has been computed yet."
        )
    sharing = Mirrored if backend == "tensorflow" else Parallel
    return sharing(names[:devices]) if devices > 1 else Sharing()


def _of_cluster(cluster, backend):
    cluster.join()
    try:
        if backend == "tensorflow":
            return Workers(cluster)
        _join_jax(cluster)
        return Parallel(keras.distribution.list_devices(), cluster)
    except RuntimeError as error:
        cluster.abandon()
        raise SettingError(f"`distributed` has to come before all else that {backend} computes: {error}") from error
    except BaseException:
        cluster.abandon()
        raise


def _join_jax(cluster):
    """Do what `keras.distribution.initialize` does, but for JAX's own look at Slurm, which would take one GPU alone."""
    import jax
    from keras.src.backend.jax.distribution_lib import initialize_rng

    address = cluster.addresses[0]
    jax.distributed.initialize(address, cluster.workers, cluster.worker, cluster_detection_method="deactivate")
    initialize_rng()  # one seed for all where none is set, as layers are made on each


def _devices_of_tensorflow(wanted):
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if wanted != "all" and not gpus:
        parts = [tf.config.LogicalDeviceConfiguration()] * wanted
        with contextlib.suppress(RuntimeError):  # it runs already: what it has is what there is
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    return [one.name for one in tf.config.list_logical_devices("GPU" if gpus else "CPU")]


def _devices_of_jax(wanted):
    import jax

    if wanted != "all":
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", wanted)
    return keras.distribution.list_devices()
