"""Rewrite the nodes of a tidied ONNX graph, those in the bodies of its loops too, for the schemes."""

import numpy as np
import onnx

from zoo.export.onnx.graphs import Nodes, subgraphs
from zoo.export.trace import FLOAT_SCOPE


class Rewriter:
    """A graph and the constants that it and the bodies of its loops read, all kept in the outermost.

    Args:
        graph: tidied, so that no two constants or nodes anywhere in it share a name; it is changed in place.
    """

    def __init__(self, graph):
        self.graph = graph
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._front = Nodes("")  # what the outermost graph computes first of all

    def weights(self, node, place):
        """Return the float32 constant that `node` reads at `place`; None where it reads something else."""
        found = self._constants.get(node.input[place]) if place < len(node.input) else None
        if found is None or found.data_type != onnx.TensorProto.FLOAT:
            return None
        return onnx.numpy_helper.to_array(found)

    def constant(self, value, name):
        """Add a constant, unless there is one of this name, and return the name."""
        if name not in self._constants:
            self._constants[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
            self.graph.initializer.append(self._constants[name])
        return name

    def int8(self, name, over):
        """Add constant `name` in int8; return its name there, that name's beginning, and its scale as `symmetric`."""
        small, scale = symmetric(onnx.numpy_helper.to_array(self._constants[name]), over)
        begin = "_".join([f"{name}/over", *map(str, over)])
        return self.constant(small, f"{begin}/int8"), begin, scale

    def once(self, op, inputs, output, **attributes):
        """Let the outermost graph compute `output` before all else, unless it does; return the name."""
        if not any(output in node.output for node in self._front.nodes):
            self._front.add(op, inputs, [output], **attributes)
        return output

    def each_node(self, rewrite):
        """Replace every node by those that `rewrite(node, nodes)` adds to `nodes`, a `Nodes` of its own scope.

        Where it returns False the node stays, with what was changed in it. All nodes of layers that stay float do.
        """
        for part in reversed(subgraphs(self.graph)):  # innermost first: a node that is kept takes a copy of its graphs
            kept = []
            for node in list(part.node):
                nodes = Nodes(node.name)
                if FLOAT_SCOPE not in node.name and rewrite(node, nodes) is not False:
                    kept.extend(nodes.nodes)
                else:
                    kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            del part.node[:]
            part.node.extend(kept)
        for node in reversed(self._front.nodes):
            self.graph.node.insert(0, node)


def symmetric(value, over):
    """Return `value` in int8 and its scale, one for all that lies along the axes `over`, which it keeps at size 1."""
    largest = np.abs(value).max(axis=over, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)  # 127, not 128: the same on both sides of zero
    return np.round(value / scale).astype(np.int8), scale
