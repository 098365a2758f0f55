"""Ready data, model and training for one task each; every recipe has the same shape."""

import importlib
import os

from zoo.errors import DataError, SettingError

_RECIPES = {  # name: (class, one line); the folder is the name's
    "keyword_spotting": ("KeywordSpotting", "which of a few words was said, from raw audio"),
    "speech_recognition": ("SpeechRecognition", "what was said, character by character, from raw audio"),
    "sentiment": ("Sentiment", "which of a few opinions a text holds, from its words"),
    "image_captioning": ("ImageCaptioning", "what a picture shows, in a sentence, and where each word looked"),
    "video_captioning": ("VideoCaptioning", "what happens in a clip, in a sentence, and when for each word"),
    "forecasting": ("Forecasting", "what comes next in series of numbers, with how sure that is"),
}


def __getattr__(name):
    for module, (class_name, _) in _RECIPES.items():
        if name == class_name:
            return getattr(importlib.import_module(f"{__name__}.{module}.recipe"), class_name)
    raise AttributeError(f"module 'zoo.recipes' has no attribute {name!r}; its recipes are {', '.join(__dir__())}")


def __dir__():
    return [class_name for class_name, _ in _RECIPES.values()]


def names():
    """Return {name: one line about it} of all recipes, without importing any."""
    return {name: line for name, (_, line) in _RECIPES.items()}


def get(name):
    """Return the class of a recipe.

    Raises:
        SettingError: there is no recipe of that name.
    """
    if not isinstance(name, str) or name not in _RECIPES:
        raise SettingError(f"there is no recipe {name!r}, expected one of {', '.join(_RECIPES)}.")
    return __getattr__(_RECIPES[name][0])


def save(folder, recipe, model, scores):
    """Write what `recipe.train()` returned to a new folder, and return its path; see `recipes.base.save_run`."""
    from zoo.recipes.base import save_run

    return save_run(folder, recipe, model, scores)


def load(folder):
    """Read a run's folder, executing nothing from it.

    Returns:
        (recipe, model): the recipe with the run's settings, and the trained `keras.Model`.

    Raises:
        DataError: the folder or a file in it is not what a run wrote.
        SettingError: the run has settings that this version does not know.
    """
    from zoo.recipes.base import read_run

    name, settings, path = read_run(folder)
    return get(name)(**settings), read_model(path)


def read_model(path):
    """Read a `.keras` file, executing nothing from it.

    Raises:
        DataError: it is no file of a Keras model.
    """
    import keras

    from zoo import layers  # noqa: F401  registers the layers that the file names

    if not str(path).endswith(".keras") or not os.path.isfile(path):
        raise DataError(f"{path} is no .keras file, expected one, or the folder of a run that has model.keras.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read as a Keras model ({error}): train again.") from error
