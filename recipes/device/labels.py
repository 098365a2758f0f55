"""What devices do with the probabilities of labels: rank them, and show the likeliest. NumPy alone."""

import numpy as np

if __package__:
    from zoo.errors import DataError
else:  # in a bundle
    from contents import DataError

_SHOWN = 3  # labels


def answer(outputs, card):
    """Return (label, probability) for every label of the card, best first, from the model's outputs."""
    (probabilities,), labels = outputs.values(), card["labels"]
    probabilities = np.asarray(probabilities, np.float32).reshape(-1)
    if len(probabilities) != len(labels):
        raise DataError(f"the model gives {len(probabilities)} probabilities for {len(labels)} labels; export it again")
    return [(labels[i], float(probabilities[i])) for i in np.argsort(-probabilities, kind="stable")]


def show(answers):
    """Return the likeliest labels as lines of text."""
    width = max(len(label) for label, _ in answers[:_SHOWN])
    return "\n".join(f"{label:{width}}  {probability:.3f}" for label, probability in answers[:_SHOWN])
