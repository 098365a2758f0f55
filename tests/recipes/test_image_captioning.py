"""Captioning learns, searches, leaves as two files, and names what it cannot use."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from zoo import export, recipes
from zoo.data import demo_scenes
from zoo.errors import DataError, SettingError
from zoo.export import contents, runner
from zoo.recipes import ImageCaptioning
from zoo.recipes.device.beam_search import END, PADDING, START
from zoo.recipes.image_captioning import device, networks, training
from zoo.recipes.image_captioning.recipe import carried
from zoo.recipes.image_captioning.scores import score

SMALL = {"units": 12, "width": 8, "epochs": 1, "batch_size": 16, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def few(module_patch):
    """A demo set of few scenes."""
    module_patch.setattr(demo_scenes, "_COUNTS", {"train": 60, "validation": 12, "test": 12})


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def trained(few):
    recipe = ImageCaptioning(**SMALL)
    return (recipe, *recipe.train(verbose=0))


def test_a_run_has_scores_and_history_and_comes_back_whole(trained, tmp_path):
    recipe, model, scores = trained
    assert {"bleu_1", "bleu_4", "cider", "exact", "pictures", "skipped"} <= set(scores)
    assert len(scores["history"]["val_cider"]) == 1 and scores["pictures"] == 12
    again, loaded = recipes.load(recipes.save(tmp_path / "run", recipe, model, scores))
    assert again == recipe
    assert again.evaluate(loaded) == recipe.evaluate(model)


def test_the_epoch_is_chosen_by_the_score_that_its_model_has(trained):
    recipe, model, scores = trained
    (seen,) = scores["history"]["val_cider"]
    assert seen == pytest.approx(recipe.evaluate(model, split="validation", beam=1)["cider"])


@pytest.mark.slow
def test_the_same_seed_trains_the_same_model(trained):
    recipe, model, _ = trained
    again, _ = replace(recipe).train(verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)  # threads add in another order


def test_the_vocabulary_travels_with_the_model_and_is_used_from_there(trained):
    recipe, model, _ = trained
    assert carried(model) == list(recipe.labels)
    assert recipe.labels[:4] == ("", "[start]", "[end]", "[unknown]")
    assert recipe.labels[4] == "a"  # the most frequent comes first
    other = replace(recipe, rare=10_000)
    with pytest.raises(DataError, match="0 words that are said 10000 times, expected two or more"):
        other.labels  # noqa: B018
    found = other.caption(model, recipe.load().select("test")[0][:2])
    assert {word for captions in found for words, _, _ in captions for word in words} <= set(recipe.labels)


def test_stepping_equals_the_whole_sequence(trained):
    recipe, model, _ = trained
    inputs, _ = recipe.held_out(3)
    models = recipe.parts(model)
    parts = {name: lambda arrays, one=one: one.predict_on_batch(arrays) for name, one in models.items()}
    # float32, sums of some hundred products in another order
    np.testing.assert_allclose(recipe.run_parts(parts, inputs), model.predict(inputs, verbose=0), atol=1e-5)


def test_the_decoder_is_its_equations():
    """One step in NumPy, of weights drawn at random, against the docstring's equations."""
    labels, places, channels = ("", "s", "e", "u", "a", "b"), 4, 5
    decoder = networks.decoder((places, channels), labels, units=3, width=2, dropout=0.5, word_dropout=0.2)
    random = np.random.default_rng(0)
    for weight in decoder.weights:
        weight.assign(random.normal(size=weight.shape))
    features = random.normal(size=(2, places, channels)).astype("float32")
    words = np.array([[1, 4], [1, 5]], np.int32)
    said = decoder.predict({"features": features, "words": words}, verbose=0)
    cell = decoder.get_layer("attend").cell

    def of(layer):
        return [keras.ops.convert_to_numpy(weight) for weight in layer.weights]

    def dense(x, name):
        kernel, bias = of(decoder.get_layer(name))
        return x @ kernel + bias

    memory = np.maximum(dense(features, "memory"), 0)
    hidden, state = (np.tanh(dense(memory.mean(axis=1), name)) for name in ("hidden", "cell"))
    keys, query, asked, bias, score_kernel = (
        keras.ops.convert_to_numpy(one)
        for one in (cell.key_kernel, cell.query_kernel, cell.input_kernel, cell.bias, cell.score_kernel)
    )
    (kernel, recurrent, lstm_bias), (embeddings,) = of(cell.cell), of(decoder.get_layer("embedding"))
    for time in range(2):
        x = embeddings[words[:, time]]
        scores = (np.tanh(memory @ keys + (hidden @ query + x @ asked + bias)[:, None]) @ score_kernel)[..., 0]
        attention = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        context = (attention[..., None] * memory).sum(axis=1)
        i, f, c, o = np.split(np.concatenate([x, context], 1) @ kernel + hidden @ recurrent + lstm_bias, 4, axis=1)
        state = state / (1 + np.exp(-f)) + np.tanh(c) / (1 + np.exp(-i))
        hidden = np.tanh(state) / (1 + np.exp(-o))
        word = np.tanh(dense(np.concatenate([hidden, context], 1), "seen") + x)
        np.testing.assert_allclose(said["attention"][:, time], attention, atol=1e-5)  # float32
        np.testing.assert_allclose(said["logits"][:, time], dense(word, "logits"), atol=1e-4)


