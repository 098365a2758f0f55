"""Labelled texts in every layout, and what is said of rows that cannot be used."""

import csv
import gzip
import json
import re

import numpy as np
import pytest

from zoo.data import demo_reviews, make_demo_reviews
from zoo.data.texts import load_texts
from zoo.errors import DataError, SettingError

ROWS = [(f"text {number}, with a comma", "ab"[number % 2]) for number in range(60)]


def write(path, rows=ROWS, header=("text", "label")):
    """Write rows in the format that the file's name says, by the libraries of the formats."""
    if path.name.endswith(".jsonl"):
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.name.endswith(".csv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    else:
        text = "".join("\t".join(row) + "\n" for row in [*([header] if header else []), *rows])
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def found(texts):
    return sorted((text, texts.label_names[label]) for text, label in zip(texts.texts, texts.labels, strict=True))


@pytest.mark.parametrize("name", ["own.csv", "own.tsv", "own.jsonl"])
def test_a_table_of_any_format_gives_its_rows_in_three_splits(name, tmp_path):
    texts = load_texts(write(tmp_path / name))
    assert found(texts) == sorted(ROWS)
    assert set(texts.split) == {"train", "validation", "test"}
    assert (texts.split == "train").mean() > 0.6
    assert sorted(text for split in set(texts.split) for text in texts.select(split)[0]) == sorted(texts.texts)


def test_the_split_is_that_of_the_text_wherever_it_stands(tmp_path):
    splits = []
    for name, rows in (("one.csv", ROWS), ("two.csv", ROWS[::-1] + ROWS[:5])):
        texts = load_texts(write(tmp_path / name, rows))
        splits.append({(text, split) for text, split in zip(texts.texts, texts.split, strict=True)})
    assert splits[0] == splits[1]


@pytest.mark.parametrize("columns", [{}, {"text_column": "Satz", "label_column": "Ton"}])
def test_columns_are_recognised_or_given(columns, tmp_path):
    header = ("id", columns.get("label_column", "Sentiment"), columns.get("text_column", "Review"))
    rows = [(str(number), label, text) for number, (text, label) in enumerate(ROWS)]
    for name in ("own.csv", "own.jsonl"):
        assert found(load_texts(write(tmp_path / name, rows, header), **columns)) == sorted(ROWS)


def test_sst2_s_files_have_no_header_and_their_own_splits(tmp_path):
    for name, part in (("train", ROWS[:40]), ("dev", ROWS[40:50]), ("test", ROWS[50:])):
        write(tmp_path / f"{name}.tsv", part, header=None)
    texts = load_texts(tmp_path)
    assert texts.select("validation")[0] == [text for text, _ in ROWS[40:50]]
    assert texts.select("test")[0] == [text for text, _ in ROWS[50:]]


def test_imdb_s_gzipped_tables_lack_a_validation_split_and_get_one(tmp_path):
    rows = [(label, "7", str(number), f'{text} "quoted<br />twice') for number, (text, label) in enumerate(ROWS)]
    header = ("label", "rating", "id", "text")
    write(tmp_path / "imdb_train.tsv.gz", rows[:50], header)
    write(tmp_path / "imdb_test.tsv.gz", rows[50:], header)
    texts = load_texts(tmp_path)
    assert texts.select("test")[0] == [f'{text} "quoted twice' for text, _ in ROWS[50:]]
    assert 0 < (texts.split == "validation").sum() < 20


def test_aclimdb_s_folders_of_files_are_read(tmp_path):
    for number, (text, label) in enumerate(ROWS):
        folder = tmp_path / ("train" if number < 50 else "test") / {"a": "neg", "b": "pos"}[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}_7.txt").write_text(text)
    (tmp_path / "train" / "unsup").mkdir()
    (tmp_path / "train" / "unsup" / "0_0.txt").write_text("no label")
    texts = load_texts(tmp_path)
    assert texts.label_names == ("neg", "pos") and len(texts.texts) == 60
    assert sorted(texts.select("test")[0]) == sorted(text for text, _ in ROWS[50:])


def test_labels_that_are_numbers_are_in_their_order(tmp_path):
    rows = [(f"text {number}", str(number % 11)) for number in range(200)]
    assert load_texts(write(tmp_path / "own.csv", rows)).label_names == tuple(map(str, range(11)))


def test_a_byte_order_mark_and_semicolons_are_read(tmp_path):
    lines = ["text;label", *(f'"{text}";{label}' for text, label in ROWS)]
    (tmp_path / "own.csv").write_text("\r\n".join(lines), encoding="utf-8-sig", newline="")
    assert found(load_texts(tmp_path / "own.csv")) == sorted(ROWS)


BAD = {
    "an empty text": ("own.csv", b"  ,a\n", "row 62: has an empty text"),
    "an empty label": ("own.csv", b"hello,\n", "row 62: has an empty label"),
    "a cell too few": ("own.tsv", b"hello\n", "row 62: has no label"),
    "another encoding": ("own.csv", "caf\xe9,a\n".encode("latin-1"), "row 62: has the byte 0xE9, which is not UTF-8"),
    "broken JSON": ("own.jsonl", b'{"text": "hel\n', "row 61: is not JSON"),
    "a JSON list": ("own.jsonl", b"[1, 2]\n", "row 61: is no JSON object"),
    "a missing key": ("own.jsonl", b'{"text": "hello"}\n', "row 61: has no label"),
    "a null": ("own.jsonl", b'{"text": null, "label": "a"}\n', "row 61: has no text"),
    "half a character": (
        "own.jsonl",
        b'{"text": "\\ud800", "label": "a"}\n',
        "row 61: has half of the character U.D800",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_cannot_be_used_is_named_or_left_out(name, tmp_path):
    file, bad, sentence = BAD[name]
    path = write(tmp_path / file)
    path.write_bytes(path.read_bytes() + bad)
    with pytest.raises(DataError, match=f"{file}, {sentence}.*skip_bad=True"):
        load_texts(path)
    texts = load_texts(path, skip_bad=True)
    assert found(texts) == sorted(ROWS)
    ((place, reason),) = texts.skipped
    assert place.startswith(str(path)) and re.match(sentence.split(": ")[1], reason)


def test_a_row_after_a_quoted_line_break_is_counted_as_the_file_s_line(tmp_path):
    path = write(tmp_path / "own.csv")
    path.write_bytes(path.read_bytes() + b'"two\nlines",a\n,b\n')
    with pytest.raises(DataError, match="row 64: has an empty text"):
        load_texts(path)


def test_a_label_unseen_in_training_is_named_or_left_out(tmp_path):
    write(tmp_path / "train.tsv", ROWS[:50], header=None)
    path = write(tmp_path / "test.tsv", [*ROWS[50:], ("odd", "c")], header=None)
    with pytest.raises(DataError, match=r"test.tsv, row 11: has the label 'c', which no training text has"):
        load_texts(tmp_path)
    texts = load_texts(tmp_path, skip_bad=True)
    assert texts.label_names == ("a", "b") and len(texts.skipped) == 1 and str(path) in texts.skipped[0][0]


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("own.csv", b"", "the file is empty"),
        ("own.csv", b"words,label\na,b\n,c\n", "no column for the text among 'words', 'label': name it by text_column"),
        ("own.csv", b"a,b,c\n1,2,3\n", "no column for the text among 'a', 'b', 'c'"),
        ("own.jsonl", b"hello", "row 1: is not JSON"),
        ("own.csv", "text,label\na,b\n".encode("utf-16"), "the file is UTF-16, expected text in UTF-8"),
        ("own.csv", b"text,label\na\0,b\n", "has a zero at byte 12"),
        ("own.tsv.gz", b"no archive", "cannot be read"),
        ("own.tsv", b"text\tlabel\nhello\ta\nthere\ta\n", "of the label 'a' only|none"),
        ("own.pdf", b"%PDF", "is no table, expected a folder, a file ending in .csv, .tsv, .jsonl"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(name, data, sentence, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=sentence) as error:
        load_texts(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_a_column_that_is_asked_for_and_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="no column for the label among 'text', 'label': name it by label_column"):
        load_texts(write(tmp_path / "own.csv"), label_column="mood")


def test_places_that_hold_no_texts_are_explained(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_texts(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no table named train"):
        load_texts(tmp_path)
    write(tmp_path / "train.tsv")
    write(tmp_path / "my_train.csv")
    with pytest.raises(DataError, match=r"train.tsv: my_train.csv is of the train split too"):
        load_texts(tmp_path)
    with pytest.raises(SettingError, match="split is 'dev', expected one of train, validation, test"):
        load_texts("demo").select("dev")


def test_the_demo_set_composes_what_training_never_showed():
    texts = load_texts("demo")
    train, test = (texts.select(split)[0] for split in ("train", "test"))
    assert not set(train) & set(test)
    assert set(" ".join(test).split()) <= set(" ".join(train).split())
    trained = {clause(half) for text in train for half in halves(text)}
    for text in test:
        assert any(clause(half) not in trained for half in halves(text)), text


def test_the_labels_of_the_demo_set_follow_from_its_grammar():
    """Read anew from the words alone, apart from how they were put together."""
    for review in demo_reviews.load():
        deciding = next(iter(halves(review.text)))
        if ", but " in review.text or ", yet " in review.text or review.text.startswith(("although", "despite")):
            deciding = halves(review.text)[1]
        modifier, adjective = clause(deciding)
        positive = adjective in make_demo_reviews.ADJECTIVES["positive"]
        turned = any(word in modifier.split() for word in ("not", "never", "hardly", "anything"))
        assert review.label == ("positive" if positive != turned else "negative"), review.text


def test_the_demo_set_is_what_its_script_makes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_demo_reviews, "REVIEWS", tmp_path / "reviews.tsv")
    monkeypatch.setattr(make_demo_reviews, "EXAMPLE", tmp_path / "review.txt")
    make_demo_reviews.main()
    assert (tmp_path / "reviews.tsv").read_bytes() == demo_reviews.REVIEWS.read_bytes()
    assert (tmp_path / "review.txt").read_bytes() == demo_reviews.EXAMPLE.read_bytes()


def halves(text):
    return text.removesuffix(" .").split(" , ")  # one clause or two


def clause(half):
    """The (modifier, adjective) of a clause."""
    words = half.split()
    verb = next(index for index, word in enumerate(words) if word in make_demo_reviews.VERBS and index > 1)
    return " ".join(words[verb + 1 : -1]), words[-1]


@pytest.mark.real
@pytest.mark.parametrize(("name", "sizes"), [("sst2", (6920, 872, 1821)), ("imdb", (22516, 2484, 25000))])
def test_the_real_sets_are_read(real_data, name, sizes):
    texts = load_texts(real_data / name)
    assert tuple((texts.split == split).sum() for split in ("train", "validation", "test")) == sizes
    assert texts.label_names == ("0", "1") and 0.4 < np.mean(texts.labels) < 0.6
