"""The models of which a bundle's files are made: one, or several that a device runs in turn."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.export.verification import named, run_examples

VERIFIED = 16  # examples on which a float32 file is compared with its model, value by value
_CALIBRATING = 200  # examples that a part is calibrated on, of all that it is asked in turn


@dataclass(frozen=True)
class Part:
    """A model that leaves as a file of its own."""

    name: str  # "" where it is the whole
    model: Any
    inputs: Any  # examples to compare a file on: an array, or {input: array}
    example: Any  # likewise, a single one, which the bundle keeps
    representative: Any  # likewise, from training, None where no scheme calibrates


def parts_of(recipe, model, inputs, *, calibrates):
    """Return the list of `Part` of a recipe's model.

    Of a recipe with `parts`, what each of them reads is what `run_parts` asks of it.

    Args:
        recipe: as `bundle` takes it.
        model: the whole.
        inputs: held-out examples of the whole, an array or {input: array}.
        calibrates: bool, whether a scheme needs examples from training.
    """
    if not hasattr(recipe, "parts"):
        representative = recipe.representative() if calibrates else None
        return [Part("", model, rows(inputs, VERIFIED), recipe.example()[0], representative)]
    models = recipe.parts(model)
    held_out = _asked(recipe, models, rows(inputs, VERIFIED))
    training = _asked(recipe, models, recipe.representative()) if calibrates else {}
    return [
        Part(
            *(name, one, rows(held_out[name], VERIFIED), rows(held_out[name], 1, last=True)),
            rows(training[name], _CALIBRATING) if calibrates else None,
        )
        for name, one in models.items()
    ]


def answers(recipe, files, inputs, leads=None):
    """Return what the first output of the whole model is, {part name: `Session`} in its place, for all examples."""
    if hasattr(recipe, "parts"):
        return recipe.run_parts(files, inputs)
    (file,) = files.values()
    return next(iter(run_examples(file, named(file, inputs), leads).values()))


def rows(arrays, count, *, last=False):
    """Return up to `count` examples, spread over all; or the last of them."""
    if isinstance(arrays, dict):
        return {name: rows(array, count, last=last) for name, array in arrays.items()}
    if last:
        return arrays[-count:]
    return arrays[np.linspace(0, len(arrays) - 1, min(count, len(arrays))).round().astype(int)]


def _asked(recipe, models, inputs):
    """Return {part: {input: array}}: all that is asked of each part to run the whole on some examples."""
    recorders = {name: _Recorder(model) for name, model in models.items()}
    recipe.run_parts(recorders, inputs)
    return {
        name: {key: np.concatenate([one[key] for one in recorder.asked]) for key in recorder.asked[0]}
        for name, recorder in recorders.items()
    }


class _Recorder:
    """Answers as a model does, {output: array} of {input: array}, and keeps what it is asked."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def __call__(self, arrays):
        import keras

        from zoo.export.signature import output_names

        self.asked.append(arrays)
        outputs = keras.tree.flatten(self.model.predict_on_batch(arrays))
        return dict(zip(output_names(self.model, outputs), outputs, strict=True))