def test_the_memory_begins_with_where_places_are():
    """Of features that are zero: a plane over rows and columns, and over moments a line."""
    labels, options = ("", "s", "e", "u", "a"), {"units": 3, "width": 6, "dropout": 0.0, "word_dropout": 0.0}
    bias = keras.ops.convert_to_numpy(networks.decoder((12 * 12, 5), labels, **options).get_layer("memory").bias)
    down, right = (np.diff(bias.reshape(12, 12, 6), axis=axis) for axis in (0, 1))
    for step in (down, right):
        np.testing.assert_allclose(step, np.broadcast_to(step[:1, :1], step.shape), atol=1e-6)
        assert (abs(step[0, 0]) > 1e-3).all()
    assert not np.allclose(down[0, 0], right[0, 0])
    bias = keras.ops.convert_to_numpy(networks.decoder((9, 4, 5), labels, **options).get_layer("memory").bias)
    np.testing.assert_allclose(np.diff(bias, axis=0), np.repeat(bias[-1:] / 4, 8, axis=0), atol=1e-6)
    bias = keras.ops.convert_to_numpy(networks.decoder((12, 5), labels, **options).get_layer("memory").bias)
    np.testing.assert_allclose(np.diff(bias, axis=0), np.repeat(bias[-1:] * 2 / 11, 11, axis=0), atol=1e-6)


def test_a_clips_points_begin_as_rows_and_columns():
    options = {"units": 3, "width": 6, "dropout": 0.0, "word_dropout": 0.0}
    decoder = networks.decoder((7, 9, 5), ("", "s", "e", "u", "a"), **options)
    kernel = keras.ops.convert_to_numpy(decoder.get_layer("where").kernel)
    np.testing.assert_allclose(kernel, 4 * np.array([[r, c] for r in (-1, 0, 1) for c in (-1, 0, 1)]))


