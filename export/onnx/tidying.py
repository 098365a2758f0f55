"""Bring a converted graph into its final form: the same bytes for the same model, and nothing in it but the model.

tf2onnx numbers names on from one conversion to the next, and the order of its constants differs from run to run. So
order and names are made anew here, from what the graph computes.
"""

import re

import onnx

from zoo.export.onnx.graphs import free_names, subgraphs


def tidy(graph, name):
    """Give `graph` stable order and names, one copy of equal constants, no dead nodes, hints or descriptions."""
    graph.name = name
    for part in reversed(subgraphs(graph)):  # innermost first: a node that moves takes a copy of its graphs along
        _skip_identities(part)
    _share_constants(graph)
    for part in reversed(subgraphs(graph)):
        _sort(part)
        del part.value_info[:]
        part.doc_string = ""
        for node in part.node:
            node.doc_string = ""
            kept = [attribute for attribute in node.attribute if not attribute.name.startswith("_")]
            del node.attribute[:]
            node.attribute.extend(sorted(kept, key=lambda attribute: attribute.name))
        for value in (*part.input, *part.output):
            for size in value.type.tensor_type.shape.dim:
                if not size.HasField("dim_value"):
                    size.Clear()
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    _rename(graph)
    return graph


def _skip_identities(graph):
    """Let what reads a copy of a tensor read the tensor; copies remain where a graph's output needs one."""
    copies = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}

    def source(name):
        while name in copies:
            name = copies[name]
        return name

    kept = [node for node in graph.node if node.op_type != "Identity"]
    own = {name for node in kept for name in node.output}
    called = {}
    for output in graph.output:
        name = source(output.name)
        if name in own and name not in called:
            called[name] = output.name
    _replace_names(graph, lambda name: called.get(source(name), source(name)))
    for node in kept:
        node.output[:] = [called.get(name, name) for name in node.output]
    for output in graph.output:
        name = called.get(source(output.name), source(output.name))
        if name != output.name:
            kept.append(onnx.helper.make_node("Identity", [name], [output.name]))
    del graph.node[:]
    graph.node.extend(kept)


def _share_constants(graph):
    """Keep one of all constants with the same type, shape and content, in the outermost graph."""
    kept, same = {}, {}
    for part in subgraphs(graph):
        for constant in part.initializer:
            value = onnx.numpy_helper.to_array(constant)
            first = kept.setdefault((constant.data_type, value.shape, value.tobytes()), constant)
            same[constant.name] = first.name
    constants = list(kept.values())
    for part in subgraphs(graph):
        del part.initializer[:]
    graph.initializer.extend(constants)
    _replace_names(graph, lambda name: same.get(name, name))


def _replace_names(graph, replacement):
    for part in subgraphs(graph):
        for node in part.node:
            node.input[:] = [replacement(name) for name in node.input]


def _sort(graph):
    """Put nodes in the order in which the outputs ask for them, and drop those that no output asks for."""
    makers = {name: node for node in graph.node for name in node.output if name}
    reads = {id(node): _read_by(node) for node in graph.node}
    order, done = [], set()
    for output in graph.output:
        pending = [output.name]
        while pending:
            node = makers.get(pending[-1])
            missing = [n for n in reads[id(node)] if n in makers and id(makers[n]) not in done] if node else []
            if node is None or id(node) in done:
                pending.pop()
            elif missing:
                pending.append(missing[0])
            else:
                pending.pop()
                done.add(id(node))
                order.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
    del graph.node[:]
    graph.node.extend(copies)


def _read_by(node):
    inner = [free_names(a.g) for a in node.attribute if a.HasField("g")]
    return [*node.input, *sorted(set().union(*inner))]


def _rename(graph):
    """Name nodes and tensors after their scopes, numbered by their place; constants after what reads them first."""
    names = {"": "", **{value.name: value.name for value in (*graph.input, *graph.output)}}
    taken = set(names)
    constants = {constant.name for constant in graph.initializer}

    def add(name, wish):
        if name not in names:
            wish = re.sub(r"__\d+|^StatefulPartitionedCall/|:0$", "", wish)
            names[name], number = wish, 1
            while names[name] in taken:
                number += 1
                names[name] = f"{wish}.{number}"
            taken.add(names[name])

    for part in subgraphs(graph):
        for value in (*part.input, *part.output):
            add(value.name, value.name)
        for node in part.node:
            for name in node.output:
                add(name, name)
            node.name = next(names[name] for name in node.output if name)
            for place, name in enumerate(node.input):
                if name in constants:
                    add(name, f"{node.name}/input_{place}")
    for part in subgraphs(graph):
        for node in part.node:
            node.input[:] = [names[name] for name in node.input]
            node.output[:] = [names[name] for name in node.output]
        for value in (*part.input, *part.output):
            value.name = names[value.name]
    used = [constant for constant in graph.initializer if constant.name in names]
    used = [onnx.TensorProto.FromString(constant.SerializeToString()) for constant in used]
    for constant in used:
        constant.name = names[constant.name]
    del graph.initializer[:]
    graph.initializer.extend(sorted(used, key=lambda constant: constant.name))
