"""A bundle holds what a device needs, runs there without TensorFlow, and is distrusted when it comes from elsewhere."""

import json
import subprocess
import sys
import wave
from dataclasses import dataclass

import keras
import numpy as np
import pytest

from zoo import export
from zoo.errors import DataError, SettingError, VerifyError
from zoo.export import contents, runner
from zoo.export.session import Session, answer
from zoo.recipes import KeywordSpotting
from zoo.recipes.keyword_spotting import device as keyword_spotting_device

RATE, SECONDS, LABELS = 1000, 0.2, ("low", "high")


@dataclass(frozen=True)
class Pitch:
    """A recipe's face on a toy task: is a tone low or high?"""

    data: str = "/home/somebody/tones"
    sample_rate: int = RATE
    seconds: float = SECONDS
    name = "pitch"
    labels = LABELS
    metric_name = "accuracy"
    device_files = KeywordSpotting.device_files

    def held_out(self, count):
        labels = np.arange(count) % 2
        time = np.arange(round(RATE * SECONDS)) / RATE
        return np.stack([np.sin(2 * np.pi * (40 + 160 * label) * time) for label in labels]).astype("float32"), labels

    def representative(self):
        return self.held_out(8)[0] * np.linspace(0.9, 1.1, 8, dtype="float32")[:, None]

    def example(self):
        inputs, labels = self.held_out(1)
        return inputs, LABELS[labels[0]]

    def metric(self, outputs, labels):
        return float(np.mean(np.argmax(outputs, axis=-1) == labels))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((round(RATE * SECONDS),), name="samples")
    x = keras.layers.Reshape((20, 10))(inputs)
    x = keras.layers.LSTM(8)(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax", name="dense")(x))


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    return export.bundle(Pitch(), model, tmp_path_factory.mktemp("bundles") / "pitch")


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the bundle to spoil."""
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_it_holds_what_a_device_needs_and_nothing_else(made):
    models = [f"pitch.{s}.{f}" for s in ("float32", "dynamic_int8") for f in ("tflite", "onnx")]
    others = ["card.json", "card.md", "card.png", "example.npz", "labels.json"]
    others += ["contents.py", "labels.py", "run.py", "session.py", "settings.py", "sound.py", "task.py"]
    assert sorted(path.name for path in made.iterdir()) == sorted(models + others)
    card = json.loads((made / "card.json").read_text())
    assert {"metric", "latency_ms", "bytes", "sha256", "plan"} <= set(card["models"][0])
    assert "somebody" not in (made / "card.json").read_text() + (made / "card.md").read_text()


def test_its_runner_needs_neither_tensorflow_nor_the_zoo(made, tmp_path):
    sound = tmp_path / "tone.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((2, 2, 44100, 0, "NONE", ""))  # another rate, stereo
        tone = 20000 * np.sin(2 * np.pi * 200 * np.arange(8820) / 44100)
        file.writeframes(np.repeat(tone.astype("<i2"), 2).tobytes())
    blocked = "import sys\nfor n in ('tensorflow', 'keras', 'zoo', 'jax', 'torch'): sys.modules[n] = None\n"
    start = f"{blocked}import runpy; sys.path.insert(0, {str(made)!r}); sys.argv = ['run.py', *sys.argv[1:]]\n"
    start += f"runpy.run_path({str(made / 'run.py')!r}, run_name='__main__')"

    def run(*arguments):
        return subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True, text=True, cwd=tmp_path)

    for file in ("pitch.float32.tflite", "pitch.dynamic_int8.onnx"):
        answer = run(str(sound), "--file", file)
        assert answer.returncode == 0, answer.stderr
        assert {line.split()[0] for line in answer.stdout.splitlines()} == set(LABELS)
    checked = run("--check")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("ok ") == 13  # four models, six of the runner, its labels, the example
    missing = run("nothing.wav")
    assert missing.returncode == 1
    assert "there is no file" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_it_runs_its_own_files_also_where_the_zoo_is_installed(made):
    code = "import run; print(*{one.__module__ for one in (run.Session, run.DataError, run.check)}, run._PROGRAM[-1])"
    said = subprocess.check_output([sys.executable, "-c", code], cwd=made, text=True).split()
    assert set(said) == {"session", "zoo.errors", "run", str(made / "run.py")}  # the error is the one that the zoo has


def test_the_package_runs_it_as_the_model_does(made, model, tmp_path):
    samples = Pitch().held_out(2)[0][1]
    sound = tmp_path / "tone.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    answer = dict(runner.run(made, sound, keyword_spotting_device))
    # 16-bit rounding of the samples, 3e-5 each, through a softmax
    np.testing.assert_allclose([answer[label] for label in LABELS], model.predict(samples[None])[0], atol=1e-3)


def test_for_a_microcontroller_it_also_holds_the_smallest_file_as_c(model, tmp_path):
    options = {"formats": ["tflite"], "schemes": ["float32", "dynamic_int8", "full_int8"], "targets": ["mcu"]}
    folder = export.bundle(Pitch(), model, tmp_path / "pitch", **options)
    card = json.loads((folder / "card.json").read_text())
    assert [entry["scheme"] for entry in card["models"]] == ["float32", "full_int8"]  # what TFLite Micro has ops for
    sizes = [(folder / entry["name"]).stat().st_size for entry in card["models"]]
    assert sizes[1] < sizes[0]
    assert f"g_model_data_size = {sizes[1]};" in (folder / "model_data.cc").read_text()
    assert {"model_data.cc", "model_data.h"} < {entry["name"] for entry in card["files"]}
    assert all(entry["arena_bytes"] > 0 for entry in card["models"])
    assert export.verify(folder).passed
    with pytest.raises(SettingError, match="target 'mcu' needs one of float32, full_int8"):
        export.bundle(Pitch(), model, tmp_path / "other", targets=["mcu"], schemes=["dynamic_int8"])


def test_a_recipe_without_representative_examples_is_told_so(model, tmp_path):
    class Silent(Pitch):
        @property
        def representative(self):
            raise AttributeError

    with pytest.raises(SettingError, match="has no representative"):
        export.bundle(Silent(), model, tmp_path / "pitch", schemes=["full_int8"])


@dataclass(frozen=True)
class StreamedPitch(Pitch):
    chunk = 20  # samples: two of the model's frames


@pytest.fixture(scope="module")
def streaming(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming") / "pitch"
    return export.bundle(StreamedPitch(), model, folder, schemes=["float32"], streaming=True)


def test_with_streaming_it_also_holds_files_that_read_in_chunks(streaming, model):
    names = [f"pitch.{kind}float32.{format}" for format in ("tflite", "onnx") for kind in ("", "stream.")]
    card = contents.read_card(streaming)
    assert [entry["name"] for entry in card["models"]] == names
    assert [entry.get("chunk") for entry in card["models"]] == [None, 20] * 2
    assert export.verify(streaming).passed
    samples = Pitch().held_out(2)[0]
    for name in names[1::2]:
        file = Session(streaming / name)
        said = [answer(file, {"samples": sound[None]})["dense"][0] for sound in samples]
        np.testing.assert_allclose(said, model(samples), atol=1e-6)  # float32 sums in another order


def test_a_bundle_answers_after_each_chunk(streaming, tmp_path):
    sound = tmp_path / "tone.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.round(Pitch().held_out(2)[0][1] * 32767).astype("<i2").tobytes())
    heard = list(runner.run_in_chunks(streaming, sound, keyword_spotting_device))
    assert [share for share, _ in heard] == [i / 10 for i in range(1, 11)]
    whole = runner.run(streaming, sound, keyword_spotting_device)
    assert dict(heard[-1][1]) == pytest.approx(dict(whole), abs=1e-6)
    with pytest.raises(DataError, match=r"reads a clip at once; .* are pitch.stream.float32.tflite"):
        list(runner.run_in_chunks(streaming, sound, keyword_spotting_device, "pitch.float32.onnx"))


def test_what_a_task_needs_beside_the_labels_travels_along_and_is_distrusted(model, tmp_path):
    class Described(Pitch):
        def assets(self, trained):
            return {"limits.json": f"[{trained.count_params()}]".encode()}

    class Task:
        """Answers with what it was handed."""

        read = staticmethod(lambda path, card: {"samples": np.zeros((1, round(RATE * SECONDS)), "float32")})
        answer = staticmethod(lambda outputs, card: card["assets"])

    folder = export.bundle(Described(), model, tmp_path / "pitch", formats=["onnx"], schemes=["float32"])
    content = f"[{model.count_params()}]".encode()
    assert runner.run(folder, tmp_path, Task) == {"limits.json": content}
    assert "limits.json" in {check.file for check in export.verify(folder).checks}
    (folder / "limits.json").write_bytes(content.replace(b"[", b"{"))
    with pytest.raises(DataError, match=r"limits.json is damaged"):
        runner.run(folder, tmp_path, Task)
    card = json.loads((folder / "card.json").read_text())
    for assets, sentence in (["other"], "lists no other"), ("limits.json", "assets wrong"), ([3], "assets wrong"):
        (folder / "card.json").write_text(json.dumps(card | {"assets": assets}))
        with pytest.raises(DataError, match=sentence):
            runner.run(folder, tmp_path, Task)


@pytest.mark.parametrize("masks", ["any", "right_padded"])
def test_what_a_recipe_promises_of_its_masks_decides_the_form(masks, tmp_path):
    class Padded(Pitch):
        def held_out(self, count):
            return np.tile(np.array([1, 2, 3, 0, 0], "int32"), (count, 1)), np.zeros(count, int)

    Padded.masks = masks
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    x = keras.layers.LSTM(3)(keras.layers.Embedding(4, 3, mask_zero=True)(tokens))
    model = keras.Model(tokens, keras.layers.Dense(2, activation="softmax")(x))
    folder = export.bundle(Padded(), model, tmp_path / "padded", formats=["onnx"], schemes=["float32"])
    (entry,) = contents.read_card(folder)["models"]
    assert [choice["form"] for choice in entry["plan"]] == [{"any": "loop", "right_padded": "native"}[masks]]


def test_verify_checks_every_file(made):
    report = export.verify(made)
    assert report.passed
    assert len(report.checks) == 13


@pytest.mark.parametrize(
    "name", ["pitch.float32.tflite", "pitch.float32.onnx", "labels.json", "example.npz", "run.py", "session.py"]
)
def test_one_changed_byte_is_found(copied, name):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(VerifyError, match=rf"{name}.*damaged"):
        export.verify(copied)


def test_a_missing_or_cut_file_is_found(copied):
    (copied / "pitch.float32.onnx").unlink()
    path = copied / "pitch.float32.tflite"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VerifyError, match=r"tflite has 100 bytes.*onnx is missing"):
        export.verify(copied)


@pytest.mark.parametrize("name", ["../outside.tflite", "/etc/passwd", "a/b.onnx", "..", ""])
def test_a_name_that_leaves_the_folder_is_refused(copied, name):
    card = json.loads((copied / "card.json").read_text())
    card["models"][0]["name"] = name
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="plain name within the folder"):
        export.verify(copied)


def test_a_link_out_of_the_folder_is_not_followed(copied, tmp_path_factory):
    path = copied / "labels.json"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "labels.json"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)
    with pytest.raises(VerifyError, match=r"labels\.json is missing"):
        export.verify(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"models": 3}', '{"models": [{}], "files": []}', "[" * 100000])
def test_a_card_that_is_none_gives_one_sentence(copied, text):
    (copied / "card.json").write_text(text)
    with pytest.raises(DataError, match=r"card\.json"):
        export.verify(copied)


def test_pickles_are_not_read(copied):
    import hashlib

    path = copied / "example.npz"
    np.savez(path, input_samples=np.array([{"a": 1}], dtype=object), output_x=np.zeros(1))
    card = json.loads((copied / "card.json").read_text())
    entry = next(entry for entry in card["files"] if entry["name"] == "example.npz")
    entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(VerifyError, match=r"example\.npz cannot be read"):
        export.verify(copied)


def test_a_wrong_model_file_with_a_right_hash_fails_on_the_example(copied, model):
    """Whoever forges the card too still has to answer the stored example."""
    import hashlib

    other = keras.models.clone_model(model)
    other.set_weights([w + 0.5 for w in model.get_weights()])
    path = copied / "pitch.float32.onnx"
    path.unlink()
    export.to_onnx(other, path)
    card = json.loads((copied / "card.json").read_text())
    entry = next(entry for entry in card["models"] if entry["name"] == path.name)
    entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(VerifyError, match="over the tolerance"):
        export.verify(copied)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"formats": ("tflitee",)}, "formats is 'tflitee'"),
        ({"schemes": "float32"}, "expected a list"),
        ({"targets": ()}, "expected a list"),
        ({"streaming": True}, "streaming is True, and recipe pitch names no chunk"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(model, tmp_path, options, sentence):
    with pytest.raises(SettingError, match=sentence):
        export.bundle(Pitch(), model, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(model, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(SettingError, match="exists already"):
        export.bundle(Pitch(), model, tmp_path)
    assert (tmp_path / "kept").read_text() == "mine"


def test_nothing_is_left_of_a_bundle_whose_file_fails(model, tmp_path):
    @dataclass(frozen=True)
    class Drifting(Pitch):
        """A metric that falls with every call, as an int8 file might make it."""

        def metric(self, outputs, labels):
            object.__setattr__(self, "calls", getattr(self, "calls", 0) + 1)
            return 1.0 - 0.1 * self.calls

    with pytest.raises(VerifyError, match=r"accuracy .* leave scheme 'dynamic_int8' out"):
        export.bundle(Drifting(), model, tmp_path / "out", formats=("onnx",))
    assert not list(tmp_path.iterdir())


def test_the_device_reads_sound_as_training_does(tmp_path):
    """The runner's own reading, NumPy alone, against the data room's soundfile and soxr."""
    import soundfile

    from zoo.data.audio import fit_length, read_audio

    card = {"settings": {"sample_rate": 8000, "seconds": 0.5}}
    envelope = np.sin(np.linspace(0, np.pi, 22050)) ** 2
    sound = 0.5 * envelope * np.sin(2 * np.pi * 440 * np.arange(22050) / 44100)
    for rate, subtype, channels in [
        (8000, "PCM_16", 1),
        (44100, "PCM_24", 2),
        (16000, "PCM_U8", 1),
        (8000, "PCM_32", 2),
    ]:
        path = tmp_path / f"{rate}{subtype}.wav"
        soundfile.write(path, np.repeat(sound[:, None], channels, axis=1), rate, subtype=subtype)
        device = keyword_spotting_device.read(path, card)["samples"][0]
        training = fit_length(read_audio(path, 8000), 4000)
        # two band-limited resamplers differ at the ends of a clip; 8-bit samples are steps of 1/128
        np.testing.assert_allclose(device, training, atol=0.002)


@pytest.mark.parametrize("length", [100, 3999, 4000, 4001, 20000])
def test_the_device_fits_lengths_as_training_does(length):
    from zoo.data.audio import fit_length

    samples = np.random.normal(size=length).astype("float32")
    np.testing.assert_array_equal(keyword_spotting_device._fit_length(samples, 4000), fit_length(samples, 4000))


def test_what_a_device_runs_is_short_and_names_neither_tensorflow_nor_keras(made):
    for path in made.glob("*.py"):
        text = path.read_text()
        assert text.count("\n") < 300
        assert "tensorflow" not in text.replace("TensorFlow", "")
        assert "keras" not in text
