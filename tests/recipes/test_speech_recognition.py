"""The speech recogniser: its face, its network, its loss, and that it learns."""

import itertools
import json
import math
import sys
from pathlib import Path

import jiwer
import keras
import numpy as np
import pytest
import soundfile

from zoo.errors import DataError, SettingError
from zoo.recipes import SpeechRecognition
from zoo.recipes.speech_recognition import networks, training
from zoo.recipes.speech_recognition.ngram import NGram

BRIEF = {"units": 5, "layers": 1, "channels": 6, "epochs": 1, "batch_size": 64}
VARIANTS = pytest.mark.parametrize("streaming", [False, True], ids=["both directions", "streaming"])


@pytest.fixture(scope="module")
def recipes():
    """One recipe for each direction; the demo set is read once for each."""
    return {streaming: SpeechRecognition(**BRIEF, streaming=streaming) for streaming in (False, True)}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of a second's noise for each of 30 texts."""
    folder = tmp_path_factory.mktemp("own")
    for index in range(30):
        soundfile.write(folder / f"{index}.wav", np.random.default_rng(index).normal(size=8000) / 9, 8000)
    rows = "\n".join(f'{index}.wav,"{["yes", "no"][index % 2]}"' for index in range(30))
    (folder / "manifest.csv").write_text(f"path,text\n{rows}\n")
    return {"data": folder, "seconds": 1.0, "alphabet": "enosy"}


def features_network(streaming, padding=0.0, features=13, **settings):
    x = keras.Input((None, features))
    settings = {"cell": "lstm", "layers": 2, "units": 5, "channels": 6, "dropout": 0.4, "seed": 0} | settings
    return keras.Model(x, networks.network(x, 29, streaming=streaming, padding=padding, **settings))


@VARIANTS
def test_samples_go_in_and_probabilities_come_out(recipes, streaming):
    recipe = recipes[streaming]
    model = recipe.model()
    assert model.input_shape == (None, 32000) and model.inputs[0].name == "samples"
    outputs = model.predict(recipe.held_out(3)[0], verbose=0)
    assert outputs.shape == (3, 100, 29) and len(recipe.labels) == 29
    np.testing.assert_allclose(outputs.sum(axis=-1), 1, atol=1e-6)  # float32: 29 terms below 1


@VARIANTS
def test_models_say_the_same_after_saving(recipes, streaming, tmp_path):
    model = recipes[streaming].model()
    model.save(tmp_path / "model.keras")
    samples = recipes[streaming].held_out(2)[0]
    again = keras.saving.load_model(tmp_path / "model.keras").predict(samples, verbose=0)
    np.testing.assert_array_equal(again, model.predict(samples, verbose=0))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("frames", [33, 40])
def test_padding_changes_nothing_and_says_the_blank(cell, frames):
    network = features_network(streaming=False, cell=cell)
    x = np.random.default_rng(0).normal(size=(2, frames, 13)).astype("float32")
    padded = np.pad(x, ((0, 0), (0, 23), (0, 0)))
    alone, among = network.predict(x, verbose=0), network.predict(padded, verbose=0)
    np.testing.assert_allclose(among[:, : alone.shape[1]], alone, atol=1e-5)  # float32, sums in another order
    beyond = keras.ops.convert_to_numpy(keras.ops.softmax(among[:, alone.shape[1] :]))
    assert (beyond[..., 0] > 1 - 1e-6).all() and beyond.size


@VARIANTS
def test_only_the_streaming_network_does_without_the_future(streaming):
    network = features_network(streaming)
    x = np.random.default_rng(0).normal(size=(1, 64, 13)).astype("float32")
    other = x.copy()
    other[:, 32:] *= 2
    one, two = (network.predict(each, verbose=0)[:, :8] for each in (x, other))
    if streaming:
        np.testing.assert_array_equal(one, two)
    else:
        assert not np.allclose(one, two)


