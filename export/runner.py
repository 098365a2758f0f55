"""Run and check a bundle on a device, with NumPy and one runtime: LiteRT for .tflite, ONNX Runtime for .onnx.

A bundle holds a copy of this file as `run.py`, with the task's own reading and answering beside it as `task.py`:

    python run.py hello.wav            what the model says of a file
    python run.py --stream hello.wav   what it says after each chunk, with a file that streams
    python run.py --check              every file's sha256, its answer to the stored example, its latency
    python run.py --file NAME ...      with this one of the bundle's model files

Nothing in a bundle is executed but these two, and only when they are called by name: `zoo run` and `zoo verify` use
the package's own copies. The rest is parsed: JSON, and NumPy arrays without pickle. A model file is read by its
runtime, which a damaged one can crash: checks run each in a process of its own, so that a crash is a failed check. To
run a model that somebody else made is to trust it as far as its runtime: check it first, where it can do no harm.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np

try:
    from zoo.errors import DataError
except ImportError:  # on a device, where the zoo is not installed

    class DataError(ValueError):
        """A file or folder cannot be used as it is."""


CARD, EXAMPLE, LABELS = "card.json", "example.npz", "labels.json"
NEXT, RESET = "_next", "reset"  # of the name of a state's next value; the signature that makes all states zeros
LARGEST = 1 << 30  # bytes: no model for a device is larger, and nothing larger is read
PATIENCE = 600  # seconds for the check of one model, some forty invocations
LONGEST_NAME = 255  # bytes, in the file systems of today
DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
# What LiteRT raises over a damaged file: of a name that is no UTF-8 a ValueError, of a tensor of absurd size the last.
_OF_LITERT = (ValueError, RuntimeError, MemoryError)
_OF_ONNX_RUNTIME = Exception  # its own errors share no narrower class


@contextlib.contextmanager
def _in_a_sentence(beginning, errors):
    """Raise `errors` of a runtime as a DataError that begins so."""
    try:
        yield
    except errors as error:
        raise DataError(f"{beginning}: {_first_line(error)}") from None


class Session:
    """A model file, loaded in the runtime that a device uses, on one thread.

    Numbers go in and come out as they are, also where the file holds them as integers with a scale.
    A file that keeps its state, or gives it from hand to hand, goes on where the last call ended.

    Args:
        path: a .tflite or .onnx file.

    Attributes:
        inputs: {name: (shape, dtype)}, with -1 for an open size; without the states.
        outputs: names of the results, likewise.
        streams: whether a call goes on where the last ended, until `reset`.

    Call arguments:
        {input name: array}.

    Returns:
        {output name: array}.

    Raises:
        DataError: not such a file, or one that the runtime refuses.
    """

    def __init__(self, path):
        path = Path(path)
        if not path.is_file():  # a folder or a pipe is none
            raise DataError(f"there is no file {path}; expected a .tflite or .onnx model")
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has {path.stat().st_size} bytes; expected a model of at most {LARGEST}")
        if path.suffix not in (".tflite", ".onnx"):
            raise DataError(f"{path.name} ends in {path.suffix or 'nothing'}; expected a .tflite or .onnx model")
        self._name, self._clear = path.name, None
        (self._load_tflite if path.suffix == ".tflite" else self._load_onnx)(path, _read(path))
        for name, (shape, _) in self.inputs.items():
            if min(shape, default=1) < -1 or math.prod(max(1, size) for size in shape) > LARGEST:
                raise DataError(f"{path.name} has an input {name!r} of shape {shape}; copy or export it again")
        self._states = {name: self.inputs.pop(name) for name in list(self.inputs) if f"{name}{NEXT}" in self.outputs}
        self.outputs = [name for name in self.outputs if name.removesuffix(NEXT) not in self._states]
        self.streams = bool(self._states or self._clear)
        self._before = {}

    def reset(self):
        """Let the next call begin afresh."""
        self._before = {}
        if self._clear:
            self._clear()

    def _load_tflite(self, path, data):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise DataError(f"{path.name} needs LiteRT; install it with: pip install ai-edge-litert") from None
        if data[4:8] != b"TFL3":
            raise DataError(f"{path.name} is no TFLite model: its header is not TFL3; copy or export it again")
        with _in_a_sentence(f"{path.name} is refused by LiteRT", _OF_LITERT):
            interpreter = Interpreter(model_content=data, num_threads=1)
            interpreter.allocate_tensors()
            signatures = list(interpreter.get_signature_list())
        if not signatures:
            raise DataError(f"{path.name} has no signature that names its inputs; export it with a signature")
        with _in_a_sentence(f"{path.name} is refused by LiteRT", _OF_LITERT):
            runner = interpreter.get_signature_runner(signatures[0])
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        self.inputs = {
            n: (
                tuple(int(s) for s in (d["shape_signature"] if len(d["shape_signature"]) else d["shape"])),
                np.float32 if d["quantization"][0] else d["dtype"],
            )
            for n, d in inputs.items()
        }
        self.outputs = list(outputs)

        def run(arrays):
            with _in_a_sentence(f"{path.name} fails in LiteRT", _OF_LITERT):
                for name, array in arrays.items():
                    interpreter.set_tensor(inputs[name]["index"], to_integers(array, inputs[name]))
                interpreter.invoke()
                return {name: to_floats(interpreter.get_tensor(d["index"]), d) for name, d in outputs.items()}

        def clear():
            with _in_a_sentence(f"{path.name} fails in LiteRT", _OF_LITERT):
                interpreter.get_signature_runner(RESET)()  # a runner that is kept would block invoke()

        self._run = run
        if RESET in signatures[1:]:
            self._clear = clear

    def _load_onnx(self, path, data):
        try:
            import onnxruntime
        except ImportError:
            raise DataError(f"{path.name} needs ONNX Runtime; install it with: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Weights in other files are looked for here, where there are none: a bundle's are all within the model.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.absolute()))
        with _in_a_sentence(f"{path.name} is refused by ONNX Runtime", _OF_ONNX_RUNTIME):
            session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"], enable_fallback=False
            )
            self.inputs = {
                i.name: (tuple(s if isinstance(s, int) else -1 for s in i.shape), DTYPES.get(i.type))
                for i in session.get_inputs()
            }
            self.outputs = names = [output.name for output in session.get_outputs()]

        def run(arrays):
            with _in_a_sentence(f"{path.name} fails in ONNX Runtime", _OF_ONNX_RUNTIME):
                return dict(zip(names, session.run(names, arrays), strict=True))

        self._run = run

    def __call__(self, arrays):
        _check_names(self, arrays)
        checked = {}
        for name, array in arrays.items():
            shape, dtype = self.inputs[name]
            array = _converted(array, dtype, name)
            if len(array.shape) != len(shape) or any(s not in (-1, a) for s, a in zip(shape, array.shape, strict=True)):
                raise DataError(f"input {name!r} has shape {array.shape}; the model takes {shape}, -1 for any size")
            checked[name] = array
        for name, (shape, dtype) in self._states.items():
            if name not in self._before:
                batch = next((len(array) for array in checked.values() if array.ndim), 1)
                self._before[name] = np.zeros([batch if size == -1 else size for size in shape], dtype)
        said = self._run({**checked, **self._before})
        self._before = {name: said.pop(f"{name}{NEXT}") for name in self._states}
        return {name: said[name] for name in self.outputs}


def _check_names(session, arrays):
    if set(arrays) != set(session.inputs):
        raise DataError(f"the inputs are {sorted(arrays)}; the model takes {sorted(session.inputs)}")


def _converted(array, dtype, name):
    try:
        return np.ascontiguousarray(array, dtype)
    except (TypeError, ValueError) as error:
        raise DataError(f"input {name!r} cannot be made {np.dtype(dtype).name}: {_first_line(error)}") from None


def to_integers(array, detail):
    """Return `array` as an input that LiteRT describes by `detail` takes it: on its scale, if it has one."""
    scale, zero = detail["quantization"]
    if not scale:
        return array
    ends = np.iinfo(detail["dtype"])
    return np.clip(np.round(array / scale) + zero, ends.min, ends.max).astype(detail["dtype"])


def to_floats(array, detail):
    """Return what an output gave as the numbers that it stands for."""
    scale, zero = detail["quantization"]
    return np.float32(scale) * (array.astype(np.float32) - zero) if scale else array


def read_card(folder):
    """Return the card of a bundle, checked: a dict with every file's name, sha256 and size, all within the folder.

    Raises:
        DataError: not a bundle, or one whose card cannot be trusted.
    """
    path = Path(folder) / CARD
    if path.is_symlink() or not path.is_file():
        raise DataError(f"{folder} is no bundle: it has no {CARD}; give the folder that `zoo export` wrote")
    card = _json(path)
    try:
        models, files = card["models"], card["files"]
        for entry in [*models, *files]:
            _check_entry(entry["name"], entry)
        for entry in models:
            _check_model_entry(entry)
        if len({entry["name"] for entry in [*models, *files]}) < len(models) + len(files):
            raise DataError(f"{CARD} lists a file twice; export the bundle again")
        if not models or not isinstance(card["recipe"], str) or not isinstance(card["settings"], dict):
            raise DataError(f"{CARD} names no model, recipe or settings; export the bundle again")
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{CARD} is not the card of a bundle; export the bundle again") from None
    return card


def _check_entry(name, entry):
    plain = isinstance(name, str) and Path(name).name == name and name not in ("", ".", "..")
    if not plain or not name.isprintable() or len(os.fsencode(name)) > LONGEST_NAME:
        raise DataError(f"{CARD} names the file {ascii(name)[:80]}; expected a plain name within the folder")
    if not isinstance(entry["sha256"], str) or not _is_whole(entry["bytes"]):
        raise DataError(f"{CARD} gives no sha256 and size for {name}; export the bundle again")


def _check_model_entry(entry):
    atol, leads, chunk = entry["atol"], entry.get("leads") or {}, entry.get("chunk", 1)
    if not _is_number(atol) or not _is_whole(chunk) or not all(v is None or _is_whole(v) for v in leads.values()):
        raise DataError(f"{CARD} has atol, leads or chunk of {entry['name']} wrong; export the bundle again")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_whole(value):
    return _is_number(value) and isinstance(value, int)


def model_path(folder, card, name=None):
    """Return the path of the bundle's model file called `name`, or of its first, checked against the card."""
    entries = {entry["name"]: entry for entry in card["models"]}
    name = next(iter(entries)) if name is None else name
    if name not in entries:
        raise DataError(f"the bundle has no model file {name!r}; it has {', '.join(entries)}")
    return checked_file(folder, entries[name])


