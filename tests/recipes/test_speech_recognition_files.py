"""Exported speech recognisers: both directions and streaming, as a bundle that hears a wav."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile

from zoo import export
from zoo.cli import main
from zoo.errors import ExportError
from zoo.export import runner
from zoo.recipes import SpeechRecognition
from zoo.recipes.speech_recognition import device

pytestmark = pytest.mark.on_tensorflow


def recipe_and_model(**settings):
    """A small recogniser with weights large enough that its texts are not empty."""
    recipe = SpeechRecognition(units=6, layers=1, channels=8, **settings)
    model = recipe.model()
    random = np.random.default_rng(0)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([20 * random.normal(size=kernel.shape), bias])
    return recipe, model


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A wav of the demo's test split, and its samples as a model takes them."""
    samples, _ = SpeechRecognition().example()
    path = tmp_path_factory.mktemp("sound") / "said.wav"
    soundfile.write(path, samples[0, :20000], 8000, "PCM_16")
    samples[:, 20000:] = 0
    return path, samples


@pytest.fixture(scope="module")
def streaming(tmp_path_factory):
    keras.utils.set_random_seed(0)
    recipe, model = recipe_and_model(streaming=True)
    folder = tmp_path_factory.mktemp("bundles") / "streaming"
    export.bundle(recipe, model, folder, formats=["onnx"], schemes=["float32"], streaming=True)
    return recipe, model, folder


def test_a_bundle_of_both_directions_writes_what_the_model_says(sound, tmp_path, capsys):
    recipe, model = recipe_and_model()
    export.bundle(recipe, model, tmp_path / "both", schemes=["float32", "dynamic_int8"], formats=["tflite"])
    path, samples = sound
    expected = recipe.decode(model.predict(samples, verbose=0))
    assert len(expected) > 3
    assert main(["run", str(tmp_path / "both"), str(path)]) == 0
    assert capsys.readouterr().out.strip() == expected


def test_recurrent_layers_of_both_directions_leave_as_onnxs_own_op(tmp_path):
    recipe, model = recipe_and_model()
    plan = export.plan(model, format="onnx", masks=recipe.masks)
    assert {choice.form for choice in plan.choices} == {"native"}
    path = export.to_onnx(model, tmp_path / "m.onnx", plan=plan)
    assert export.verify(model, path, recipe.held_out(3)[0], atol=1e-4, plan=plan).passed  # float32 over 400 frames


def test_the_text_grows_while_a_stream_is_heard(sound, streaming):
    recipe, model, folder = streaming
    path, samples = sound
    partial = [text for _, text in runner.run_in_chunks(folder, path, device)]
    assert len(partial) == 20  # 4 s in chunks of 0.2 s
    assert partial[-1] == recipe.decode(model.predict(samples, verbose=0)) and len(partial[-1]) > 3
    assert partial[0] != partial[-1]
    for before, after in itertools.pairwise(partial):
        assert after.startswith(before)


def test_a_bundles_own_runner_streams_with_numpy_and_the_runtime_alone(sound, streaming):
    _, _, folder = streaming
    path, _ = sound
    command = [sys.executable, str(folder / "run.py"), "--stream", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    lines = done.stdout.splitlines()
    assert len(lines) == 20 and lines[-1].startswith("100%")
    last = list(runner.run_in_chunks(folder, path, device))[-1][1]
    assert lines[-1].split("  ", 1)[1] == last


def test_a_model_of_both_directions_cannot_stream():
    recipe, model = recipe_and_model()
    with pytest.raises(ExportError, match=r"has no rule for streaming|needs the whole|from its end"):
        export.to_onnx(model, "never.onnx", state="external", time_steps=recipe.chunk)