def test_without_streaming_loudness_and_microphone_do_not_matter():
    network = features_network(streaming=False)
    x = np.random.default_rng(0).normal(size=(1, 40, 13)).astype("float32")
    other = 3 * x + np.arange(1, 14, dtype="float32")
    np.testing.assert_allclose(  # 1e-5 beside the variance, and float32 over two layers
        network.predict(other, verbose=0), network.predict(x, verbose=0), atol=1e-4
    )


def ctc_of_torch(logits, labels, frames):
    torch = pytest.importorskip("torch")
    log = torch.log_softmax(torch.tensor(logits), -1).transpose(0, 1)
    lengths = torch.tensor([int((label > 0).sum()) for label in labels])
    loss = torch.nn.functional.ctc_loss(
        log, torch.tensor(labels), torch.tensor(frames), lengths, blank=0, reduction="none"
    )
    return loss.numpy()


def test_the_loss_of_a_padded_batch_is_torchs_of_the_unpadded_utterances():
    random, frames = np.random.default_rng(0), np.array([12, 9, 7])
    labels = np.array([[3, 3, 5, 1, 0], [2, 4, 4, 4, 6], [7, 0, 0, 0, 0]], dtype="int32")
    logits = random.normal(size=(3, 12, 8)).astype("float32") * 2
    padded = logits.copy()
    for row, length in zip(padded, frames, strict=True):
        row[length:] = networks.CERTAIN * np.eye(8)[0]
    loss = keras.losses.CTC(reduction="none")(labels, padded)
    expected = ctc_of_torch(logits, labels, frames)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), expected, rtol=1e-4)  # float32, twelve sums of logs


def test_the_loss_is_the_sum_over_all_alignments():
    logits = np.random.default_rng(1).normal(size=(1, 5, 3)).astype("float32")
    chances = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(3), repeat=5):
        if [one for one, _ in itertools.groupby(path) if one] == [1, 2, 2]:
            total += math.prod(frame[one] for frame, one in zip(chances, path, strict=True))
    loss = keras.losses.CTC(reduction="none")(np.array([[1, 2, 2]]), logits)
    assert float(loss[0]) == pytest.approx(-math.log(total), rel=1e-4)


def test_training_is_repeatable_and_scored_on_the_test_split(own):
    recipe = SpeechRecognition(**BRIEF | own)
    assert recipe.labels == ("", " ", "e", "n", "o", "s", "y")
    (one, scores), (two, again) = (recipe.train(verbose=0) for _ in range(2))
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert scores == again and len(scores["history"]["val_error_rate"]) == 1
    inputs, texts = recipe.held_out(100)
    heard = recipe.transcribe(one.predict(inputs, verbose=0))
    assert scores["cer"] == jiwer.cer(texts, heard) and scores["wer"] == jiwer.wer(texts, heard)
    assert scores["utterances"] == len(recipe.load().select("test")[1])


def test_training_keeps_the_weights_of_the_epoch_with_the_fewest_errors(own):
    class Spoil(keras.callbacks.Callback):
        """Lets the first epoch say nothing, where every character is missing, and the second far too much."""

        def on_epoch_begin(self, epoch, logs=None):
            layer = self.model.get_layer("logits")
            kernel = np.random.default_rng(0).normal(size=layer.kernel.shape)
            layer.set_weights([100 * epoch * kernel, 50 * (1 - epoch) * np.eye(7)[0]])

        def on_epoch_end(self, epoch, logs):
            if epoch == 0:
                self.kept = self.model.get_layer("recurrent_1").get_weights()

    spoil = Spoil()
    model, scores = SpeechRecognition(**BRIEF | own | {"epochs": 2}).train(callbacks=[spoil], verbose=0)
    first, second = scores["history"]["val_error_rate"]
    assert first == 1 and second > 1
    for kept, weight in zip(spoil.kept, model.get_layer("recurrent_1").get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


@VARIANTS
def test_what_was_trained_is_what_the_model_says(recipes, streaming):
    """The network of open length that was trained, and the model of fixed length with its front-end, agree."""
    recipe = recipes[streaming]
    batches, _ = recipe._batches()
    network_input = keras.Input((None, batches[0][0].shape[-1]))
    network = keras.Model(network_input, recipe._network(network_input))
    model = recipe.model()
    networks.copy_weights(network, model)
    (sound, *_), _ = recipe.load().select("test")
    padding = networks.silence(0, streaming)
    (features,) = training.extractor(networks.front_end(8000, streaming), 8000, 0.5)([sound])
    padded = np.full((1, 400, features.shape[1]), padding, "float32")
    padded[0, : len(features)] = features
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(network.predict(padded, verbose=0)))
    inputs = np.zeros((1, 32000), "float32")
    inputs[0, : len(sound)] = sound
    got = model.predict(inputs, verbose=0)
    heard = len(features) // 4 - 2  # the frames at the end of the sound reach into the silence behind it
    # Those few frames count in the utterance's mean and variance; the network that streams sees the same but for
    # float32 sums in another order.
    np.testing.assert_allclose(got[0, :heard], expected[0, :heard], atol=1e-5 if streaming else 2e-2)


