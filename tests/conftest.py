"""What all tests share: seeds, and the place of the real data."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if os.environ.get("KERAS_BACKEND") == "jax":  # the suite compiles small programs for longer than it runs them
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")


def pytest_collection_modifyitems(items):
    import keras

    if keras.backend.backend() != "tensorflow":
        for item in items:
            if item.get_closest_marker("on_tensorflow"):
                item.add_marker(pytest.mark.skip(reason="traces a TensorFlow graph, which no other backend makes"))


@pytest.fixture(autouse=True)
def seeded():
    """Give every test the same random weights and inputs, whatever ran before it."""
    np.random.seed(0)
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets: `RECURRENT_ZOO_DATA`, or `shared/data` beside the project."""
    folder = Path(os.environ.get("RECURRENT_ZOO_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RECURRENT_ZOO_DATA to their folder")
    return folder
