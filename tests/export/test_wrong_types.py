"""Every public function of zoo.export refuses what is of another kind in one sentence, whichever argument it is."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest
from test_bundling import Pitch

from zoo import export
from zoo.errors import ExportError, SettingError, ZooError
from zoo.export.session import Session

EXAMPLES = np.random.default_rng(0).normal(size=(5, 6, 3)).astype("float32")
WRONG = [3, 2.5, True, "native", "x" * 300, "\0", b"x", float("nan"), np.int64(3), EXAMPLES, [], {}, {"a": 1}, object()]


@dataclass(frozen=True)
class Call:
    """A public function with arguments that it takes; `fine` are those of `WRONG` that an argument may be, by type."""

    arguments: object  # of (model, a TFLite file, a folder): {name: value}
    fine: dict = field(default_factory=dict)
    none: tuple = ()  # arguments that may be None


NUMBER, REAL = (int, np.int64), (int, np.int64, float)
PATHS = {"path": "new", "scheme": "float32", "target": "linux", "state": "reset", "time_steps": None, "plan": None}
WRITER = {**PATHS, "io_dtype": "float32", "keep_float": (), "representative_data": None}
CALLS = {
    "plan": Call(
        lambda model, file, new: {
            "model": model,
            **{"format": "onnx", "target": "linux", "scheme": "float32", "state": "reset"},
            **{"time_steps": None, "masks": "any"},
        },
        none=("time_steps",),
    ),
    "to_tflite": Call(
        lambda model, file, new: {**WRITER, "model": model, "path": new / "m.tflite", "batch_size": 1},
        {"batch_size": NUMBER, "keep_float": (list,)},
        ("time_steps", "plan", "representative_data"),
    ),
    "to_onnx": Call(
        lambda model, file, new: {
            **{**WRITER, "model": model, "path": new / "m.onnx"},
            **{"scheme": "full_int8", "representative_data": EXAMPLES},
        },
        {"representative_data": (np.ndarray,), "keep_float": (list,)},
        ("time_steps", "plan"),
    ),
    "verify": Call(
        lambda model, file, new: {
            **{"model_or_bundle": model, "path": file, "inputs": EXAMPLES},
            **{"atol": 1e-5, "scheme": "float32", "plan": None},
        },
        {"atol": REAL, "inputs": (np.ndarray,)},
        ("plan", "path"),  # without a path it is a bundle
    ),
    "bundle": Call(
        lambda model, file, new: {
            **{"recipe": Pitch(), "model": model, "folder": new / "bundle"},
            **{"formats": ["onnx"], "schemes": ["float32"], "targets": ["linux"], "streaming": False},
        },
        {"folder": (str,)},
    ),
    "quantization_error": Call(
        lambda model, file, new: {"model": model, "inputs": EXAMPLES, "format": "onnx", "scheme": "weight_int8"},
        {"inputs": (np.ndarray,)},
    ),
    "prune": Call(
        lambda model, file, new: {
            "model": model,
            **{"sparsity": 0.5, "structure": "units", "size": None, "layers": None},
        },
        none=("size", "layers"),
    ),
    "Pruning": Call(
        lambda model, file, new: {
            **{"sparsity": 0.5, "structure": "block", "size": (4, 1), "schedule": "polynomial"},
            **{"begin": 0, "end": None, "frequency": 3, "layers": None},
        },
        {"begin": NUMBER, "end": NUMBER, "frequency": NUMBER},
        ("size", "end", "layers"),
    ),
    "sparsity_report": Call(lambda model, file, new: {"model": model}),
    "gzipped_size": Call(lambda model, file, new: {"path": file}),
    "distil": Call(
        lambda model, file, new: {
            **{"student": model, "teacher": model},
            **{"temperature": 2.0, "weight": 0.5, "from_logits": False},
        },
        {"temperature": REAL, "from_logits": (bool,)},
    ),
    "to_c_array": Call(lambda model, file, new: {"path": file, "folder": new / "source"}, {"folder": (str,)}),
    "arena_size": Call(lambda model, file, new: {"path": file}),
    "to_nir": Call(lambda model, file, new: {"model": model, "path": new / "m.nir"}),
    "leads": Call(lambda model, file, new: {"model": model, "time_steps": 2}, {"time_steps": NUMBER}),
    "quantize_aware": Call(lambda model, file, new: {"model": model, "keep_float": ()}, {"keep_float": (list,)}),
    "rule": Call(
        lambda model, file, new: {"cell_class": Pitch, "format": "onnx", "unless": None, "schemes": ["float32"]},
        none=("unless",),
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, and a TFLite file of it."""
    inputs = keras.Input((6, 3), name="x")
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.LSTM(4, name="lstm")(inputs)))
    return model, export.to_tflite(model, tmp_path_factory.mktemp("written") / "m.tflite")


