"""Run and check a bundle on a device, with NumPy and one runtime: LiteRT for .tflite, ONNX Runtime for .onnx.

A bundle holds a copy of this file as `run.py`, beside it `session.py` and `contents.py`, which it needs, and as
`task.py` the task's own reading and answering:

    python run.py hello.wav            what the model says of a file
    python run.py --stream hello.wav   what it says after each chunk, with a file that streams
    python run.py --check              every file's sha256, its answer to the stored example, its latency
    python run.py --file NAME ...      with this one of the bundle's model files
    python run.py --draw PNG ...       the answer as a picture too, where the task draws one

Nothing in a bundle is executed but these four, and only when `run.py` is called by name: `zoo run` and `zoo verify` use
the package's own copies. The rest is parsed. A model file is read by its runtime, which a damaged one can crash: checks
run each in a process of its own, so that a crash is a failed check. To run a model that somebody else made is to trust
it as far as its runtime: check it first, where it can do no harm.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

if __package__:
    from zoo.export import contents
    from zoo.export.contents import DataError
    from zoo.export.session import Session, answer, chunks, joined, latency_ms

    _PROGRAM = "-P", "-m", "zoo.export.runner"  # -P: no module of the working folder
else:  # in a bundle
    import contents
    from contents import DataError
    from session import Session, answer, chunks, joined, latency_ms

    _PROGRAM = (__file__,)
PATIENCE = 600  # seconds for the check of one model, some forty invocations


def run(folder, path, task, name=None):
    """Return what a bundle's model says of the file at `path`, as the task answers.

    Args:
        folder: the bundle.
        path: what the task reads, for example a wav.
        task: module with `read(path, card) -> {input: array}`, `answer(outputs, card)` and `show(answer) -> str`, where
            the card has the bundle's labels too, and of its assets {file name: bytes}; of a bundle whose files run in
            turn also `run(parts, inputs, card) -> outputs`, where parts are {part: function of {input: array}}.
        name: which of the bundle's model files, the first if None; of files that run in turn, one of them.
    """
    card = contents.read_card(folder)
    path_of_model = contents.model_path(folder, card, name)
    entry = next(entry for entry in card["models"] if entry["name"] == path_of_model.name)
    card = {**card, "labels": contents.read_labels(folder, card), "assets": contents.read_assets(folder, card)}
    if "part" in entry:
        parts = contents.parts_of(card, entry)
        sessions = {part: Session(contents.model_path(folder, card, one["name"])) for part, one in parts.items()}
        return task.answer(task.run(sessions, task.read(path, card), card), card)
    return task.answer(answer(Session(path_of_model), task.read(path, card), entry.get("leads")), card)


def draw(answered, path, task, out):
    """Draw what `run` returned of the file at `path` into a new file `out`, a picture.

    Raises:
        DataError: the task draws nothing, or the picture cannot be written.
    """
    if not hasattr(task, "draw"):
        raise DataError("this bundle's task draws no picture; leave --draw out")
    if Path(out).exists():
        raise DataError(f"{out} exists already; remove it or choose another name")
    task.draw(answered, path, out)


def run_in_chunks(folder, path, task, name=None):
    """Yield what a bundle's model says of the file at `path` after each chunk: (share of the file heard, the answer).

    Of outputs that are sequences the task is given all frames up to then, of others the last value.

    Args:
        folder: the bundle.
        path: what the task reads.
        task: as in `run`.
        name: which of the bundle's files that stream, the first if None.
    """
    card = contents.read_card(folder)
    streaming = [entry["name"] for entry in card["models"] if "chunk" in entry]
    if name is None and not streaming:
        raise DataError("the bundle has no file that reads in chunks; export it with streaming")
    path_of_model = contents.model_path(folder, card, streaming[0] if name is None else name)
    session = Session(path_of_model)
    if not session.streams:
        raise DataError(
            f"{name} reads a clip at once; the files that read in chunks are {', '.join(streaming) or 'none'}"
        )
    card = {**card, "labels": contents.read_labels(folder, card), "assets": contents.read_assets(folder, card)}
    pieces, said = chunks(session, task.read(path, card)), []
    entry = next(entry for entry in card["models"] if entry["name"] == path_of_model.name)
    for heard, piece in enumerate(pieces, 1):
        said.append(session(piece))
        yield heard / len(pieces), task.answer(joined(said, entry.get("leads")), card)


def check(folder):
    """Check every file of a bundle on this device.

    Returns:
        A list of (file, passed, sentence): size and sha256 of every file; for every model, the difference between its
        answer to the stored example and the stored answer against the tolerance on the card, the same answer at a
        second invocation, and the latency here.
    """
    card, results = contents.read_card(folder), []
    for entry in [*card["files"], *card["models"]]:
        try:
            contents.checked_file(folder, entry)
            if entry in card["models"]:
                sentence = _in_own_process("--check", str(folder), "--file", entry["name"], about=entry["name"])
            else:
                sentence = "sha256 as on the card"
            results.append((entry["name"], True, sentence))
        except DataError as error:
            results.append((entry["name"], False, str(error)))
    return results


def check_loads(path):
    """Raise DataError unless the runtime takes the model file at `path`, and survives it."""
    _in_own_process("--load", str(path), about=Path(path).name)


def _in_own_process(*arguments, about):
    """Return what this program prints when called with `arguments`; raise DataError with its error if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, *_PROGRAM, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{about} takes longer than {PATIENCE} seconds; it is damaged, or meant to") from None
    if done.returncode == 0:
        return done.stdout.strip()
    if done.returncode != 1:
        raise DataError(
            f"{about} crashes its runtime (status {done.returncode}): it is damaged; copy or export it again"
        )
    said = done.stderr.strip().splitlines() or ["it says nothing"]
    raise DataError(said[-1].removeprefix("error: "))


