"""What a device does around a speech recogniser: a wav to the model's input, its output to text. NumPy alone."""

from pathlib import Path

import numpy as np

if __package__:
    from zoo.errors import DataError
    from zoo.recipes.device.settings import number
    from zoo.recipes.device.sound import FASTEST, LONGEST, read_wav, resample
else:  # in a bundle
    from contents import DataError
    from settings import number
    from sound import FASTEST, LONGEST, read_wav, resample

FRAMES = 100  # of features a second
CHUNK = 20  # frames that a model which streams reads at once; a clip is a whole number of them
NOTHING = "(nothing)"  # shown where no character was heard


def read(path, card):
    """Return the model's input, what is heard and silence up to the model's length.

    Args:
        path: a WAV file of 8, 16, 24 or 32-bit integer samples, any rate, mono or stereo; for a model of features a
            .npy file of (frames, features), 100 frames a second.
        card: the bundle's card, with `settings` of the recipe: sample_rate (Hz) and seconds.

    Returns:
        {"samples": (1, length)}, or of a .npy file {"features": (1, frames, features)}.

    Raises:
        DataError: the file is missing, empty, of another kind, of rate 0, or longer than the model hears; the card's
            settings are not those of a speech recogniser.
    """
    rate, seconds = (number(card, name, most) for name, most in (("sample_rate", FASTEST), ("seconds", LONGEST)))
    path = Path(path)
    if path.suffix == ".npy":
        name, sound, rate = "features", _read_features(path), FRAMES
    else:
        samples, found_rate = read_wav(path)
        name, sound = "samples", resample(samples, found_rate, rate)
    length = input_length(rate, seconds)
    if len(sound) > length:
        raise DataError(
            f"{path} lasts {len(sound) / rate:.1f} s; the model hears {length / rate:g} s at most: cut it where nobody"
            " speaks"
        )
    padded = np.zeros((1, length, *sound.shape[1:]), np.float32)
    padded[0, : len(sound)] = sound
    return {name: padded}


def input_length(rate, seconds):
    """Return the samples or frames of a model's input: `seconds`, rounded up to a whole number of chunks."""
    chunk = chunk_length(rate)
    return max(1, int(np.ceil(round(rate * seconds) / chunk))) * chunk


def chunk_length(rate):
    """Return the samples or frames of one chunk."""
    return CHUNK * max(1, round(rate / FRAMES))


def answer(outputs, card):
    """Return what was said, from the model's probabilities (1, frames, labels): the best of each frame, joined.

    The first label is the blank. Labels of one character make a text, of more (phones) a list with spaces.
    """
    (probabilities,), labels = outputs.values(), card["labels"]
    probabilities = np.asarray(probabilities, np.float32)
    if probabilities.ndim != 3 or probabilities.shape[0] != 1 or probabilities.shape[2] != len(labels):
        raise DataError(f"the model gives {probabilities.shape} for {len(labels)} labels; export it again")
    return spell(collapse(probabilities[0]), labels)


def collapse(scores):
    """Return the classes heard: the best of each frame, of repeated ones the first, without the blank (class 0)."""
    best = np.argmax(scores, axis=-1)
    return best[(best != 0) & (best != np.concatenate([[0], best[:-1]]))]


def spell(classes, labels):
    """Return the text of some classes."""
    between = " " if max(map(len, labels)) > 1 else ""
    return " ".join(between.join(labels[one] for one in classes).split())


def show(answer):
    """Return the text as it is shown."""
    return answer or NOTHING


def _read_features(path):
    try:
        with path.open("rb") as file:
            features = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, MemoryError) as error:
        raise DataError(f"{path} is no array of features ({error}); save it with numpy.save") from None
    if features.ndim != 2 or features.dtype.kind != "f" or not features.size or not np.isfinite(features).all():
        raise DataError(f"{path} holds {features.shape} {features.dtype}; expected finite floats (frames, features)")
    return features
