"""Load a model file in the runtime that a device uses and call it: LiteRT for .tflite, ONNX Runtime for .onnx.

A bundle holds a copy of this file under the same name.
"""

import contextlib
import math
import time

import numpy as np

if __package__:
    from zoo.export.contents import LARGEST, DataError, file_at, first_line, read_bytes
else:  # in a bundle
    from contents import LARGEST, DataError, file_at, first_line, read_bytes

NEXT, RESET = "_next", "reset"  # of the name of a state's next value; the signature that makes all states zeros
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
        raise DataError(f"{beginning}: {first_line(error)}") from None


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
        path = file_at(path, "a .tflite or .onnx model")
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has {path.stat().st_size} bytes; expected a model of at most {LARGEST}")
        if path.suffix not in (".tflite", ".onnx"):
            raise DataError(f"{path.name} ends in {path.suffix or 'nothing'}; expected a .tflite or .onnx model")
        self._name, self._clear = path.name, None
        (self._load_tflite if path.suffix == ".tflite" else self._load_onnx)(path, read_bytes(path))
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
        raise DataError(f"input {name!r} cannot be made {np.dtype(dtype).name}: {first_line(error)}") from None


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
    return joined([session(chunk) for chunk in chunks(session, arrays)], leads)


def joined(said, leads=None):
    """Return {output: array} of all chunks up to now, from what a streaming file said of each and `leads` as above."""
    leads = leads or {}
    return {
        name: last if leads.get(name) is None else np.concatenate([one[name] for one in said], axis=1)[:, leads[name] :]
        for name, last in said[-1].items()
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
