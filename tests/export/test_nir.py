"""A spiking network read back from its NIR file and run by NIR's equations fires as the model does."""

import sys

import keras
import nir
import numpy as np
import pytest
from keras import ops
from litert_runs import assert_same, model_answers, randomise
from onnx_runs import assert_exports

from zoo import export
from zoo.errors import ExportError, SettingError
from zoo.layers import LIF, GRUCell, LIFCell, Recurrent

TIME, FEATURES = 30, 6
SETTINGS = {"time_constant": 0.008, "time_step": 0.002, "threshold": 0.7, "return_sequences": True}


def spike_trains(batch=5):
    return (np.random.default_rng(3).random((batch, TIME, FEATURES)) < 0.3).astype("float32")


def network(*layers):
    return keras.Sequential([keras.Input((TIME, FEATURES)), *layers])


def simulate(graph, x, time_step):
    """Run a NIR graph over x (batch, time, features) from its equations in float64.

    Forward Euler; a value goes along an edge to a later node within the step, to an earlier one in the next step.

    Returns:
        The output (batch, time, ...), and the smallest distance of a voltage from its threshold.
    """
    order = ["input"]
    for name in order:  # grows: breadth first
        order.extend(target for source, target in graph.edges if source == name and target not in order)
    assert sorted(order) == sorted(graph.nodes)
    values = {name: np.zeros((len(x), *np.ravel(graph.nodes[name].output_type["output"]))) for name in order}
    voltages = {name: np.zeros_like(values[name]) for name in order}
    outputs, margin = [], np.inf
    for t in range(x.shape[1]):
        for name in order:
            node, arrives = graph.nodes[name], sum(values[a] for a, b in graph.edges if b == name)
            match node:
                case nir.Input():
                    values[name] = x[:, t].astype("float64")
                case nir.Output():
                    outputs.append(arrives)
                case nir.Affine():
                    values[name] = arrives @ node.weight.T.astype("float64") + node.bias
                case nir.Linear():
                    values[name] = arrives @ node.weight.T.astype("float64")
                case nir.LIF():
                    change = (node.v_leak - voltages[name] + node.r.astype("float64") * arrives) / node.tau
                    voltage = voltages[name] + time_step * change
                    margin = min(margin, np.abs(voltage - node.v_threshold).min())
                    values[name] = (voltage > node.v_threshold).astype("float64")
                    voltages[name] = np.where(values[name] > 0, node.v_reset, voltage)
    return np.stack(outputs, axis=1), margin


def read_back(model, folder):
    path = export.to_nir(model, folder / "spikes.nir")
    graph = nir.read(path)
    output, margin = simulate(graph, spike_trains(), float(graph.metadata["time_step"]))
    assert margin > 1e-5  # or the rounding of float32 could decide on a spike
    return output


def answers(model):
    return ops.convert_to_numpy(model(spike_trains(), training=False))


def test_a_trained_network_fires_as_its_file_does(tmp_path):
    model = network(
        LIF(16, **SETTINGS, recurrent=True, name="first"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(12, use_bias=False),
        LIF(8, **{**SETTINGS, "time_constant": 0.004}, recurrent=True),
        keras.layers.Dense(6, name="output"),
        Recurrent(LIFCell(4, time_step=0.002), return_sequences=True),
    )
    randomise(model, spread=0.6)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(spike_trains(), spike_trains()[:, ::-1, :4], epochs=2, verbose=0)
    expected = answers(model)
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(read_back(model, tmp_path), expected)


def test_a_readout_without_spikes_leaves_as_an_affine_map(tmp_path):
    model = randomise(network(LIF(8, **SETTINGS), keras.layers.Dense(3)))
    # float32 against float64: sums of eight spikes times weights near 1
    np.testing.assert_allclose(read_back(model, tmp_path), answers(model), atol=1e-5)


def test_a_model_of_the_last_step_is_the_last_step_of_its_graph(tmp_path):
    model = randomise(network(LIF(8, **SETTINGS), LIF(5, **{**SETTINGS, "return_sequences": False}, recurrent=True)))
    np.testing.assert_array_equal(read_back(model, tmp_path)[:, -1], answers(model))


def test_the_file_holds_the_equation_of_the_layer_in_float32(tmp_path):
    model = randomise(network(LIF(8, **SETTINGS, recurrent=True, name="a")))
    graph = nir.read(export.to_nir(model, tmp_path / "spikes.nir"))
    assert set(graph.edges) == {
        ("input", "a_affine"),
        ("a_affine", "a_lif"),
        ("a_lif", "a_recurrent"),
        ("a_recurrent", "a_lif"),
        ("a_lif", "output"),
    }
    neurons = graph.nodes["a_lif"]
    for name, value in {"tau": 0.008, "r": 4.0, "v_leak": 0.0, "v_threshold": 0.7, "v_reset": 0.0}.items():
        np.testing.assert_array_equal(getattr(neurons, name), np.full(8, value, "float32"))
    weights = [graph.nodes["a_affine"].weight, graph.nodes["a_affine"].bias, graph.nodes["a_recurrent"].weight]
    for ours, theirs in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs.T)
    # what readers built on torch multiply must be of one type
    assert {a.dtype for a in [*weights, neurons.tau, neurons.r, neurons.v_threshold]} == {np.dtype("float32")}