def test_error_rates_are_jiwers(recipes):
    recipe = recipes[False]
    _, texts = recipe.held_out(4)
    outputs = np.eye(29)[[[recipe.labels.index(c) for c in _spread(text)] for text in _same_length(texts)]]
    assert recipe.transcribe(outputs) == texts
    assert recipe.metric(outputs, texts) == 1.0
    wrong = ["ONE", *texts[1:]]
    assert recipe.metric(outputs, wrong) == pytest.approx(1 - jiwer.cer(wrong, texts))


def _spread(text):
    """A blank after each character, so that alike ones stay two."""
    return [one for character in text for one in (character, "")]


def _same_length(texts):
    return [text.ljust(max(map(len, texts))) for text in texts]


def test_transcribing_with_a_language_model_prefers_its_texts(recipes):
    recipe = recipes[False]
    unsure = np.zeros((1, 2, 29))
    a, b = recipe.labels.index("A"), recipe.labels.index("B")
    unsure[0, 0, [a, b]], unsure[0, 1, 0] = (0.55, 0.45), 1.0
    assert recipe.transcribe(unsure) == ["A"]
    assert recipe.transcribe(unsure, language=NGram(["B", "B", "B"], 1), weight=1.0) == ["B"]


@VARIANTS
def test_examples_come_from_the_test_split(recipes, streaming):
    recipe = recipes[streaming]
    inputs, text = recipe.example()
    sounds, texts = recipe.load().select("test")
    assert inputs.shape == (1, 32000) and text == texts[0]
    np.testing.assert_array_equal(inputs[0, : len(sounds[0])], sounds[0])
    assert recipe.held_out(1000)[1] == texts and len(recipe.held_out(7)[0]) == 7
    assert recipe.representative().shape == (100, 32000)


def test_decode_is_the_devices_answer(recipes):
    outputs = np.eye(29)[None, [2, 0, 3]]
    labels = recipes[False].labels
    assert recipes[False].decode(outputs) == labels[2] + labels[3]
    with pytest.raises(DataError, match="labels"):
        recipes[False].decode(outputs[0])


def test_given_features_make_a_model_of_features(tmp_path):
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        arrays = {"lengths": [80] * count, "texts": ["GO ON"] * count, "speakers": [f"s{i}" for i in range(count)]}
        np.savez(tmp_path / f"an4_{split}.npz", features=random.normal(size=(80 * count, 13)), **arrays)
    recipe = SpeechRecognition(**BRIEF, data=tmp_path, seconds=1.0)
    model, scores = recipe.train(verbose=0)
    assert model.input_shape == (None, 100, 13) and model.inputs[0].name == "features"
    assert recipe.chunk == 20 and scores["utterances"] == 3


