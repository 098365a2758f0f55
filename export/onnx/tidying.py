"""Bring a converted graph into its final form: the same bytes for the same model, and nothing in it but the model."""

import re

import onnx

from zoo.export.onnx.graphs import subgraphs


def tidy(graph, name):
    """Give the graph stable names, keep one copy of equal constants, drop hints and descriptions; in place."""
    graph.name, graph.doc_string = name, ""
    for part in subgraphs(graph):
        _share_constants(part)
        del part.value_info[:]
        part.doc_string = ""
        for node in part.node:
            node.doc_string = ""
            kept = [attribute for attribute in node.attribute if not attribute.name.startswith("_")]
            del node.attribute[:]
            node.attribute.extend(kept)
    for value in graph.output:
        _forget_names_of_sizes(value)
    for value in graph.input:
        _forget_names_of_sizes(value)
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    _rename(graph)
    return graph


def _forget_names_of_sizes(value):
    for size in value.type.tensor_type.shape.dim:
        if not size.HasField("dim_value"):
            size.Clear()


def _share_constants(graph):
    """Keep one of all constants with the same type, shape and content."""
    first, same = {}, {}
    kept = []
    for constant in graph.initializer:
        value = onnx.numpy_helper.to_array(constant)
        key = (constant.data_type, value.shape, value.tobytes())
        if key in first:
            same[constant.name] = first[key]
        else:
            first[key] = constant.name
            kept.append(constant)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for part in subgraphs(graph):
        for node in part.node:
            node.input[:] = [same.get(name, name) for name in node.input]


def _rename(graph):
    """Number names by their place in the graph: tf2onnx counts on from one conversion to the next."""
    fixed = {value.name for value in (*graph.input, *graph.output)}
    names = {"": "", **{name: name for name in fixed}}
    taken = set(fixed)

    def renamed(name):
        if name not in names:
            base = re.sub(r"__\d+", "", name).removeprefix("StatefulPartitionedCall/").removesuffix(":0")
            candidate, number = base, 1
            while candidate in taken:
                number += 1
                candidate = f"{base}.{number}"
            taken.add(candidate)
            names[name] = candidate
        return names[name]

    nodes = 0
    for part in subgraphs(graph):
        for constant in part.initializer:
            constant.name = renamed(constant.name)
        for node in part.node:
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
        if part is not graph:
            for value in (*part.input, *part.output):
                value.name = renamed(value.name)
    for part in subgraphs(graph):
        for node in part.node:
            node.name = f"{node.op_type}_{nodes}" if not node.output else f"{node.output[0] or node.output[1]}"
            nodes += 1
