"""Find the recurrent layer on which the converter crashes."""

import tempfile
from dataclasses import replace

import keras
import numpy as np

from zoo.errors import ExportError
from zoo.export import child, trace
from zoo.export.signature import Signature


def explained(crash, model, entry, plan, convert):
    """Return the ExportError that says on which layer the converter crashed.

    Each recurrent layer is converted by itself, until one crashes too.

    Args:
        crash: the `child.CrashError`.
        model: the Keras model.
        entry: the `Signature` that was converted.
        plan: the `Plan` that was asked for, or None.
        convert: function of (signature, plan, folder) that converts a part of the model.
    """
    uses = [use for use in trace.observe(model, entry) if use.within is None]
    for use in uses:
        if None not in use.shape[1:] and _crashes(model, use, plan, convert):
            return ExportError(
                f"{crash}, on layer {use.path!r}, a {type(use.layer).__name__}, which it does not survive alone "
                f"either; give that layer another form, plan.override({{{use.path!r}: ...}}), or take another scheme"
            )
    known = ", ".join(repr(use.path) for use in uses) or "it has none"
    return ExportError(
        f"{crash}, and on none of the recurrent layers alone ({known}); give one of them another form, "
        "plan.override({...}), take another scheme, or export a part of the model"
    )


def _crashes(model, use, plan, convert):
    import tensorflow as tf

    alone = Signature(
        [tf.TensorSpec(use.shape, "float32", name="sequences")],
        lambda sequences: keras.tree.flatten(use.layer(sequences, training=False)),
        lambda outputs: [f"output_{i}" for i in range(len(outputs))],
    )
    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        examples = np.random.default_rng(0).normal(size=(8, *use.shape[1:])).astype("float32")  # for schemes that ask
        np.savez(f"{folder}/examples.npz", input_0=examples)
        try:
            if plan is not None:
                inside = {part.path for part in trace.observe(model, alone)}
                plan = replace(plan, choices=tuple(choice for choice in plan.choices if choice.layer in inside))
            convert(alone, plan, folder)
        except child.CrashError:
            return True
        except (ExportError, TypeError, ValueError):  # the last two of a layer that takes more than sequences
            return False
    return False
