"""The networks of the recipe, from raw samples to probabilities, as files."""

import keras
import numpy as np
import pytest

from zoo import export, recipes
from zoo.export.session import Session
from zoo.export.verification import named, run_examples


@pytest.fixture(scope="module", params=["lstm", "small", "crnn"])
def case(request):
    keras.utils.set_random_seed(0)
    recipe = recipes.KeywordSpotting(network=request.param, units=40)
    model = recipe.model()
    for weight in model.get_layer("recurrent").weights:  # untrained gates hardly move: make every one of them count
        weight.assign(weight + 0.3 * np.random.default_rng(0).normal(size=weight.shape))
    return recipe, model


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_samples_go_in_and_the_model_s_probabilities_come_out(case, tmp_path, format):
    recipe, model = case
    samples, _ = recipe.held_out(12)
    write = export.to_tflite if format == "tflite" else export.to_onnx
    path = write(model, tmp_path / f"m.{format}")
    assert export.verify(model, path, samples, atol=1e-5).passed
    small = write(model, tmp_path / f"small.{format}", scheme="dynamic_int8")
    session = Session(small)
    (answers,) = run_examples(session, named(session, samples)).values()
    # The weights are random and wide; half of int8's 1/254 in each of two matmuls per step, fifty steps.
    assert np.abs(answers - model.predict(samples, verbose=0)).max() < 0.1


def test_the_small_network_is_under_50_kilobytes_with_its_front_end(tmp_path):
    model = recipes.KeywordSpotting(network="small").model()
    assert export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8").stat().st_size < 50_000