def checked_file(folder, entry):
    """Return the path of a bundle's file after comparing its size and sha256 with its entry in the card."""
    path = Path(folder) / entry["name"]
    if path.is_symlink() or not path.is_file():
        raise DataError(f"{path.name} is missing from {folder}; copy the whole bundle again")
    if path.stat().st_size != entry["bytes"]:
        raise DataError(f"{path.name} has {path.stat().st_size} bytes, its card says {entry['bytes']}; copy it again")
    if hashlib.sha256(_read(path)).hexdigest() != entry["sha256"]:
        raise DataError(f"{path.name} is damaged: its sha256 is not the one on the card; copy it again")
    return path


def _listed(card, name):
    for entry in card["files"]:
        if entry["name"] == name:
            return entry
    raise DataError(f"{CARD} lists no {name}; export the bundle again")


def read_example(folder):
    """Return ({input name: array}, {output name: array}) of the example stored in a bundle."""
    try:
        arrays = _arrays(Path(folder) / EXAMPLE)
    except _UNREADABLE as error:
        raise DataError(f"{EXAMPLE} cannot be read: {_first_line(error)}; export the bundle again") from None
    return [{n[len(kind) :]: a for n, a in arrays.items() if n.startswith(kind)} for kind in ("input_", "output_")]


# What a damaged archive or array ends in; a RuntimeError where it is encrypted.
_UNREADABLE = (ValueError, OSError, EOFError, KeyError, TypeError, RuntimeError, MemoryError, SyntaxError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)


