"""Run a converter in a process of its own, so that its crash is an error and not the end of the caller."""

import atexit
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading

from zoo import errors

LONGEST = 3600  # seconds: whoever waits for an hour waits for something that hangs
_NOTED = 2000  # bytes of its log
_COMMAND = (sys.executable, "-P", "-m", "zoo.export.child")  # -P: no module of the working folder
_lock = threading.Lock()
_worker = None


class CrashError(errors.ExportError):
    """The process ended without an answer."""


def run(function, **arguments):
    """Call `function` ("module:name", within zoo.export) with JSON-able keyword arguments in the worker process.

    The worker is started once and kept, as the import of TensorFlow takes seconds. It sees no GPU, so that no op of a
    GPU library gets into a file. After a crash, an hour without an answer, or an interruption a fresh one is started.

    Returns:
        What the function returned, as JSON gives it back.

    Raises:
        ExportError: the function raised, with its message.
        CrashError: the process died, hung, or could not be started.
    """
    global _worker
    with _lock:
        if _worker is None or _worker.poll() is not None:
            _worker = _start()
        worker, _worker = _worker, None  # an interruption here leaves no worker whose answer is another's
        answer = _ask(worker, function, {"function": function, "arguments": arguments})
        _worker = worker
    answer = json.loads(answer)
    if "error" in answer:
        raise getattr(errors, answer["kind"])(answer["error"])
    return answer["result"]


def _ask(worker, function, request):
    """Return the line that the worker answers with, or end it and say why there is none."""
    answer, hung = "", threading.Event()
    timer = threading.Timer(LONGEST, lambda: (hung.set(), worker.kill()))
    timer.start()
    try:
        worker.stdin.write(json.dumps(request) + "\n")
        worker.stdin.flush()
        answer = worker.stdout.readline()
    except BrokenPipeError:
        pass
    except KeyboardInterrupt:
        worker.kill()  # or it would go on with what nobody waits for
        raise
    finally:
        timer.cancel()
        if not answer.endswith("\n"):
            _stop(worker)
    if answer.endswith("\n"):
        return answer
    why = f"gave no answer in {LONGEST} seconds" if hung.is_set() else _how_it_ended(worker.returncode)
    error = CrashError(f"the converter's process {why} in {function}")
    if worker.said:
        error.add_note(f"It said last:\n{worker.said}")
    raise error


def _how_it_ended(status):
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _start():
    environment = dict(os.environ, KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="2")
    log = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
    try:
        process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    except OSError as error:
        log.close()
        raise CrashError(f"the converter's process cannot be started: {error}") from error
    process.log = log
    atexit.register(_stop, process)
    return process


def _stop(process):
    """End the process, and keep the last that it said."""
    if process.log.closed:
        return
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    process.log.seek(max(0, process.log.seek(0, os.SEEK_END) - _NOTED))
    process.said = process.log.read().decode(errors="replace").strip()
    process.log.close()


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
