"""Recurrent networks for Keras 3 that reach the edge.

``from zoo import recipes, export, layers`` is the whole face. Nothing here imports TensorFlow: each room imports it
where it is needed, so that ``import zoo`` and ``zoo list`` answer at once.
"""

import importlib

__version__ = "0.1.0"
_ROOMS = ("data", "export", "layers", "recipes", "train")


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")


def __dir__():
    return [*_ROOMS, "__version__"]