def _arrays(path):
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > LARGEST:
        raise ValueError(f"it unpacks to {unpacked} bytes, more than {LARGEST}")
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError(f"{name} holds no numbers")
    return arrays


def chunks(session, arrays):
    """Return what a streaming file takes one after the other to read `arrays`, whole sequences: a list of its inputs.

    Raises:
        DataError: the sequences are no whole number of chunks.
    """
    _check_names(session, arrays)
    sizes = {name: shape[1] for name, (shape, _) in session.inputs.items() if len(shape) > 1}
    if not sizes or min(sizes.values()) < 1:
        raise DataError("the file keeps a state and names no chunk size that it reads; export it again")
    timed = {n: size for n, size in sizes.items() if n in arrays and arrays[n].ndim > 1 and arrays[n].shape[1] != size}
    timed = timed or dict([next(iter(sizes.items()))])  # a sequence of a single chunk
    for name, size in timed.items():
        steps = arrays[name].shape[1] if arrays[name].ndim > 1 else 0
        if steps % size or not steps:
            raise DataError(f"input {name!r} has {steps} steps; expected a whole number of chunks of {size}")
    count = min(arrays[name].shape[1] // size for name, size in timed.items())
    return [
        {n: a[:, i * timed[n] : (i + 1) * timed[n]] if n in timed else a for n, a in arrays.items()}
        for i in range(count)
    ]


def answer(session, arrays, leads=None):
    """Return what a file says of whole sequences, {output: array}; a streaming file begins afresh and reads in chunks.

    Args:
        session: the loaded file.
        arrays: {input: array}.
        leads: of a streaming file, {output: how many frames it gives before the first that counts}, None for an output
            that is no sequence; its last value counts.
    """
    if not session.streams:
        return session(arrays)
    session.reset()
    said = [session(chunk) for chunk in chunks(session, arrays)]
    leads = leads or {}
    return {
        name: said[-1][name]
        if leads.get(name) is None
        else np.concatenate([one[name] for one in said], axis=1)[:, leads[name] :]
        for name in session.outputs
    }


def latency_ms(session, arrays, runs=30):
    """Return the median time of one invocation in milliseconds, one thread, after three to warm up.

    Of a file that streams, that is the time for a chunk.
    """
    if session.streams:
        session.reset()
        arrays = chunks(session, arrays)[0]
    times = []
    for _ in range(runs + 3):
        start = time.perf_counter()
        session(arrays)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[3:]))


