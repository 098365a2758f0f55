"""From a Keras model to verified files for a device.

`plan` says how each recurrent layer leaves, `to_tflite` and `to_onnx` write files, `verify` runs them in the runtime
that a device uses, `bundle` writes all that a device needs into one folder. `rule` adds a native form for a cell.
`to_nir` writes a spiking network for neuromorphic hardware.
"""

import importlib

_HOMES = {
    "prune": "zoo.export.pruning",
    "Pruning": "zoo.export.pruning.callback",
    "sparsity_report": "zoo.export.pruning.report",
    "gzipped_size": "zoo.export.pruning.report",
    "distil": "zoo.export.distillation",
    "plan": "zoo.export.planning",
    "to_tflite": "zoo.export.tflite",
    "to_onnx": "zoo.export.onnx.exporting",
    "to_c_array": "zoo.export.tflite.micro",
    "arena_size": "zoo.export.tflite.micro_runtime",
    "to_nir": "zoo.export.nir",
    "verify": "zoo.export.verification",
    "quantization_error": "zoo.export.layer_errors",
    "leads": "zoo.export.streaming",
    "bundle": "zoo.export.bundling",
    "quantize_aware": "zoo.export.qat",
    "rule": "zoo.export.rules",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zoo.export' has no attribute {name!r}; it has {', '.join(__all__)}")