def test_a_model_with_a_fixed_encoder_trains_and_comes_back(few, tmp_path, monkeypatch):
    """Its features are kept apart and its decoder trains alone; what is saved is whole."""
    monkeypatch.setenv("RECURRENT_ZOO_CACHE", str(tmp_path / "cache"))
    image = keras.Input((48, 48, 3))
    network = keras.layers.Conv2D(6, 12, 12, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, network).save(tmp_path / "encoder.keras")
    recipe = ImageCaptioning(encoder=str(tmp_path / "encoder.keras"), **SMALL)
    model, scores = recipe.train(verbose=0)
    before = model.get_layer("encoder").get_weights()
    again, loaded = recipes.load(recipes.save(tmp_path / "run", recipe, model, scores))
    assert again.evaluate(loaded) == recipe.evaluate(model)
    fresh = recipe.model()
    for one, other in zip(before, fresh.get_layer("encoder").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    changed = fresh.get_layer("decoder").get_layer("logits").get_weights()[0]
    assert not np.allclose(model.get_layer("decoder").get_layer("logits").get_weights()[0], changed)


def test_losses_are_their_formulas():
    random = np.random.default_rng(0)
    targets = np.array([[4, 5, END, 0], [5, END, 0, 0]], np.int32)
    logits = random.normal(size=(2, 4, 6)).astype("float32")
    attention = random.dirichlet(np.ones(3), size=(2, 4)).astype("float32")
    logarithms = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    words = [(row, time) for row in range(2) for time in range(4) if targets[row, time] != PADDING]
    for smoothing in (0.0, 0.2):
        lost = [
            -(1 - smoothing) * logarithms[row, time, targets[row, time]] - smoothing * logarithms[row, time].mean()
            for row, time in words
        ]
        np.testing.assert_allclose(training.word_loss(smoothing)(targets, logits), np.mean(lost), rtol=1e-5)
    expected = [
        sum((count / 3 - sum(attention[row, time, place] for time in range(count))) ** 2 for place in range(3))
        for row, count in enumerate((3, 2))
    ]
    np.testing.assert_allclose(training.attention_loss(targets, attention), np.mean(expected), rtol=1e-5)


def test_batches_hold_every_caption_once_shifted_by_one_word():
    captions = [[[4, 5], [6]], [[7] * 9]]
    batches = training.Batches("image", np.arange(6.0).reshape(6, 1), [2, 5], captions, 2)
    seen, kept = [], []
    for index in range(len(batches)):
        inputs, targets = batches[index]
        kept.append([(targets["logits"] != PADDING).sum(), targets["logits"].size])
        assert inputs["words"].shape[1] % 4 == 0
        for picture, words, after in zip(inputs["image"], inputs["words"], targets["logits"], strict=True):
            count = int((words != PADDING).sum())
            assert words[0] == START and after[count - 1] == END
            assert words[1:count].tolist() == after[: count - 1].tolist()
            seen.append((picture[0], words[1:count].tolist()))
    assert sorted(seen) == [(2.0, [4, 5]), (2.0, [6]), (5.0, [7] * 9)]
    assert batches.padding_share == pytest.approx(1 - np.sum(kept, axis=0)[0] / np.sum(kept, axis=0)[1])


def test_own_words_take_the_place_of_the_given_share():
    layer = training.OwnWords(0)
    words = np.tile(np.array([START, *[4] * 50, 0, 0], np.int32), (40, 1))
    logits = np.full((40, 53, 7), -50.0, np.float32)
    logits[..., 5:] = [0.0, np.log(3.0)]  # a quarter says 5, the rest 6
    assert np.array_equal(layer(words, logits, training=False), words)
    assert np.array_equal(layer(words, logits, training=True), words)  # the rate begins at nothing
    layer.rate.assign(0.5)
    mixed = np.asarray(layer(words, logits, training=True))
    assert (mixed[:, 0] == START).all() and (mixed[:, 51:] == 0).all()
    said = mixed[:, 1:51]
    # 2,000 draws: within five standard deviations of a share of 0.5 and of 0.75
    assert abs((said != 4).mean() - 0.5) < 0.056 and abs((said == 6).sum() / (said != 4).sum() - 0.75) < 0.07


@pytest.mark.slow
def test_scheduled_sampling_trains(few):
    model, scores = ImageCaptioning(own_words=0.5, label_smoothing=0.1, **SMALL | {"epochs": 2}).train(verbose=0)
    assert np.isfinite(scores["history"]["loss"]).all()
    assert model.get_layer("decoder").count_params() == sum(w.numpy().size for w in model.get_layer("decoder").weights)


def test_scores_are_those_of_other_implementations():
    import sacrebleu

    said = ["a red circle above a blue square", "a dog runs", "two men on a bench"]
    right = [
        ["a red ring above a blue square", "a blue square below a red ring"],
        ["a dog runs", "a dog"],
        ["men sit", "two men"],
    ]
    found = score([one.split() for one in said], [[one.split() for one in ones] for ones in right])
    streams = [[ones[place] for ones in right] for place in range(2)]
    for order in range(1, 5):
        metric = sacrebleu.BLEU(max_ngram_order=order, smooth_method="none", tokenize="none", force=True)
        assert found[f"bleu_{order}"] == pytest.approx(metric.corpus_score(said, streams).score / 100, abs=1e-6)
    assert found["exact"] == pytest.approx(1 / 3)
    assert score([["a"]], [[["b"]]])["cider"] == 0.0


@pytest.mark.skipif(not shutil.which("java"), reason="METEOR runs a Java program")
@pytest.mark.slow
def test_meteor_is_1_where_nothing_differs_and_less_elsewhere():
    words = ["a", "red", "circle", "above", "a", "blue", "square"]
    assert score([words], [[words]], meteor=True)["meteor"] > 0.99
    assert 0.1 < score([words], [["a", "red", "ring"]], meteor=True)["meteor"] < 0.9


def test_meteor_without_java_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="METEOR needs Java"):
        score([["a"]], [[["a"]]], meteor=True)


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    recipe, model, _ = trained
    return export.bundle(recipe, model, tmp_path_factory.mktemp("bundles") / "captions", schemes=["float32"])


