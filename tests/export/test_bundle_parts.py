"""A model that a device runs as several files in turn: each is verified, together they are the model."""

import json
from dataclasses import dataclass

import keras
import numpy as np
import pytest

from zoo import export
from zoo.errors import DataError, SettingError, VerifyError
from zoo.export import contents, runner
from zoo.recipes import KeywordSpotting

pytestmark = pytest.mark.on_tensorflow
TIME, UNITS = 4, 3


def whole():
    """A GRU that starts from what a first part makes of a number: (start, steps) -> an output for each step."""
    start, steps = keras.Input((2,), name="start"), keras.Input((TIME, 1), name="steps")
    hidden = keras.layers.Dense(UNITS, activation="tanh", name="first")(start)
    x = keras.layers.GRU(UNITS, return_sequences=True, name="gru")(steps, initial_state=hidden)
    return keras.Model({"start": start, "steps": steps}, keras.layers.Dense(2, activation="softmax", name="said")(x))


def walk(parts, start, steps):
    """Run the parts over one example of the whole."""
    hidden, said = parts["first"]({"start": start[None]})["hidden"], []
    for value in steps:
        answered = parts["step"]({"value": value[None], "hidden": hidden})
        hidden = answered["new_hidden"]
        said.append(answered["said"])
    return np.stack(said, axis=1)


@dataclass(frozen=True)
class Walk:
    """A recipe's face whose model leaves as two files."""

    data: str = "demo"
    name = "walk"
    labels = ("left", "right")
    metric_name = "first output"
    device_files = KeywordSpotting.device_files

    def held_out(self, count):
        random = np.random.default_rng(0)
        inputs = {"start": random.normal(size=(count, 2)), "steps": random.normal(size=(count, TIME, 1))}
        return {name: value.astype("float32") for name, value in inputs.items()}, np.zeros(count, int)

    def representative(self):
        return self.held_out(30)[0]

    def example(self):
        return self.held_out(1)[0], "left"

    def metric(self, outputs, labels):
        return float(np.mean(outputs[..., 0]))

    def parts(self, model):
        cell, value = keras.layers.GRUCell(UNITS), keras.Input((1,), name="value")
        hidden = keras.Input((UNITS,), name="hidden")
        output, states = cell(value, [hidden])
        cell.set_weights(model.get_layer("gru").get_weights())
        said = model.get_layer("said")(output)
        first = {"hidden": model.get_layer("first")(start := keras.Input((2,), name="start"))}
        step = {"said": said, "new_hidden": states[0]}
        return {
            "first": keras.Model({"start": start}, first),
            "step": keras.Model({"value": value, "hidden": hidden}, step),
        }

    def run_parts(self, parts, inputs):
        return np.concatenate([walk(parts, *each) for each in zip(inputs["start"], inputs["steps"], strict=True)])


class Task:
    """What the device file of such a recipe has."""

    read = staticmethod(lambda path, card: Walk().held_out(1)[0])
    run = staticmethod(lambda parts, given, card: {"said": walk(parts, given["start"][0], given["steps"][0])})
    answer = staticmethod(lambda outputs, card: outputs["said"])


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return whole()


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    return export.bundle(Walk(), model, tmp_path_factory.mktemp("bundles") / "walk", schemes=["float32", "full_int8"])


def test_it_holds_a_file_and_an_example_for_each_part(made):
    names = {path.name for path in made.iterdir()}
    files = {
        f"walk.{p}.{s}.{f}" for p in ("first", "step") for s in ("float32", "full_int8") for f in ("tflite", "onnx")
    }
    assert files | {"example.first.npz", "example.step.npz"} <= names and "example.npz" not in names
    card = json.loads((made / "card.json").read_text())
    assert [entry["part"] for entry in card["models"]] == ["first", "step"] * 4
    for part in ("first", "step"):
        assert f"walk.{part}.full_int8.onnx" in (made / "card.md").read_text()
    assert any("in turn they differ from the whole model" in check for check in card["models"][0]["checks"])


@pytest.mark.parametrize("file", [None, "walk.step.float32.tflite", "walk.first.float32.onnx"])
def test_its_files_in_turn_say_what_the_model_says(made, model, file):
    expected = model.predict(Walk().held_out(1)[0], verbose=0)
    np.testing.assert_allclose(runner.run(made, "any", Task, file), expected, atol=1e-6)  # sums in another order


def test_integers_run_with_integers(made, model):
    expected = model.predict(Walk().held_out(1)[0], verbose=0)
    said = runner.run(made, "any", Task, "walk.step.full_int8.tflite")
    assert 0 < np.abs(said - expected).max() < 0.05  # int8 steps of 1/255, through four steps of a small GRU


def test_verify_checks_every_part_and_finds_one_that_answers_otherwise(made, model, tmp_path):
    import hashlib

    assert export.verify(made).passed
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    keras.utils.set_random_seed(1)
    other = Walk().parts(whole())["step"]
    path = tmp_path / "walk.step.float32.onnx"
    path.unlink()
    export.to_onnx(other, path)
    card = json.loads((tmp_path / "card.json").read_text())
    entry = next(entry for entry in card["models"] if entry["name"] == path.name)
    entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(VerifyError, match=r"step.float32.onnx.*over the tolerance"):
        export.verify(tmp_path)


def test_parts_that_are_not_the_model_leave_nothing_behind(model, tmp_path):
    class Forgetful(Walk):
        def run_parts(self, parts, inputs):
            said = super().run_parts(parts, inputs)
            return said[:, ::-1]

    with pytest.raises(VerifyError, match=r"in turn they differ from the whole model by"):
        export.bundle(Forgetful(), model, tmp_path / "walk", formats=["onnx"], schemes=["float32"])
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_no_name_is_refused(made, tmp_path):
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = json.loads((tmp_path / "card.json").read_text())
    for part, sentence in ((3, "part of walk.first.float32.tflite wrong"), ("../x", r"lists no example\.\.\./x\.npz")):
        card["models"][0]["part"] = part
        (tmp_path / "card.json").write_text(json.dumps(card))
        with pytest.raises((DataError, VerifyError), match=sentence):
            export.verify(tmp_path)


def test_what_it_cannot_be_is_said_before_any_work(model, tmp_path):
    with pytest.raises(SettingError, match=r"targets has 'mcu'.* recipe walk runs several"):
        export.bundle(Walk(), model, tmp_path / "walk", targets=["mcu"], schemes=["float32"])
    with pytest.raises(SettingError, match=r"streaming is True, and recipe walk names no chunk"):
        export.bundle(Walk(), model, tmp_path / "walk", streaming=True)
    assert not list(tmp_path.iterdir())


def test_a_task_that_draws_nothing_says_so(tmp_path):
    with pytest.raises(DataError, match="draws no picture"):
        runner.draw([], "any", Task, tmp_path / "out.png")

    class Drawing(Task):
        draw = staticmethod(lambda answered, path, out: out.write_text(answered))

    runner.draw("seen", "any", Drawing, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_text() == "seen"
    with pytest.raises(DataError, match="exists already"):
        runner.draw("again", "any", Drawing, tmp_path / "out.png")
    assert contents.example_name("step") == "example.step.npz" and contents.example_name() == contents.EXAMPLE
