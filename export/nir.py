"""Write a spiking network as a graph of the Neuromorphic Intermediate Representation."""

import io

import keras
import numpy as np

from zoo.errors import ExportError
from zoo.export.options import check_path, write
from zoo.export.signature import check_finite
from zoo.layers import LIFCell


def to_nir(model, path):
    """Write a chain of spiking layers as a file of the Neuromorphic Intermediate Representation (NIR).

    For the hardware and simulators that read NIR. The model takes sequences (batch, time, features) through Dense and
    LIF layers, and Dropout, which is left out. The graph takes one step of one example at a time:

        Dense    <name>_affine     nir.Affine, or <name>_linear, nir.Linear, without a bias
        LIF      <name>_affine     nir.Affine, x W + b
                 <name>_lif        nir.LIF
                 <name>_recurrent  nir.Linear, s U, from the node <name>_lif to itself, if the layer is recurrent

    NIR holds differential equations and no time step: tau dv/dt = v_leak - v + R I, a spike where v > v_threshold and v
    then v_reset. A reader answers as the model does, spike for spike but for rounding, if it

        - takes forward Euler steps of the time step dt that all LIF layers have and the graph's metadata hold as
          "time_step", in seconds: v += dt / tau (v_leak - v + R I), with R = tau / dt in the file,
        - starts from v = v_reset = 0 without spikes, compares after the step, and resets before the next,
        - passes values on to the next node in the same step, and along the edge from <name>_recurrent in the next step.

    A reader with another time step solves the same equations, for inputs of the same current, and spikes fall
    otherwise. A model that returns only the last step is the last step of its graph. What follows spikes in training
    and is no layer of neurons, such as a mean over time, is left out by exporting the model up to there.

    Args:
        model: a built sequential or functional Keras model, on any backend.
        path: the file to write, ending in .nir; it must not exist.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        SettingError: a path that cannot be written to.
        ExportError: the model is not such a chain, or a weight is no number, which names the layer; it has no LIF
            layer, or some with different time steps; or the package `nir` is not installed.

    Reference:
        J. Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for interoperable
        brain-inspired computing", Nature Communications 15, 2024, https://doi.org/10.1038/s41467-024-52259-9
    """
    try:
        import nir
    except ImportError as error:
        raise ExportError("NIR files need the package nir; install it with pip install 'recurrent-zoo[nir]'") from error
    path = check_path(path, ".nir")
    layers = _chain(model)
    check_finite(model)
    nodes, edges, end = {"input": nir.Input(np.array(model.inputs[0].shape[2:]))}, [], "input"
    for layer in layers:
        cell = getattr(layer, "cell", None)
        end = _add_affine(nodes, edges, end, layer.name, cell or layer)
        if cell is not None:
            end = _add_neurons(nodes, edges, end, layer.name, cell)
    nodes["output"] = nir.Output(nodes[end].output_type)
    graph = nir.NIRGraph(nodes, [*edges, (end, "output")], metadata={"time_step": _time_step(model, layers)})
    content = io.BytesIO()
    nir.write(content, graph)
    write(path, content.getvalue())
    return path


def _add_affine(nodes, edges, end, name, layer):
    """Add the weights of a Dense or a cell after the node `end`; return the name of the new node."""
    import nir

    weight, bias = _array(layer.kernel).T, layer.bias
    name = f"{name}_linear" if bias is None else f"{name}_affine"
    nodes[name] = nir.Linear(weight) if bias is None else nir.Affine(weight, _array(bias))
    edges.append((end, name))
    return name


def _add_neurons(nodes, edges, end, name, cell):
    """Add the neurons of a cell, and their way back, after the node `end`; return the name of the neurons' node."""
    import nir

    def for_each(value):
        return np.full(cell.units, value, "float32")

    neurons, back = f"{name}_lif", f"{name}_recurrent"
    nodes[neurons] = nir.LIF(
        tau=for_each(cell.time_constant),
        r=for_each(cell.time_constant / cell.time_step),
        v_leak=for_each(0),
        v_threshold=for_each(cell.threshold),
        v_reset=for_each(0),
    )
    edges.append((end, neurons))
    if cell.recurrent:
        nodes[back] = nir.Linear(_array(cell.recurrent_kernel).T)
        edges.extend([(neurons, back), (back, neurons)])
    return neurons


def _array(variable):
    return keras.ops.convert_to_numpy(variable).astype("float32")


def _chain(model):
    """Return the Dense and LIF layers of `model` from first to last, or raise ExportError at what is neither."""
    if not isinstance(model, keras.Model):
        raise ExportError(f"the model is a {type(model).__name__}; expected a keras.Model")
    if not getattr(model, "inputs", None):
        raise ExportError(f"model {model.name!r} is not a sequential or functional model with a known input; build it")
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.inputs[0].shape) != 3:
        shapes = [tensor.shape for tensor in [*model.inputs, *model.outputs]]
        raise ExportError(
            f"model {model.name!r} has inputs and outputs of the shapes {shapes}; expected one input "
            "(batch, time, features) and one output"
        )
    layers, tensor = [], model.outputs[0]
    while tensor is not model.inputs[0]:
        layer, call, _ = tensor._keras_history
        _check(layer, layers)
        tensors = layer._inbound_nodes[call].input_tensors
        if len(tensors) != 1:
            raise ExportError(
                f"layer {layer.name!r} is called with {len(tensors)} tensors; NIR takes a chain of layers"
            )
        layers.append(layer)
        tensor = tensors[0]
    return [layer for layer in reversed(layers) if not isinstance(layer, keras.layers.Dropout)]


def _check(layer, others):
    """Raise ExportError unless NIR has a form for `layer`, which is not yet among `others`."""
    wrong = None
    if any(layer is other for other in others):
        wrong = "is called twice; make two layers of it"
    elif isinstance(layer, keras.layers.RNN):
        if type(layer.cell) is not LIFCell:  # what inherits from it may compute something else
            wrong = f"has a cell of the type {type(layer.cell).__name__}, and NIR a form for LIF only"
        elif layer.go_backwards:
            wrong = "goes backwards, and neurons do not; set go_backwards=False"
        elif layer.return_state:
            wrong = "returns its states; set return_state=False"
    elif type(layer) is keras.layers.Dense:
        if layer.activation is not keras.activations.linear:
            wrong = "has an activation, and NIR has none; leave it out, or let LIF follow"
        elif layer.quantization_mode is not None:
            wrong = "is quantized; export the model before it is"
    elif not isinstance(layer, keras.layers.Dropout):
        wrong = (
            f"is a {type(layer).__name__}, and NIR takes Dense, LIF and Dropout only; export the model up to it, "
            "as keras.Model(model.inputs, the output of the layer before)"
        )
    if wrong:
        raise ExportError(f"layer {layer.name!r} {wrong}")


def _time_step(model, layers):
    steps = {layer.cell.time_step for layer in layers if hasattr(layer, "cell")}
    if not steps:
        raise ExportError(f"model {model.name!r} has no LIF layer; expected at least one")
    if len(steps) > 1:
        raise ExportError(
            f"the LIF layers of model {model.name!r} have time steps of {', '.join(map(str, sorted(steps)))} s; "
            "a graph runs at one: give all layers the same"
        )
    return steps.pop()
