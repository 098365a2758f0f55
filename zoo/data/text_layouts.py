"""Where labelled texts lie: tables named after their split, and folders of text files named after their label."""

from zoo.data.text_tables import TextRow, decode, is_table, make_row
from zoo.errors import DataError

SPLITS = {"train": "train", "dev": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def tables(folder):
    """Return {split: path} of the tables in a folder, as `train.tsv` or `imdb_test.tsv.gz` are named.

    Raises:
        DataError: two files are of the same split.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        last = path.name.split(".")[0].lower().replace("-", "_").split("_")[-1]
        if last in SPLITS and is_table(path):
            split = SPLITS[last]
            if split in found:
                raise DataError(
                    f"{path}: {found[split].name} is of the {split} split too, expected one file: remove one of them."
                )
            found[split] = path
    return found


def has_label_folders(folder):
    """True for the layout of aclImdb: a folder `train` of one folder of text files for each label."""
    return bool(_labels(folder / "train"))


def read_label_folders(folder):
    """List the texts of `train/LABEL/*.txt` and `test/LABEL/*.txt`, as `TextRow`; without aclImdb's unlabelled ones."""
    rows = []
    for split in ("train", "test"):
        for label in _labels(folder / split):
            for path in sorted((folder / split / label).glob("*.txt")):
                rows.append(_read_file(path, label, split))
    return rows


def _read_file(path, label, split):
    try:
        return make_row(decode(path.read_bytes(), path), label, split, str(path))
    except OSError as error:
        return TextRow("", label, split, str(path), f"cannot be read ({error.strerror})")


def _labels(folder):
    """Names of the folders that hold text files; `unsup` has no label."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and path.name != "unsup" and next(path.glob("*.txt"), None) is not None
    )
