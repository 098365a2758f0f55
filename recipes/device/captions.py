"""What devices do with an encoder and the step of a decoder: captions word by word, and attention. NumPy alone."""

import numpy as np

if __package__:
    from zoo.errors import DataError
    from zoo.recipes.device.beam_search import SPECIAL, beam_search
    from zoo.recipes.device.settings import number
else:  # in a bundle
    from beam_search import SPECIAL, beam_search
    from contents import DataError
    from settings import number

STATES = ("hidden", "cell")
LONGEST, WIDEST = 200, 64  # words; beginnings that are followed


def search(step, seen, card):
    """Return {"captions": sentences, the best first} of what was made of one picture or clip.

    Args:
        step: function of {input: array} that returns {output: array}: of a word, the states and the memory, the next.
        seen: {name: array of one row}: the memory, its keys, and the states to begin with.
        card: the bundle's card, with the settings beam, length and length_penalty.

    Raises:
        DataError: the card's settings, or the files' inputs and outputs, are not those of a captioner.
    """
    beam, length = (number(card, name, most) for name, most in (("beam", WIDEST), ("length", LONGEST)))
    penalty = card["settings"].get("length_penalty")
    if not isinstance(beam, int) or not isinstance(length, int) or not isinstance(penalty, float):
        raise DataError("the card's beam, length or length_penalty is not a captioner's; export the bundle again")
    if not {"memory", "keys", *STATES} <= set(seen):
        raise DataError(f"the encoder gives {', '.join(seen)}; expected a memory and states: export the bundle again")
    memory = {name: value for name, value in seen.items() if name not in STATES}

    def steps(words, _, states):
        rows = [_step(step, word, memory, states, row) for row, word in enumerate(words)]
        values = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        return values["probabilities"], values["attention"], {name: values[f"new_{name}"] for name in STATES}

    states = {name: seen[name] for name in STATES}
    return {"captions": beam_search(steps, states, beam=beam, length=length, penalty=penalty)[0]}


def follow(step, seen, words):
    """Return (1, words, vocabulary): the probabilities of each next word, whatever was said before them.

    Args:
        step: as in `search`.
        seen: likewise.
        words: int32 (words,), of which the first begins the sentence.
    """
    memory = {name: value for name, value in seen.items() if name not in STATES}
    states, found = {name: seen[name] for name in STATES}, []
    for word in words:
        said = _step(step, word, memory, states, 0)
        states = {name: said[f"new_{name}"] for name in STATES}
        found.append(said["probabilities"])
    return np.stack(found, axis=1)


def answer(outputs, card):
    """Return [(words, score, attention (words, places))], the best first, from what `search` returned."""
    labels, found = card["labels"], outputs["captions"]
    if tuple(labels[: len(SPECIAL)]) != SPECIAL or any(max(one.words, default=0) >= len(labels) for one in found):
        raise DataError("the labels are not the vocabulary of the model; export the bundle again")
    return [([labels[word] for word in one.words], one.score, one.attention) for one in found]


def show(captions):
    """Return captions as lines of text, the best first, each with its score."""
    return "\n".join(f"{score:7.3f}  {' '.join(words)}" for words, score, _ in captions)


def check_parts(parts, names):
    """Raise DataError unless a bundle has the parts of these names."""
    if set(parts) != set(names):
        raise DataError(f"the bundle has the parts {', '.join(parts)}; expected {', '.join(names)}: export it again")


def _step(step, word, memory, states, row):
    given = {"word": np.array([[word]], np.int32), **memory}
    given |= {name: value[row : row + 1] for name, value in states.items()}
    said = step(given)
    if not {"probabilities", "attention", *(f"new_{name}" for name in STATES)} <= set(said):
        raise DataError(f"the step gives {', '.join(said)}; expected probabilities and states: export the bundle again")
    return said
