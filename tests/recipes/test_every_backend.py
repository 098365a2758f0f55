"""Every recipe trains on the backend at hand, with both kinds of network where it has two, and comes back from its run.

Exports need TensorFlow, and with it the other tests train: this file is for JAX and torch.
"""

import cases
import keras
import numpy as np
import pytest

from zoo import recipes
from zoo.data import demo_movements, demo_scenes

pytestmark = pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="the other tests train there")

FEW = {"train": 24, "validation": 8, "test": 8}
CAPTIONS = {"units": 8, "width": 8, "batch_size": 12}
SETTINGS = [
    ("forecasting", {"look_back": 24, "horizon": 12, "units": 8, "batch_size": 256}),
    ("forecasting", {"look_back": 24, "horizon": 12, "units": 8, "batch_size": 256, "network": "deepar", "paths": 10}),
    ("forecasting", {"look_back": 24, "horizon": 12, "units": 30, "network": "echo_state"}),
    ("image_captioning", {**CAPTIONS, "own_words": 0.2}),
    ("keyword_spotting", {"units": 8, "batch_size": 64}),
    ("sentiment", {"units": 8, "embedding": 8, "batch_size": 256}),
    ("speech_recognition", {"units": 8, "channels": 8, "batch_size": 64, "seconds": 2}),
    ("video_captioning", {**CAPTIONS, "frames": 4}),
]


def test_none_is_left_out():
    assert {name for name, _ in SETTINGS} == set(cases.RECIPES)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_a_recipe_trains_and_its_run_comes_back(name, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_scenes, "_COUNTS", FEW)
    monkeypatch.setattr(demo_movements, "_COUNTS", FEW)
    recipe = recipes.get(name)(epochs=2, **settings)
    model, scores = recipe.train(verbose=0)
    if settings.get("network") != "echo_state":  # whose readout is fitted at once
        assert len(scores["history"]["loss"]) == 2 and np.isfinite(scores["history"]["loss"]).all()
    again, loaded = recipes.load(recipes.save(tmp_path / "run", recipe, model, scores))
    given, labels = again.held_out(4)
    found, expected = (one.predict(given, verbose=0) for one in (loaded, model))
    assert again.metric(found, labels) == recipe.metric(expected, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # float32, compiled twice