def functional(make):
    """The model of what `make` does to its input."""
    inputs = keras.Input((TIME, FEATURES))
    return keras.Model(inputs, make(inputs))


def called_twice(inputs):
    layer = LIF(FEATURES, **SETTINGS, name="it")
    return layer(layer(inputs))


def with_a_second_input():
    inputs, states = keras.Input((TIME, FEATURES)), [keras.Input((4,)) for _ in range(2)]
    return keras.Model([inputs, *states], LIF(4)(inputs, initial_state=states))


def started_from_another(inputs):
    _, *states = LIF(4, return_state=True)(inputs)
    return LIF(4, name="it")(inputs, initial_state=states)


def quantized():
    dense = keras.layers.Dense(4, name="it")
    model = network(LIF(4, **SETTINGS), dense)
    dense.quantize("int8")
    return model


UNUSABLE = {
    "another layer": (lambda: network(keras.layers.LayerNormalization(name="it")), "'it' is a LayerNormalization"),
    "what is no layer": (lambda: functional(lambda x: LIF(4, **SETTINGS)(x) * 2.0), "is a Multiply"),
    "two ways": (
        lambda: functional(lambda x: keras.layers.Add(name="it")([x, LIF(6, **SETTINGS)(x)])),
        "'it' is a Add",
    ),
    "an activation": (lambda: network(keras.layers.Dense(4, "relu", name="it")), "'it' has an activation"),
    "int8": (quantized, "'it' is quantized"),
    "another cell": (lambda: network(Recurrent(GRUCell(4), name="it")), "'it' has a cell of the type GRUCell"),
    "backwards": (lambda: network(LIF(4, go_backwards=True, name="it")), "'it' goes backwards"),
    "a state": (lambda: functional(lambda x: LIF(4, return_state=True, name="it")(x)[1]), "'it' returns its states"),
    "an initial state": (lambda: functional(started_from_another), "'it' is called with 3 tensors"),
    "one layer twice": (lambda: functional(called_twice), "'it' is called twice"),
    "many inputs": (with_a_second_input, "expected one input"),
    "no LIF": (lambda: network(keras.layers.Dense(4)), "no LIF layer"),
    "two time steps": (lambda: network(LIF(4, **SETTINGS), LIF(4)), r"time steps of 0\.001, 0\.002 s"),
    "never built": (lambda: keras.Sequential([LIF(4)]), "build it"),
    "no model": (lambda: LIF(4), "expected a keras.Model"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_nir_cannot_say_is_refused_by_name_and_leaves_no_file(name, tmp_path):
    make, message = UNUSABLE[name]
    with pytest.raises(ExportError, match=message):
        export.to_nir(make(), tmp_path / "spikes.nir")
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_is_not_overwritten(tmp_path):
    (tmp_path / "spikes.nir").write_text("kept")
    with pytest.raises(SettingError, match="exists already"):
        export.to_nir(network(LIF(4)), tmp_path / "spikes.nir")
    assert (tmp_path / "spikes.nir").read_text() == "kept"


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ExportError, match=r"pip install 'recurrent-zoo\[nir\]'"):
        export.to_nir(network(LIF(4)), tmp_path / "spikes.nir")


@pytest.mark.on_tensorflow
def test_neurons_without_a_way_back_leave_as_tflite_and_onnx_too(tmp_path):
    """The table of layers has recurrent ones."""
    model = randomise(network(LIF(8, **SETTINGS), keras.layers.Dense(3)))
    inputs = {model.inputs[0].name: spike_trains(1)}
    assert_same(export.to_tflite(model, tmp_path / "m.tflite"), inputs, model_answers(model, inputs))
    assert_exports(model, tmp_path, inputs)
