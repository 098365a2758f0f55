"""The keyword-spotting recipe: its face, its models, and that it learns."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile

from zoo.errors import DataError, SettingError
from zoo.recipes import KeywordSpotting

NETWORKS = pytest.mark.parametrize("network", ["lstm", "small", "crnn"])
BRIEF = {"network": "small", "units": 6, "epochs": 1, "batch_size": 256}


@NETWORKS
def test_samples_go_in_and_probabilities_come_out(network):
    recipe = KeywordSpotting(network=network, units=7)
    model = recipe.model()
    assert model.input_shape == (None, 8000) and model.inputs[0].name == "samples"
    outputs = model.predict(recipe.held_out(5)[0], verbose=0)
    assert outputs.shape == (5, len(recipe.labels))
    np.testing.assert_allclose(outputs.sum(axis=-1), 1, atol=1e-6)  # float32: ten terms below 1


@NETWORKS
def test_models_say_the_same_after_saving(network, tmp_path):
    recipe = KeywordSpotting(network=network, units=7)
    model = recipe.model()
    model.save(tmp_path / "model.keras")
    samples = recipe.held_out(2)[0]
    again = keras.saving.load_model(tmp_path / "model.keras").predict(samples, verbose=0)
    np.testing.assert_array_equal(again, model.predict(samples, verbose=0))


def test_lstm_is_a_peephole_lstm_of_500_units_unless_told_otherwise():
    layer = KeywordSpotting().model().get_layer("recurrent")
    assert type(layer).__name__ == "PeepholeLSTM" and layer.cell.units == 500
    assert layer.cell.projection is None


def test_with_its_projection_lstm_has_the_weights_of_kws_streamings_lstm_peep():
    layer = KeywordSpotting(projection=200).model().get_layer("recurrent")
    mels, units, hidden = 32, 500, 200
    # four gates of inputs, hidden state and bias; three peepholes; the projection
    assert layer.count_params() == 4 * units * (mels + hidden + 1) + 3 * units + units * hidden
    assert layer.output.shape == (None, hidden)


def test_the_sample_rate_and_length_reach_the_model():
    recipe = KeywordSpotting(sample_rate=16000, seconds=0.5, network="small")
    assert recipe.model().input_shape == (None, 8000)
    assert recipe.model().get_layer("log_mel").sample_rate == 16000


def test_the_small_network_has_room_to_spare_in_50_kb():
    model = KeywordSpotting(network="small").model()
    front = keras.tree.flatten([model.get_layer("log_mel")._constants, model.get_layer("log_mel")._bands])
    constants = sum(each.size for each in front if isinstance(each, np.ndarray))
    # One byte a weight, four a constant of the front-end and of the normalisation, and 15 KB for the graph itself.
    assert model.count_params() + 4 * constants < 35_000


def test_training_is_repeatable_and_scored_on_the_test_split():
    recipe = KeywordSpotting(**BRIEF)
    (one, scores), (two, again) = (recipe.train(verbose=0) for _ in range(2))
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert scores == again
    samples, labels = recipe.load().select("test")
    hits = one.predict(samples, verbose=0).argmax(-1) == labels
    assert scores["accuracy"] == pytest.approx(hits.mean()) and scores["clips"] == len(labels)
    assert len(scores["history"]["val_loss"]) == recipe.epochs


def test_other_recordings_are_scored_by_the_words_that_the_model_was_trained_on(tmp_path):
    folder, known = tmp_path / "mine", list(KeywordSpotting().labels)
    for word in ("seven", "three"):  # the model's outputs 7 and 3, this folder's labels 0 and 1
        (folder / word).mkdir(parents=True)
        for take in range(30):
            soundfile.write(folder / word / f"{take}.wav", np.zeros(8000, "float32"), 8000)
    model = KeywordSpotting(**BRIEF).model()
    model.get_layer("probabilities").bias.assign(np.eye(10)[known.index("seven")] * 50)  # it hears nothing else
    recipe = KeywordSpotting(data=folder)
    _, labels = recipe.load().select("test")
    assert recipe.evaluate(model)["accuracy"] == np.mean(labels == recipe.labels.index("seven")) > 0
    with pytest.raises(DataError, match="trained on other words"):
        recipe.assets(model)
    assert KeywordSpotting().assets(model) == {}
    (folder / "three").rename(folder / "hello")
    with pytest.raises(DataError, match="has the label 'hello', expected those of the model: zero, one"):
        KeywordSpotting(data=folder).evaluate(model)


def test_training_keeps_the_weights_of_the_best_epoch():
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.kept = self.model.get_weights()
                self.model.get_layer("probabilities").bias.assign(np.eye(10)[0] * 50)  # sure of the first word

    spoil = Spoil()
    model, _ = KeywordSpotting(**BRIEF | {"epochs": 2}).train(callbacks=[spoil], verbose=0)
    for kept, weight in zip(spoil.kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_decode_names_the_likeliest_word_first():
    recipe = KeywordSpotting()
    outputs = np.full((1, 10), 0.05)
    outputs[0, 3] = 0.55
    assert recipe.decode(outputs)[0] == (recipe.labels[3], pytest.approx(0.55))
    assert len(recipe.decode(outputs[0])) == 10
    with pytest.raises(DataError, match="20 probabilities for 10 labels"):
        recipe.decode(np.zeros((2, 10)))


def test_the_metric_is_the_fraction_of_right_answers():
    assert KeywordSpotting().metric(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]), [0, 1, 1, 1]) == 0.5


def test_examples_come_from_the_test_split():
    recipe = KeywordSpotting()
    samples, word = recipe.example()
    assert samples.shape == (1, 8000) and word in recipe.labels
    test, labels = recipe.load().select("test")
    np.testing.assert_array_equal(recipe.held_out(len(labels))[0], test)
    assert set(recipe.held_out(40)[1]) > {0, 9}
    assert len(recipe.held_out(len(labels) + 1)[1]) == len(labels)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"network": "gru"}, "network is 'gru', expected one of 'lstm', 'small', 'crnn'"),
        ({"sample_rate": 0}, "sample_rate is 0, expected an int above 0"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"projection": -1}, "projection is -1, expected an int of 0 or more"),
        ({"projection": 20, "network": "crnn"}, "projection is 20 and network 'crnn', which has none"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_wrong_settings_stop_before_any_work(settings, says):
    with pytest.raises(SettingError, match=says):
        KeywordSpotting(**settings)


def test_a_clip_shorter_than_a_frame_is_explained():
    with pytest.raises(SettingError, match="shorter than one frame"):
        KeywordSpotting(seconds=0.02).model()


def test_an_unknown_speaker_is_named():
    with pytest.raises(DataError, match="nobody"):
        KeywordSpotting(test_speaker="nobody").load()


def test_extra_recordings_join_training_by_their_words(tmp_path):
    rate, folder = 8000, tmp_path / "extra"
    for word, level in (("three", 0.25), ("seven", 0.5)):
        (folder / word).mkdir(parents=True)
        for take in range(5):
            soundfile.write(folder / word / f"{take}.wav", np.full(rate, level, "float32"), rate)
    recipe = KeywordSpotting(extra=folder)
    samples, labels = recipe._training_clips()
    own = len(recipe.load().select("train")[1])
    assert len(labels) == own + 10
    levels = {recipe.labels[label]: clip.mean() for clip, label in zip(samples[own:], labels[own:], strict=True)}
    assert levels == {"three": 0.25, "seven": 0.5}
    (folder / "seven").rename(folder / "hello")
    with pytest.raises(DataError, match="has the word 'hello', expected only words of data='demo'"):
        KeywordSpotting(extra=folder).train()


@pytest.mark.slow
def test_the_demo_set_is_learnt():
    _, scores = KeywordSpotting(network="crnn", epochs=15).train(verbose=0)
    assert scores["accuracy"] > 0.8  # ten words: chance is 0.1; unheard synthetic voices


def test_the_figures_that_are_printed_are_those_that_were_measured():
    root = Path(__file__).parents[2]
    measured = json.loads((root / "docs" / "results" / "keyword_spotting-fsdd.json").read_text())
    accuracy = measured["accuracy"]
    page = (root / "docs" / "keyword_spotting.md").read_text()
    assert " | ".join(f"{100 * each:.1f}" for each in accuracy.values()) in page
    for name, file in measured["files"].items():
        assert f"| {name} | {100 * file['accuracy']:.1f} | {file['bytes'] / 1024:.0f} |" in page
    assert f"{100 * accuracy['mean']:.1f}%" in sys.modules[KeywordSpotting.__module__].__doc__
