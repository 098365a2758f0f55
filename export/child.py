"""Run a converter in a process of its own, so that its crash is an error and not the end of the caller."""

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading

from zoo import errors

_lock = threading.Lock()
_worker = None


def run(function, **arguments):
    """Call `function` ("module:name", within zoo.export) with JSON-able keyword arguments in the worker process.

    The worker is started once and kept, as the import of TensorFlow takes seconds. It sees no GPU, so that no op of a
    GPU library gets into a file.

    Returns:
        What the function returned, as JSON gives it back.

    Raises:
        ExportError: the function raised, with its message, or the process died.
    """
    global _worker
    with _lock:
        if _worker is None or _worker.poll() is not None:
            _worker = _start()
        try:
            _worker.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
            _worker.stdin.flush()
            answer = _worker.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            status, _worker = _worker.wait(), None
            raise errors.ExportError(
                f"the converter's process ended with status {status} in {function}; its log is {_log_path()}"
            )
    answer = json.loads(answer)
    if "error" in answer:
        raise getattr(errors, answer["kind"])(answer["error"])
    return answer["result"]


def _log_path():
    return os.path.join(tempfile.gettempdir(), f"recurrent-zoo-converter-{os.getpid()}.log")


def _start():
    environment = dict(os.environ, KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="2")
    with open(_log_path(), "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "zoo.export.child"],  # -P: no module of the working folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
    atexit.register(_stop, process)
    return process


def _stop(process):
    process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    if process.returncode == 0 and os.path.exists(_log_path()):
        os.remove(_log_path())


def _serve():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what converters print goes to the log, not among the answers
    for line in sys.stdin:
        request = json.loads(line)
        module, name = request["function"].split(":")
        try:
            result = getattr(importlib.import_module(f"zoo.export.{module}"), name)(**request["arguments"])
            answer = {"result": result}
        except errors.ZooError as error:
            answer = {"kind": type(error).__name__, "error": str(error)}
        except Exception as error:
            answer = {"kind": "ExportError", "error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
