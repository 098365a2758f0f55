"""Small tools for ONNX graphs."""

import numpy as np
import onnx


class Nodes:
    """Nodes and constants to be added to a graph, all named below `scope`."""

    def __init__(self, scope):
        self.scope = scope
        self.nodes = []
        self.constants = []

    def constant(self, value, name):
        """Add a constant and return its name."""
        name = f"{self.scope}/{name}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op, inputs, outputs=None, **attributes):
        """Add a node; return the name of its first output, made up unless `outputs` gives names."""
        name = f"{self.scope}/{op}_{len(self.nodes)}"
        outputs = outputs or [f"{name}:0"]
        self.nodes.append(onnx.helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs[0]


def subgraphs(graph):
    """Return `graph` and every graph in the attributes of its nodes, at any depth."""
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found.extend(subgraphs(inner))
    return found


def consumed_names(graph):
    """Return the names of all tensors that a node or the outside reads, subgraphs included."""
    names = set()
    for part in subgraphs(graph):
        names.update(value.name for value in part.output)
        for node in part.node:
            names.update(node.input)
    return names


def free_names(graph):
    """Return the names that `graph` reads of the graph around it."""
    made = set()
    for part in subgraphs(graph):
        made.update(value.name for value in (*part.input, *part.initializer))
        made.update(name for node in part.node for name in node.output)
    return consumed_names(graph) - made