@pytest.fixture
def scene(trained, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(trained[0].load().select("test")[0][0]).save(path)
    return path


@pytest.mark.on_tensorflow
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_the_bundle_says_what_the_model_says(trained, bundle, scene, format):
    recipe, model, _ = trained
    ((words, value, attention), *others) = recipe.caption(model, [scene])[0]
    found = runner.run(bundle, scene, device, f"image_captioning.encoder.float32.{format}")
    assert found[0][0] == words and len(found) == len(others) + 1
    assert found[0][1] == pytest.approx(value, abs=1e-4)  # float32, over some ten steps
    np.testing.assert_allclose(found[0][2], attention, atol=1e-4)
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-5)


@pytest.mark.on_tensorflow
def test_the_runner_needs_neither_tensorflow_nor_the_zoo_and_draws(bundle, scene, tmp_path):
    blocked = "import sys\nfor n in ('tensorflow', 'keras', 'zoo', 'jax', 'torch'): sys.modules[n] = None\n"
    start = f"{blocked}import runpy; sys.path.insert(0, {str(bundle)!r}); sys.argv = ['run.py', *sys.argv[1:]]\n"
    start += f"runpy.run_path({str(bundle / 'run.py')!r}, run_name='__main__')"
    out = tmp_path / "attention.png"
    command = [sys.executable, "-c", start, str(scene), "--draw", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()[0].split()[1:]
    assert set(words) <= set(json.loads((bundle / "labels.json").read_text()))
    with Image.open(out) as picture:
        rows = -(-(len(words) + 1) // 5)
        assert picture.size == (160 * min(5, len(words) + 1), 178 * rows)
    assert "Pillow" in (bundle / "card.md").read_text()
    missing = subprocess.run([*command[:3], "nothing.png"], capture_output=True, text=True, cwd=tmp_path)
    assert missing.returncode == 1 and "there is no file" in missing.stderr and "Traceback" not in missing.stderr


@pytest.mark.on_tensorflow
def test_a_card_that_lies_gives_one_sentence(bundle, scene):
    card, parts = contents.read_card(bundle), {"encoder": lambda given: {}, "step": None}
    for name, value in (
        ("beam", 10**6),
        ("length", 2.5),
        ("length_penalty", "x"),
        ("image_size", 0),
        ("image_size", 8.5),
    ):
        spoilt = {**card, "settings": {**card["settings"], name: value}, "labels": []}
        with pytest.raises(DataError, match=name):
            device.run(parts, device.read(scene, spoilt), spoilt)
    with pytest.raises(DataError, match="expected encoder, step"):
        device.run({}, device.read(scene, card), card)
    with pytest.raises(DataError, match="the encoder gives x"):
        device.run({"encoder": lambda given: {"x": given["image"]}, "step": None}, device.read(scene, card), card)
    with pytest.raises(DataError, match="labels are not the vocabulary"):
        device.answer({"captions": []}, {"labels": ["a", "b"]})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dropout": 1.0}, "dropout is 1.0, expected a share under 1"),
        ({"own_words": 1.5}, "own_words is 1.5, expected a share"),
        ({"beam": 1000}, "beam is 1000, expected at most 64"),
        ({"image_size": 5000}, "image_size is 5000, expected at most 1024"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        ImageCaptioning(**settings)
