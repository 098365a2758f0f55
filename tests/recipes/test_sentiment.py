"""The recipe for sentiment, from its settings to the file that a device runs."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn import metrics

from zoo import export, recipes
from zoo.data import demo_reviews
from zoo.errors import DataError, SettingError
from zoo.export import contents, runner
from zoo.recipes import Sentiment
from zoo.recipes.sentiment import device as sentiment_device
from zoo.recipes.sentiment.training import Batches, trimmed

ROOT = Path(__file__).parents[2]
SMALL = {"units": 5, "embedding": 6, "length": 24}
BRIEF = SMALL | {"epochs": 1, "batch_size": 256}


@pytest.fixture(scope="module")
def trained():
    more = {"units": 16, "embedding": 24, "epochs": 8, "dropout": 0.1, "learning_rate": 0.01, "vectors": "texts"}
    recipe = Sentiment(**SMALL | more)
    return recipe, *recipe.train(verbose=0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "indrnn"])
@pytest.mark.parametrize("pooling", ["attention", "max"])
def test_tokens_go_in_and_probabilities_come_out_whatever_pads_them(cell, pooling):
    model = Sentiment(**SMALL, cell=cell, pooling=pooling).model()
    assert model.input_shape == (None, 24) and model.inputs[0].name == "tokens"
    network = Sentiment(**SMALL, cell=cell, pooling=pooling)._network(None)
    network.set_weights(model.get_weights())
    tokens = Sentiment(**SMALL).held_out(5)[0]
    outputs = model.predict(tokens, verbose=0)
    np.testing.assert_allclose(outputs.sum(axis=-1), 1, atol=1e-6)  # float32
    for row, output in zip(tokens, outputs, strict=True):
        whole = network.predict(row[None, : (row > 0).sum()], verbose=0)[0]
        np.testing.assert_allclose(output, whole, atol=1e-6)  # float32 sums in another order


@pytest.mark.parametrize("vocabulary", ["words", "pieces"])
def test_the_vocabulary_is_of_the_training_texts_and_of_the_size_asked_for(vocabulary):
    recipe = Sentiment(vocabulary=vocabulary, vocabulary_size=60)
    assert len(recipe.words.tokens) == 60 == recipe.model().get_layer("embedding").input_dim
    seen = " ".join(recipe.load().select("train")[0])
    assert all(token.removeprefix("##") in seen for token in recipe.words.tokens[2:])


def test_embeddings_start_from_the_vectors_of_a_file_and_what_each_word_speaks_for(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("good 1 2 3\nbad -1 -2 -3\nunseen 5 5 5\n")
    recipe = Sentiment(vectors=path, prior=True)
    places = {token: place for place, token in enumerate(recipe.words.tokens)}
    start = recipe.model().get_layer("embedding").get_weights()[0]
    assert start.shape == (len(places), 4)
    np.testing.assert_allclose(start[places["good"], 1:], -start[places["bad"], 1:])
    np.testing.assert_allclose(start[places["good"], 2:] / start[places["good"], 1], [2, 3], rtol=1e-6)
    texts, labels = recipe.load().select("train")
    having = np.array(["dreadful" in text.split() for text in texts])
    speaks_for = (having & (labels == 1)).sum() - (having & (labels == 0)).sum()
    assert np.sign(start[places["dreadful"], 0]) == np.sign(speaks_for) != 0


def test_a_text_is_cut_at_the_end_that_is_asked_for():
    text = "the plot was good , but the cast was dull ."
    ids = Sentiment().words.encode(text)
    for keep, expected in (("start", ids[:4]), ("end", ids[-4:])):
        np.testing.assert_array_equal(Sentiment(length=4, keep=keep).encode([text]), [expected])


def test_batches_hold_every_text_of_a_length_with_its_own_label():
    lengths = np.random.default_rng(0).integers(1, 60, size=103)
    ids = np.where(np.arange(60) < lengths[:, None], 1 + np.arange(103)[:, None], 0).astype("int32")
    batches = Batches(ids, np.eye(103)[:, :], 8, seed=0)
    seen, orders = [], []
    for epoch in range(2):
        batches.begin(epoch)
        rows = [trimmed[:, 0] - 1 for trimmed, _ in (batches[index] for index in range(len(batches)))]
        assert all(len(each) == 8 for each in rows) and len(set(np.concatenate(rows))) == 96
        for each, (tokens, targets) in zip(rows, (batches[index] for index in range(len(batches))), strict=True):
            np.testing.assert_array_equal(targets.argmax(axis=1), each)
            np.testing.assert_array_equal((tokens > 0).sum(axis=1), lengths[each])
        padded = sum(tokens.size for tokens, _ in (batches[index] for index in range(len(batches))))
        assert batches.padding_share == pytest.approx(1 - lengths[np.concatenate(rows)].sum() / padded)
        seen += list(np.concatenate(rows))
        orders.append(np.concatenate(rows))
    assert list(orders[0]) != list(orders[1])
    assert np.mean([tokens.shape[1] for tokens, _ in (batches[i] for i in range(len(batches)))]) < 50
    assert batches[0][0].shape != batches[1][0].shape  # or Keras takes the first length for that of all


def test_padding_is_cut_to_one_of_a_few_lengths():
    ids = np.zeros((2, 600), "int32")
    ids[0, :17] = 3
    assert trimmed(ids).shape == (2, 32)
    ids[0, :600] = 3
    assert trimmed(ids).shape == (2, 600)


def test_training_is_repeatable_and_keeps_the_best_epoch():
    recipe = Sentiment(**BRIEF | {"epochs": 2})
    (one, scores), (two, again) = (recipe.train(verbose=0) for _ in range(2))
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert scores == again and len(scores["history"]["val_loss"]) == 2
    texts, labels = recipe.load().select("validation")
    loss = -np.log(one.predict(recipe.encode(texts), verbose=0)[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(min(scores["history"]["val_loss"]), abs=1e-4)  # float32, through a mean of batches


def test_the_scores_are_those_of_scikit_learn(trained):
    recipe, model, scores = trained
    tokens, labels = recipe.held_out(10_000)
    answers = model.predict(tokens, verbose=0).argmax(axis=-1)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(labels, answers))
    assert scores["accuracy"] == pytest.approx(recipe.metric(np.eye(2)[answers], labels))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(labels, answers, average="macro"))
    assert scores["confusion"] == metrics.confusion_matrix(labels, answers).tolist()
    assert scores["labels"]["negative"]["texts"] == (labels == 0).sum() and scores["texts"] == len(labels)


def test_balance_weighs_the_rare_label_more(tmp_path, monkeypatch):
    path = tmp_path / "own.csv"
    rows = [f"word{number % 7} word{number % 5} n{number},{'often' if number % 4 else 'rare'}" for number in range(200)]
    path.write_text("text,label\n" + "\n".join(rows))
    seen = {}
    monkeypatch.setattr(keras.Model, "fit", lambda self, *_, class_weight, **__: seen.update(class_weight) or 1 / 0)
    for balance in (False, True):
        recipe = Sentiment(**BRIEF, data=path, balance=balance)
        with pytest.raises(ZeroDivisionError):
            recipe.train(verbose=0)
        counts = np.bincount(recipe.load().select("train")[1])
        expected = counts.sum() / (2 * counts) if balance else [1, 1]
        np.testing.assert_allclose([seen[0], seen[1]], expected)


def test_more_than_two_labels_are_told_apart_and_skipped_rows_are_among_the_scores(tmp_path):
    path = tmp_path / "own.jsonl"
    words = ("awful", "plain", "lovely")
    rows = [{"review": f"it is {words[n % 3]} n{n % 17}", "stars": n % 3} for n in range(300)]
    path.write_text("\n".join(map(json.dumps, [*rows, {"review": " ", "stars": 1}])))
    settings = {"units": 8, "embedding": 8, "length": 6, "epochs": 4, "learning_rate": 0.02, "vectors": "texts"}
    recipe = Sentiment(data=path, prior=True, skip_bad=True, **settings)
    _, scores = recipe.train(verbose=0)
    assert recipe.labels == ("0", "1", "2") and scores["accuracy"] == 1.0
    assert scores["skipped"] == [[f"{path}, row 301", "has an empty text"]]


def test_another_set_is_read_with_the_vocabulary_of_the_model(trained, tmp_path):
    recipe, model, scores = trained
    texts, labels = recipe.load().select("test")
    rows = [f"{text}\t{recipe.labels[label]}" for text, label in zip(texts, labels, strict=True)]
    train = [f"{word} {word} zz{index}\t{recipe.labels[index % 2]}" for index, word in enumerate("abcdefghijkl" * 9)]
    (tmp_path / "test.tsv").write_text("\n".join(rows))
    (tmp_path / "train.tsv").write_text("\n".join(train))
    assert Sentiment(**SMALL, data=tmp_path).evaluate(model)["accuracy"] == scores["accuracy"]
    (tmp_path / "train.tsv").write_text("\n".join(train + ["odd odd\tneutral"] * 9))
    with pytest.raises(DataError, match="has the label 'neutral', expected those of the model: negative, positive"):
        Sentiment(**SMALL, data=tmp_path).evaluate(model)
    with pytest.raises(DataError, match="trained on other texts than are there now"):
        Sentiment(**SMALL, data=tmp_path).assets(model)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cell": "rnn"}, "cell is 'rnn', expected one of 'lstm', 'gru', 'indrnn'"),
        ({"keep": "middle"}, "keep is 'middle'"),
        ({"word_dropout": 1.0}, "word_dropout is 1.0, expected a share under 1"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"length": 0}, "length is 0, expected an int above 0"),
        ({"length": 10_001}, "length is 10001, expected at most 10000"),
    ],
)
def test_wrong_settings_stop_before_any_work(settings, says):
    with pytest.raises(SettingError, match=says):
        Sentiment(**settings)


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    recipe, model, _ = trained
    folder = tmp_path_factory.mktemp("sentiment")
    recipes.save(folder / "run", recipe, model, {})
    return export.bundle(*recipes.load(folder / "run"), folder / "bundle")


def test_its_files_are_native_and_say_what_the_model_says(made, trained):
    recipe, model, _ = trained
    card = contents.read_card(made)
    assert len(card["models"]) == 4 and export.verify(made).passed
    assert {choice["form"] for entry in card["models"] for choice in entry["plan"]} == {"native"}
    expected = model.predict(recipe.encode([demo_reviews.EXAMPLE.read_text()]), verbose=0)[0]
    for entry in card["models"]:
        answers = dict(runner.run(made, demo_reviews.EXAMPLE, sentiment_device, entry["name"]))
        # float32 sums in another order; int8 within what the card allows
        np.testing.assert_allclose([answers[label] for label in recipe.labels], expected, atol=max(1e-5, entry["atol"]))


def test_its_runner_needs_numpy_and_one_runtime_alone(made, tmp_path):
    blocked = ("tensorflow", "keras", "zoo", "jax", "torch", "tokenizers", "sklearn", "pandas")
    start = f"import sys\nfor n in {blocked}: sys.modules[n] = None\nimport runpy\n"
    start += f"sys.path.insert(0, {str(made)!r}); sys.argv = ['run.py', *sys.argv[1:]]\n"
    start += f"runpy.run_path({str(made / 'run.py')!r}, run_name='__main__')"

    def run(path):
        return subprocess.run([sys.executable, "-c", start, str(path)], capture_output=True, text=True, cwd=tmp_path)

    said = run(demo_reviews.EXAMPLE)
    assert said.returncode == 0, said.stderr
    assert {line.split()[0] for line in said.stdout.splitlines()} == {"negative", "positive"}
    latin, empty = tmp_path / "latin.txt", tmp_path / "empty.txt"
    latin.write_bytes("caf\xe9".encode("latin-1"))
    empty.write_text(" \n")
    for path, sentence in ((latin, "is not UTF-8 at byte 3"), (empty, "holds no word"), (tmp_path, "there is no file")):
        said = run(path)
        assert said.returncode == 1 and sentence in said.stderr and "Traceback" not in said.stderr


def test_a_card_that_is_not_of_this_task_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("good")
    card = {"settings": {"length": 4, "keep": "start"}, "assets": {}}
    with pytest.raises(DataError, match=r"has no vocabulary.json"):
        sentiment_device.read(path, card)
    for wrong in ({"length": True}, {"length": 10**9}, {"length": "4"}, {"keep": "middle"}):
        with pytest.raises(DataError, match="length or keep is not that of a sentiment model"):
            sentiment_device.read(path, card | {"settings": card["settings"] | wrong})


@pytest.mark.slow
def test_the_demo_set_is_learnt():
    _, scores = Sentiment().train(verbose=0)
    assert scores["accuracy"] > 0.95  # its grammar has no exceptions; the majority is half


def test_the_figures_that_are_printed_are_those_that_were_measured():
    measured = json.loads((ROOT / "docs" / "results" / "sentiment-sst2.json").read_text())
    page = (ROOT / "docs" / "sentiment.md").read_text()

    def percent(*values):
        return " | ".join(f"{100 * value:.1f}" for value in values)

    assert f"| {percent(*measured['test_accuracy'].values())} |" in page
    assert f"words reaches {percent(measured['floor']['test'])}." in page
    assert f"naive Bayes reaches {percent(measured['floor']['validation'])};" in page
    for name, row in measured["variants"].items():
        figures = f"{percent(row['validation_accuracy'])} | {row['parameters']:,} | {row['training_seconds']:.0f}"
        assert f"| {name} | {figures} |" in page
    history = measured["history"]
    for name, key in (("training loss", "loss"), ("development loss", "val_loss")):
        assert f"| {name} | {' | '.join(f'{value:.3f}' for value in history[key])} |" in page
    assert f"| development accuracy | {percent(*history['val_accuracy'])} |" in page
    for name, file in measured["files"].items():
        assert (
            f"| {name} | {percent(file['accuracy'])} | {file['bytes'] / 1024:.0f} | {file['latency_ms']:.3f} |" in page
        )
    test, failure = measured["test"], measured["failure"]
    assert f"the model reaches {percent(test['accuracy'])}." in page
    for label, row in zip(("0", "1"), test["confusion"], strict=True):
        assert f"| is {label} | {row[0]} | {row[1]} | {percent(test['labels'][label]['f1'])} |" in page
    difference = max(file["difference"] for name, file in measured["files"].items() if name.startswith("float32"))
    assert f"at most {difference:.1e} of a probability" in page
    assert failure["text"] in page and f"{percent(failure['probability'])}% to the other label" in page
    head = sys.modules[Sentiment.__module__].__doc__
    assert f"{percent(measured['test_accuracy']['mean'])}% (naive Bayes: {percent(measured['floor']['test'])}%)" in head
    assert f"{measured['variants'][measured['chosen']]['training_seconds']:.0f} s" in head


def test_the_figures_of_long_reviews_are_those_that_were_measured():
    measured = json.loads((ROOT / "docs" / "results" / "sentiment-imdb.json").read_text())
    page = (ROOT / "docs" / "sentiment.md").read_text()
    chosen = measured["chosen"]
    assert (
        f"one seed: {100 * measured['test']['accuracy']:.1f} percent, reading the {chosen['keep']} of a review" in page
    )
    assert f"{chosen['length']} tokens." in page
    for row in measured["cuts"]:
        start = (
            f"| {row['length']} | {row['keep']} | {100 * row['cut']:.0f}% | {100 * row['validation_accuracy']:.1f} | "
        )
        assert f"{start}{row['training_seconds']:.0f} |" in page
