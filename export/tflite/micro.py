"""A file for TFLite Micro: whether it has the ops, which to register, and the file as C++ source."""

import os
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from zoo.errors import ExportError, SettingError
from zoo.export import options
from zoo.export.contents import file_at, read_bytes
from zoo.export.tflite.flatbuffer import op_histogram, shape_of

# The ops that the interpreter of the package tflite-micro has kernels for; none was left out of its resolver.
_OPS = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED
    GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE
    TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""
OPS = frozenset(_OPS.split())
_SELECTED = (schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.INT16)  # its SELECT_V2 takes these
_SPELLED = {"MATMUL": "MatMul", "CUMSUM": "CumSum", "PADV2": "PadV2", "LSTM": "LSTM"}  # as in the resolver's methods


def renew_selects(editor):
    """Let SELECT of operands of one shape be SELECT_V2, which does the same, where TFLite Micro has that."""
    for graph in editor.model.subgraphs:
        for place, operator in enumerate(graph.operators):
            if editor.name(operator) != "SELECT":
                continue
            shapes = {tuple(shape_of(graph.tensors[index])) for index in operator.inputs}
            if len(shapes) == 1 and graph.tensors[operator.outputs[0]].type in _SELECTED:
                ends = operator.inputs, operator.outputs
                graph.operators[place] = editor.operator("SELECT_V2", *ends, schema.SelectV2OptionsT())


def check_ops(editor):
    """Raise ExportError if the model in `editor` needs an op that TFLite Micro has no kernel for."""
    for graph in editor.model.subgraphs:
        for operator in graph.operators:
            name = editor.name(operator)
            if name not in OPS:
                where = graph.tensors[operator.outputs[0]].name.decode() if operator.outputs else "unknown"
                raise ExportError(
                    f"TFLite Micro has no {name}, which computes {where!r}; write that layer with other keras.ops, or "
                    "compute it outside the exported model"
                )


def registrations(path):
    """Return the calls that add a file's ops to a `tflite::MicroMutableOpResolver`, such as "AddFullyConnected".

    Args:
        path: a .tflite file.

    Raises:
        DataError: no such file, or not of this format.
        ExportError: an op that TFLite Micro does not have.
    """
    names = list(op_histogram(path))
    missing = [name for name in names if name not in OPS]
    if missing:
        raise ExportError(
            f"TFLite Micro has no {missing[0]}, which {Path(path).name} needs; export it for target 'mcu'"
        )
    return ["Add" + "".join(map(_spelled, name.split("_"))) for name in names]


def _spelled(part):
    return _SPELLED.get(part, part if part[0].isdigit() else part.capitalize())


def to_c_array(path, folder):
    """Write a TFLite file as C++ source that a microcontroller's program compiles in.

    `model_data.cc` holds the bytes, aligned to 16 as TFLite Micro wants them, and constant, so that they stay in flash.
    `model_data.h` declares them, and has a function that registers the ops that the model needs and no others.

    Args:
        path: a .tflite file, exported for target "mcu".
        folder: where to write both files; made if need be. Neither may exist in it.

    Returns:
        The paths of the source and the header.

    Raises:
        DataError: no such file, or not of this format.
        ExportError: an op that TFLite Micro does not have.
        SettingError: one of the files exists, or the folder cannot be written to.
    """
    folder = options.as_path(folder, "folder", "a folder to write model_data.cc and model_data.h to")
    path = file_at(path, "a .tflite model")
    calls, data = registrations(path), read_bytes(path)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise SettingError(f"{folder} is a file; name a folder to write model_data.cc and model_data.h to")
    source, header = folder / "model_data.cc", folder / "model_data.h"
    for each in (source, header):
        if os.path.exists(each):
            raise SettingError(f"{each} exists already; remove it or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{folder} cannot be made: {error.strerror}") from error
    options.write(header, _header(calls, path.name).encode())
    try:
        options.write(source, _source(data, path.name).encode())
    except BaseException:
        header.unlink(missing_ok=True)
        raise
    return source, header


def _source(data, name):
    rows = [", ".join(f"0x{byte:02x}" for byte in data[i : i + 16]) for i in range(0, len(data), 16)]
    return "\n".join(
        [
            f"// {name}, written by recurrent-zoo.",
            '#include "model_data.h"',
            "",
            "alignas(16) const unsigned char g_model_data[] = {",
            *(f"    {row}," for row in rows),
            "};",
            f"const unsigned int g_model_data_size = {len(data)};",
            "",
        ]
    )


def _header(calls, name):
    added = " &&\n         ".join(f"resolver.{call}() == 0" for call in calls)
    return f"""// {name}, written by recurrent-zoo.
#ifndef RECURRENT_ZOO_MODEL_DATA_H_
#define RECURRENT_ZOO_MODEL_DATA_H_

extern const unsigned char g_model_data[];
extern const unsigned int g_model_data_size;

// How many ops the model needs: the size of the tflite::MicroMutableOpResolver.
constexpr unsigned int kModelOpCount = {len(calls)};

// Adds them to the resolver; false if one could not be added.
template <typename Resolver>
bool AddModelOps(Resolver& resolver) {{
  return {added};
}}

#endif  // RECURRENT_ZOO_MODEL_DATA_H_
"""