def test_the_table_has_every_argument_of_every_function():
    assert set(CALLS) == set(export.__all__)
    for name, call in CALLS.items():
        known = set(inspect.signature(getattr(export, name)).parameters) - {"options"}
        assert set(call.arguments(None, None, Path())) == known, name


@pytest.mark.parametrize("name", CALLS)
def test_what_is_of_another_kind_is_refused_in_one_sentence(made, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    call = CALLS[name]
    for argument in call.arguments(*made, tmp_path):
        for value in [None, *WRONG]:
            if argument in call.none if value is None else type(value) in call.fine.get(argument, ()):
                continue
            with pytest.raises(ZooError) as caught:
                getattr(export, name)(**{**call.arguments(*made, tmp_path), argument: value})
            said = str(caught.value)
            assert "\n" not in said and len(said) < 1000, (argument, value)
    assert not list(tmp_path.iterdir())


def test_numpys_whole_numbers_are_as_good_as_pythons(made, tmp_path):
    model = keras.Sequential([keras.Input((None, 3), name="x"), keras.layers.LSTM(4)])
    for one, name in ((2, "whole"), (np.int64(2), "numpy")):
        options = {"state": "external", "time_steps": one}
        export.to_tflite(model, tmp_path / f"{name}.tflite", batch_size=one, **options)
        export.to_onnx(model, tmp_path / f"{name}.onnx", **options)
    for suffix in ("tflite", "onnx"):
        assert (tmp_path / f"whole.{suffix}").read_bytes() == (tmp_path / f"numpy.{suffix}").read_bytes()
    sizes = export.prune(made[0], structure="m_by_n", size=(np.int32(1), np.uint8(2))).get_weights()
    assert np.mean(sizes[1] == 0) == 0.5


@pytest.mark.parametrize("forms", [None, *WRONG])
def test_a_plan_is_overridden_by_a_dict_of_its_layers_alone(made, forms):
    plan = export.plan(made[0], format="onnx")
    if isinstance(forms, dict) and not forms:
        assert plan.override(forms) == plan
        return
    with pytest.raises(ZooError):
        plan.override(forms)


@pytest.mark.parametrize("path", [None, *WRONG])
def test_a_session_is_of_a_file_alone(path):
    with pytest.raises(ZooError):
        Session(path)


def test_a_name_that_the_file_system_refuses_leaves_nothing(made, tmp_path):
    model, _ = made
    long = tmp_path / f"{'x' * 300}.tflite"
    with pytest.raises(ExportError, match="could not be written: File name too long"):
        export.to_tflite(model, long)
    with pytest.raises(SettingError, match="cannot be created: File name too long"):
        export.bundle(Pitch(), model, tmp_path / ("x" * 300))
    assert export.to_tflite(model, tmp_path / f"{'x' * 248}.tflite").is_file()  # as long as a name may be
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_where_a_file_is_expected_and_the_other_way_round_are_refused(made, tmp_path):
    model, file = made
    for call in (
        lambda: export.verify(model, tmp_path, EXAMPLES),
        lambda: export.verify(file),
        lambda: export.verify(tmp_path),
        lambda: export.verify(tmp_path / "missing"),
        lambda: export.to_tflite(model, tmp_path),
        lambda: export.to_tflite(model, tmp_path / "missing" / "m.tflite"),
        lambda: export.to_onnx(model, file),
        lambda: export.bundle(Pitch(), model, file / "below"),
        lambda: export.to_c_array(tmp_path, tmp_path),
        lambda: export.to_c_array(file, file),
        lambda: export.gzipped_size(tmp_path),
        lambda: export.arena_size(tmp_path),
    ):
        with pytest.raises(ZooError):
            call()
    assert not list(tmp_path.iterdir())