def check(folder):
    """Check every file of a bundle on this device.

    Returns:
        A list of (file, passed, sentence): size and sha256 of every file; for every model, the difference between its
        answer to the stored example and the stored answer against the tolerance on the card, the same answer at a
        second invocation, and the latency here.
    """
    card, results = read_card(folder), []
    for entry in [*card["files"], *card["models"]]:
        try:
            if entry in card["models"]:
                checked_file(folder, entry)
                sentence = _in_own_process("--check", str(folder), "--file", entry["name"], about=entry["name"])
            else:
                checked_file(folder, entry)
                sentence = "sha256 as on the card"
            results.append((entry["name"], True, sentence))
        except DataError as error:
            results.append((entry["name"], False, str(error)))
    return results


def check_loads(path):
    """Raise DataError unless the runtime takes the model file at `path`, and survives it."""
    _in_own_process("--load", str(path), about=Path(path).name)


def _in_own_process(*arguments, about):
    """Return what this file prints when it is called with `arguments`; raise DataError with its error if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"},  # imports nothing from this folder
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
    card = read_card(folder)
    session = Session(model_path(folder, card, name))
    entry = next(entry for entry in card["models"] if entry["name"] == name)
    checked_file(folder, _listed(card, EXAMPLE))
    inputs, expected = read_example(folder)
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


def run(folder, path, task, name=None):
    """Return what a bundle's model says of the file at `path`, as the task answers.

    Args:
        folder: the bundle.
        path: what the task reads, for example a wav.
        task: module with `read(path, card) -> {input: array}`, `answer(outputs, card)` and `show(answer) -> str`, where
            the card has the bundle's labels too.
        name: which of the bundle's model files, the first if None.
    """
    card = read_card(folder)
    path_of_model = model_path(folder, card, name)
    entry = next(entry for entry in card["models"] if entry["name"] == path_of_model.name)
    card = {**card, "labels": _labels(folder, card)}
    return task.answer(answer(Session(path_of_model), task.read(path, card), entry.get("leads")), card)


def run_in_chunks(folder, path, task, name=None):
    """Yield what a bundle's model says of the file at `path` after each chunk: (share of the file heard, the answer).

    Args:
        folder: the bundle.
        path: what the task reads.
        task: as in `run`.
        name: which of the bundle's files that stream, the first if None.
    """
    card = read_card(folder)
    streaming = [entry["name"] for entry in card["models"] if "chunk" in entry]
    if name is None and not streaming:
        raise DataError("the bundle has no file that reads in chunks; export it with streaming")
    session = Session(model_path(folder, card, name or streaming[0]))
    if not session.streams:
        raise DataError(
            f"{name} reads a clip at once; the files that read in chunks are {', '.join(streaming) or 'none'}"
        )
    card = {**card, "labels": _labels(folder, card)}
    pieces = chunks(session, task.read(path, card))
    for heard, piece in enumerate(pieces, 1):
        yield heard / len(pieces), task.answer(session(piece), card)


def _labels(folder, card):
    labels = _json(checked_file(folder, _listed(card, LABELS)))
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.isprintable() for label in labels):
        raise DataError(f"{LABELS} is no list of words; export the bundle again")
    return labels


def _json(path):
    if path.stat().st_size > LARGEST >> 6:
        raise DataError(f"{path.name} has {path.stat().st_size} bytes; expected a small JSON file")
    try:
        return json.loads(_read(path).decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON: {_first_line(error)}; export the bundle again") from None


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _first_line(error):
    line = (str(error) or type(error).__name__).strip().split("\n")[0][:200]
    return "".join(char if char.isprintable() else "?" for char in line)  # a runtime quotes what it finds


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
        print(task.show(run(folder, options.path, task, options.file)))
        return 0
    except (ValueError, OSError) as error:  # both DataErrors, this file's and the task's, are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
