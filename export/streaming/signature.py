"""What a file computes of one chunk: the model's inputs and states in, its outputs and the next states out."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from zoo import checks
from zoo.errors import ExportError, SettingError
from zoo.export.session import NEXT
from zoo.export.signature import Signature, input_specs, output_names
from zoo.export.streaming.rules import find_rule
from zoo.export.streaming.signal import Memory, Signal
from zoo.export.trace import for_inference


@dataclass(frozen=True)
class Streamed(Signature):
    """The signature of one chunk; its last inputs and outputs are the states.

    Args:
        states: names of the inputs that are states, in order; each belongs to the output named so and `NEXT`.
        leads: for each output before the states, how many frames it gives that the whole sequence does not have; None
            for an output that is no sequence.
    """

    states: tuple
    leads: tuple


def streaming_signature(model, *, batch_size, time_steps):
    """Return the `Streamed` of a model that goes on where the last chunk ended.

    After the last chunk of a sequence, outputs that are no sequences are what the model gives for the whole of it;
    outputs that are sequences give its frames piece by piece. All states are zeros before the first chunk.

    Args:
        model: a functional or sequential model. The second axis of its inputs is time; of several inputs, those whose
            second axis differs from the first input's are taken as the same in all chunks.
        batch_size: number of streams, None to leave it open.
        time_steps: length of a chunk along the inputs' axis of time: samples, frames or tokens.

    Raises:
        SettingError: no `time_steps`, or not a multiple of what a layer takes at once.
        ExportError: a layer needs more than the past, or has no rule.
    """
    whole = input_specs(model, batch_size=batch_size)
    if not hasattr(model, "_nodes_by_depth") and not isinstance(model, keras.Sequential):
        raise ExportError(f"model {model.name!r} is subclassed; only functional and sequential models can stream")
    if time_steps is None:
        raise SettingError("a file that keeps its state reads chunks; give time_steps=, the steps in a chunk")
    timed = [len(spec.shape) > 1 and spec.shape[1] == whole[0].shape[1] for spec in whole]
    if not timed[0]:
        raise ExportError(f"input {whole[0].name!r} has no axis of time; a stream needs one")
    specs = [_chunk(spec, time_steps) if is_timed else spec for spec, is_timed in zip(whole, timed, strict=True)]

    def run(tensors, states=None):
        memory = Memory(batch_size, states, tf.shape(tensors[0])[0])
        signals = [
            Signal(tensor, "stream" if is_timed else "constant")
            for tensor, is_timed in zip(tensors, timed, strict=True)
        ]
        return keras.tree.flatten(_run(model, signals, memory)), memory

    found = {}

    def look(*tensors):
        outputs, memory = run(tensors)
        found["outputs"], found["memory"] = outputs, memory
        return [memory.after[name] for name in memory.specs]

    with for_inference(model):  # half precision leaves as float32, and so do its states
        tf.function(look, autograph=False).get_concrete_function(*specs)
    state_specs, count = list(found["memory"].specs.values()), len(specs)
    states = tuple(spec.name for spec in state_specs)

    def call(*tensors):
        outputs, memory = run(tensors[:count], dict(zip(states, tensors[count:], strict=True)))
        return [signal.tensor for signal in outputs] + [memory.after[name] for name in states]

    def names(outputs):
        own = outputs[: len(outputs) - len(states)]
        return [*output_names(model, own), *(f"{name}{NEXT}" for name in states)]

    leads = tuple(signal.lead if signal.kind == "stream" else None for signal in found["outputs"])
    return Streamed([*specs, *state_specs], call, names, states, leads)


def leads(model, *, time_steps):
    """Return by how many frames each output of a file that streams is late.

    Where a window is longer than its stride, a file begins with frames that the whole clip does not have, as the first
    window is not full yet: its lead. What comes after them is the model's output for the whole clip, frame by frame.

    Args:
        model: a functional or sequential model.
        time_steps: length of a chunk, as `to_tflite` and `to_onnx` take it.

    Returns:
        {output: frames to leave out}; None for an output that is no sequence.

    Raises:
        SettingError: time_steps is no whole number of at least 1, or not a multiple of what a layer takes at once.
        ExportError: the model cannot stream.
    """
    time_steps = checks.whole(time_steps, "time_steps", or_none=True)
    late = streaming_signature(model, batch_size=None, time_steps=time_steps).leads
    return dict(zip(output_names(model, late), late, strict=True))


def _chunk(spec, time_steps):
    return tf.TensorSpec([spec.shape[0], time_steps, *spec.shape[2:]], spec.dtype, name=spec.name)


def _run(model, signals, memory):
    """Run the graph of `model` on signals; return what it returns, of signals."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    # The walk over a functional model's nodes is not public in Keras; any other way would call the layers by itself.
    return graph._run_through_graph(signals, operation_fn=lambda operation: _as_function(operation, memory))


def _as_function(operation, memory):
    """Give a layer, an operation or a model within the model the face of a function of signals."""

    def function(*args, **kwargs):
        signals = [leaf for leaf in keras.tree.flatten((args, kwargs.get("initial_state"))) if isinstance(leaf, Signal)]
        kinds = {signal.kind for signal in signals}
        attended = kwargs.get("memory")
        if isinstance(attended, Signal) and attended.kind != "constant":
            raise ExportError(f"{operation.name} looks at all of its memory at once, which a stream has not reached")
        if hasattr(operation, "_run_through_graph") or isinstance(operation, keras.Sequential):
            return _run(operation, signals, memory)
        if isinstance(kwargs.get("mask"), Signal):
            signals[0].tensor._keras_mask = kwargs.pop("mask").tensor  # where Keras, too, looks for it

        def apply(*tensors, **changed):
            given = iter(tensors)
            filled = keras.tree.map_structure(lambda leaf: next(given) if isinstance(leaf, Signal) else leaf, args)
            return operation(*filled, **{**_tensors(kwargs), **changed})

        if "stream" not in kinds:
            kind = "summary" if "summary" in kinds else "constant"
            return keras.tree.map_structure(
                lambda tensor: Signal(tensor, kind), operation(*_tensors(args), **_tensors(kwargs))
            )
        if type(operation).__name__ == "GetItem" and args[1:] == ((slice(None), -1),):  # x[:, -1]
            return Signal(signals[0].tensor[:, -1], "summary")
        return find_rule(operation)(operation, signals, memory, memory.scope(operation.name), apply)

    return function


def _tensors(structure):
    return keras.tree.map_structure(lambda leaf: leaf.tensor if isinstance(leaf, Signal) else leaf, structure)