def _check_model(folder, name):
    card = contents.read_card(folder)
    session = Session(contents.model_path(folder, card, name))
    entry = next(entry for entry in card["models"] if entry["name"] == name)
    example = contents.example_name(entry.get("part", ""))
    contents.checked_file(folder, contents.listed(card, example))
    inputs, expected = contents.read_example(folder, example)
    first, second = answer(session, inputs, entry.get("leads")), answer(session, inputs, entry.get("leads"))
    if set(first) != set(expected):
        raise DataError(f"its outputs are {sorted(first)}; the example has {sorted(expected)}")
    tolerance, worst = float(entry["atol"]), 0.0
    for name, array in expected.items():
        if first[name].shape != array.shape:
            raise DataError(f"output {name!r} has shape {first[name].shape}; the example has {array.shape}")
        if not np.array_equal(first[name], second[name]):
            raise DataError(f"output {name!r} differs when the model is run a second time on the same input")
        difference = np.abs(first[name].astype("float64") - array)
        if not difference.max(initial=0.0) <= tolerance:
            at = tuple(
                int(i) for i in np.unravel_index(np.nanargmax(np.nan_to_num(difference, nan=np.inf)), array.shape)
            )
            raise DataError(
                f"output {name!r} at {at} is {first[name][at]:.6g}, the example has {array[at]:.6g}: "
                f"a difference over the tolerance of {tolerance:g}"
            )
        worst = max(worst, float(difference.max(initial=0.0)))
    once = "a chunk here" if session.streams else "here"
    return f"example within {worst:.1e} (tolerance {tolerance:.2g}), {latency_ms(session, inputs):.3f} ms {once}"


def _try_out(path):
    """Load a model file and run it once on zeros, which it may refuse."""
    session = Session(path)
    zeros = {
        name: np.zeros([1 if size == -1 else size for size in shape], dtype)
        for name, (shape, dtype) in session.inputs.items()
    }
    with contextlib.suppress(DataError):
        session(zeros)


def main():
    """Run the bundle in this file's own folder, as its `run.py`."""
    parser = argparse.ArgumentParser(description="Run the model of this bundle, or check its files.")
    parser.add_argument("path", nargs="?", help="the file to look at, for example hello.wav; to check, another bundle")
    parser.add_argument("--check", action="store_true", help="check every file of the bundle on this device")
    parser.add_argument("--stream", action="store_true", help="read the file in chunks and answer after each")
    parser.add_argument("--file", help="which of the bundle's model files (default: the first on the card)")
    parser.add_argument("--draw", metavar="PNG", help="draw the answer into this new file, where the task can")
    parser.add_argument("--load", metavar="MODEL", help="only see whether the runtime takes this model file")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    try:
        if options.load:
            _try_out(options.load)
            return 0
        if options.check and options.file:
            print(_check_model(options.path or folder, options.file))
            return 0
        if options.check:
            results = check(options.path or folder)
            for name, passed, sentence in results:
                print(f"{'ok    ' if passed else 'FAILED'} {name}: {sentence}")
            return 0 if all(passed for _, passed, _ in results) else 1
        if options.path is None:
            parser.error("name a file to look at, or say --check")
        import task

        if options.stream:
            for heard, answered in run_in_chunks(folder, options.path, task, options.file):
                first, *_ = task.show(answered).splitlines()
                print(f"{heard:4.0%}  {first}")
            return 0
        answered = run(folder, options.path, task, options.file)
        if options.draw:
            draw(answered, options.path, task, options.draw)
        print(task.show(answered))
        return 0
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
