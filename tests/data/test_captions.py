"""Captions are read from every layout, and every row and file that cannot be used is named."""

import json

import numpy as np
import pytest
from PIL import Image

from zoo.data.captions import load_captions, words_of
from zoo.errors import DataError, SettingError

NAMES = [f"p{number}.png" for number in range(30)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / "images" / name)
    return tmp_path


def load(folder, **options):
    return load_captions(str(folder), demo=None, **options)


def write_table(folder, rows, name="captions.csv", head="image,caption"):
    (folder / name).write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")


def test_words_are_small_letters_without_marks():
    assert words_of("A man's dog , running -- FAST !") == ("a", "man's", "dog", "running", "fast")
    assert words_of("Cafe\u0301 du Nord") == ("caf\u00e9", "du", "nord")  # composed, however it was typed
    assert words_of(" .,! ") == ()


def test_a_table_of_ones_own(folder):
    write_table(folder, [f"images/{name},A thing {name[1:-4]}." for name in NAMES])
    found = load(folder)
    assert len(found.pictures) == 30 and not found.skipped
    assert {str(split) for split in found.split} == {"train", "validation", "test"}
    chosen, captions = found.select("train")
    assert captions[0] == (("a", "thing", chosen[0].stem[1:]),)
    again = load(folder)
    assert np.array_equal(found.split, again.split)


def test_a_picture_may_have_several_captions_and_a_split(folder):
    rows = [f"images/{name},{text},{'test' if name == 'p3.png' else ''}" for name in NAMES for text in ("a b", "c d")]
    write_table(folder, rows, head="file,text,split")
    found = load(folder)
    assert [path.name for path in found.select("test")[0]] == ["p3.png"]
    assert found.select("test")[1] == [(("a", "b"), ("c", "d"))]


def test_tab_separated_and_json_lines(folder):
    write_table(folder, [f"images/{name}\ta, b" for name in NAMES], "captions.tsv", "image\tcaption")
    assert load(folder).captions[0] == (("a", "b"),)
    (folder / "captions.tsv").unlink()
    rows = [json.dumps({"image": f"images/{name}", "caption": "a cup"}) for name in NAMES]
    (folder / "captions.jsonl").write_text("\n".join(rows))
    assert load(folder).captions[0] == (("a", "cup"),)


def test_the_layout_of_flickr8k(folder):
    lines = [f"{name}#{number}\tA thing ." for name in NAMES for number in range(2)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines))
    for split, names in (("train", NAMES[:20]), ("dev", NAMES[20:24]), ("test", NAMES[24:27])):
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names))
    found = load(folder)
    assert len(found.pictures) == 27  # three are in no list
    assert [len(found.select(split)[0]) for split in ("train", "validation", "test")] == [20, 4, 3]
    assert found.captions[0] == (("a", "thing"), ("a", "thing"))


def test_the_layout_of_coco(folder):
    (folder / "annotations").mkdir()
    for split, names in (("train", NAMES[:25]), ("val", NAMES[25:])):
        (folder / f"{split}2017").mkdir()
        for name in names:
            (folder / "images" / name).rename(folder / f"{split}2017" / name)
        stored = {
            "images": [{"id": 7 * number, "file_name": name} for number, name in enumerate(names)],
            "annotations": [{"image_id": 7 * number, "caption": "A thing."} for number in range(len(names))],
        }
        (folder / "annotations" / f"captions_{split}2017.json").write_text(json.dumps(stored))
    found = load(folder, skip_bad=True)
    assert not found.skipped
    assert {path.name for path in found.select("test")[0]} == set(NAMES[25:])
    assert len(found.select("validation")[0]) >= 1  # of what is named train
    stored["annotations"][0]["image_id"] = 1
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(stored))
    with pytest.raises(DataError, match=r"captions_val2017.json: annotation 1 is of image 1, which"):
        load(folder)


BAD_ROWS = [
    ("images/p1.png, .", r"captions.csv: line 2: the caption holds no word"),
    ("images/none.png,a cup", r"none.png: there is no file"),
    ("images/text.png,a cup", r"text.png is no picture"),
]


@pytest.mark.parametrize(("row", "sentence"), BAD_ROWS)
def test_a_bad_row_or_file_stops_or_is_skipped_and_listed(folder, row, sentence):
    (folder / "images" / "text.png").write_text("no picture")
    write_table(folder, [row, *(f"images/{name},a cup" for name in NAMES)])
    with pytest.raises(DataError, match=f"{sentence}.*set skip_bad=True"):
        load(folder)
    found = load(folder, skip_bad=True)
    assert len(found.pictures) == 30 and len(found.skipped) == 1


def test_skipping_decodes_what_otherwise_only_its_head_tells(folder):
    path = folder / "images" / "p1.png"
    path.write_bytes(path.read_bytes()[:45])  # its head and the beginning of its only row
    write_table(folder, [f"images/{name},a cup" for name in NAMES])
    assert len(load(folder).pictures) == 30
    ((where, reason),) = load(folder, skip_bad=True).skipped
    assert where.endswith("p1.png") and "damaged" in reason


@pytest.mark.parametrize(
    ("head", "row", "sentence"),
    [
        ("image,words", "images/p1.png,a cup", r"line 2 has no column caption, only image, words"),
        ("image,caption", "/etc/passwd,a cup", r"line 2 names the picture '/etc/passwd', expected a path within"),
        ("image,caption", "../p1.png,a cup", r"expected a path within"),
        ("image,caption", ",a cup", r"expected a path within"),
        ("image,caption,split", "images/p1.png,a cup,dev", r"line 2 has the split 'dev', expected one of train"),
        ("image,caption", 'images/p1.png,"a" cup', r"line 2 is not CSV"),
    ],
)
def test_a_bad_table_is_named(folder, head, row, sentence):
    write_table(folder, [row], head=head)
    with pytest.raises(DataError, match=sentence):
        load(folder)


def test_other_mistakes_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"no such folder, expected a folder with captions"):
        load(folder / "nowhere")
    with pytest.raises(DataError, match=r"no captions, expected captions.csv"):
        load(folder)
    (folder / "captions.csv").write_bytes("image,caption\nimages/p1.png,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"captions.csv: line 2 is not UTF-8"):
        load(folder)
    write_table(folder, ["images/p1.png,a cup,train", "images/p1.png,a cup,test"], head="image,caption,split")
    with pytest.raises(DataError, match=r"line 3 puts p1.png into a second split"):
        load(folder)
    write_table(folder, ["images/p1.png,a cup,train"], head="image,caption,split")
    with pytest.raises(DataError, match=r"no usable picture is left for the \w+ split"):
        load(folder)
    write_table(folder, [f"images/{name},a cup" for name in NAMES])
    with pytest.raises(SettingError, match="split is 'dev', expected one of train"):
        load(folder).select("dev")


@pytest.mark.real
def test_flickr8k_as_published(real_data):
    found = load(real_data / "flickr8k")
    assert [len(found.select(split)[0]) for split in ("train", "validation", "test")] == [6000, 1000, 1000]
    assert {len(captions) for captions in found.captions} == {5}