def test_a_dictionary_makes_a_recogniser_of_phones(own, tmp_path):
    (tmp_path / "dictionary").write_text("yes Y EH S\nno N OW\n")
    recipe = SpeechRecognition(**BRIEF | own, dictionary=tmp_path / "dictionary")
    assert recipe.labels == ("", "EH", "N", "OW", "S", "Y") and recipe.metric_name == "phones right"
    outputs = np.eye(6)[None, [5, 1, 1, 0, 4]]
    assert recipe.decode(outputs) == "Y EH S"
    assert recipe.metric(outputs, ["Y EH S"]) == 1 and recipe.metric(outputs, ["N OW"]) == 1 - 3 / 2
    model, scores = recipe.train(verbose=0)
    inputs, texts = recipe.inputs("test")
    assert set(texts) <= {"Y EH S", "N OW"}
    assert scores["per"] == jiwer.wer(texts, recipe.transcribe(model.predict(inputs, verbose=0)))
    assert "cer" not in scores


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cell": "rnn"}, "cell is 'rnn', expected one of 'lstm', 'gru'"),
        ({"layers": 0}, "layers is 0, expected an int of 1 or more"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": 1.0}, "dropout is 1.0, expected a share from 0 to below 1"),
        ({"seconds": 0.0}, "seconds is 0.0"),
    ],
)
def test_wrong_settings_stop_before_any_work(settings, says):
    with pytest.raises(SettingError, match=says):
        SpeechRecognition(**settings)


@pytest.mark.slow
def test_the_demo_set_is_learnt():
    _, scores = SpeechRecognition(units=64, epochs=10, batch_size=12).train(verbose=0)
    assert scores["cer"] < 0.3  # unheard synthetic voices; a text of nothing has 1


def test_the_figures_that_are_printed_are_those_that_were_measured():
    root = Path(__file__).parents[2]
    measured = json.loads((root / "docs" / "results" / "speech_recognition-an4.json").read_text())
    page = (root / "docs" / "speech_recognition.md").read_text()
    test, validation = measured["test"], measured["validation"]
    beam = "beam search with the words and word pairs of the training texts"
    rows = [
        ("greedy, mean of three seeds", test["mean"]["greedy"]),
        (f"{beam}, mean of three seeds", test["mean"]["with_training_texts"]),
        ("greedy, validation speakers, seed 0", validation["greedy"]),
        ("beam search, validation speakers, seed 0", validation["with_training_texts"]),
    ]
    for number, seed in enumerate(measured["seeds"]):
        rows.append((f"seed {seed}", test["by seed"]["greedy"][number]))
        rows.append((f"seed {seed}, beam search", test["by seed"]["with_training_texts"][number]))
    for kind, each in test["by seed"].items():
        for rate in ("cer", "wer"):  # of figures rounded to four places
            assert np.mean([one[rate] for one in each]) == pytest.approx(test["mean"][kind][rate], abs=1e-4)
    for row, rates in rows:
        assert f"| {row} | {100 * rates['cer']:.1f} | {100 * rates['wer']:.1f} |" in page
    for name, file in measured["files"].items():
        cells = f"{100 * file['cer']:.1f} | {100 * file['wer']:.1f} | {file['bytes'] / 1024:.0f}"
        assert f"| {name} | {cells} | {file['latency_ms']:.0f} |" in page
    assert len(measured["variants"]["of"]) >= 4
    for name, one in measured["variants"]["of"].items():
        cells = f"{100 * one['cer']:.1f} | {one['parameters']:,} | {one['seconds']:.0f}"
        assert f"| {name} | {cells} |" in page
    assert f"> {measured['failure']['said']}" in page and f"> {measured['failure']['heard']}" in page
    for shown in (
        f"{measured['parameters']:,}",
        f"{measured['training_seconds']:.0f} s",
        f"{measured['settings']['epochs']} epochs",
    ):
        assert shown in page
    first_lines = sys.modules[SpeechRecognition.__module__].__doc__
    mean = test["mean"]["greedy"]
    assert f"{100 * mean['cer']:.1f}% of the characters and {100 * mean['wer']:.1f}% of the words" in first_lines
