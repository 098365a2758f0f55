"""tfmot's pruning core on the TensorFlow variables behind Keras 3 variables."""

import contextlib
import os
import warnings


@contextlib.contextmanager
def importing():
    """Within this context tfmot may be imported for the first time, with nothing left behind.

    It would set TF_USE_LEGACY_KERAS, and with it another Keras for `tf.keras`; and it warns of the module by which it
    compares versions.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before


class TfmotMasks:
    """Masks of TensorFlow variables, made and held by `pruning_impl.Pruning`.

    Args:
        variables: list of `tf.Variable`.
        schedule: `Schedule`.
        structure: one of `STRUCTURES`.
        size: of a block or a group, or None.
    """

    def __init__(self, variables, schedule, structure, size):
        import tensorflow as tf

        with importing():
            from tensorflow_model_optimization.sparsity import keras as tfmot

            core_class = _core_class()
        self.masks = [tf.Variable(tf.ones_like(v), trainable=False) for v in variables]
        thresholds = [tf.Variable(tf.zeros((), v.dtype), trainable=False) for v in variables]
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
        core = core_class(
            lambda: step,
            list(zip(variables, self.masks, thresholds, strict=True)),
            schedule.to_tfmot(tfmot),
            size if structure == "block" else (1, 1),
            "AVG",
            size if structure == "m_by_n" else None,
        )

        @tf.function(autograph=False)
        def update(now):
            step.assign(now)
            with tf.control_dependencies([core.conditional_mask_update()]):
                core.weight_mask_op()

        self._update, self._int64 = update, lambda n: tf.constant(n, tf.int64)

    def apply(self, step):
        """Make the masks that the schedule wants at `step`, and multiply the variables by theirs."""
        self._update(self._int64(step))


def _core_class():
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    class Core(pruning_impl.Pruning):
        """tfmot's `Pruning`, where its way of cutting a weight into blocks or groups fails.

        It squeezes the pooled weight, which raises wherever that has a single row or column of blocks; and it centres
        blocks that do not divide the weight when it pools, but not when it masks. Groups it takes of two or four
        dimensions only, and a kernel of `Conv1D` has three.
        """

        def _maybe_update_block_mask(self, weights):
            if self._sparsity_m_by_n and weights.shape.rank == 3:
                mask = self._update_mask_sparsity_m_by_n(tf.expand_dims(weights, 0), self._sparsity_m_by_n)
                return 999.0, mask[0]  # a threshold that nobody reads, as in the overridden method
            if self._sparsity_m_by_n or self._block_size == [1, 1]:
                return super()._maybe_update_block_mask(weights)
            threshold, blocks = self._update_mask(self._block_means(tf.abs(weights)))
            height, width = self._block_size
            mask = tf.repeat(tf.repeat(blocks, height, axis=0), width, axis=1)
            return threshold, mask[: weights.shape[0], : weights.shape[1]]

        def _block_means(self, magnitudes):
            (rows, columns), (height, width) = magnitudes.shape, self._block_size
            missing = [[0, -rows % height], [0, -columns % width]]

            def sums(values):
                cut = tf.pad(values, missing)
                cut = tf.reshape(cut, (cut.shape[0] // height, height, cut.shape[1] // width, width))
                return tf.reduce_sum(cut, axis=(1, 3))

            return sums(magnitudes) / sums(tf.ones_like(magnitudes))

    return Core
