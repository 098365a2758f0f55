"""What recurrent training needs beside `keras.Model.fit`: callbacks, trainers, and batches that can go on."""

import importlib

_MODULES = {  # name: the file that has it
    "ArrayBatches": "batches",
    "BucketBatches": "bucket_batches",
    "Cluster": "cluster",
    "Diagnosis": "diagnosis",
    "EpochBatches": "batches",
    "NoisyAdam": "gradient_noise",
    "NoisySGD": "gradient_noise",
    "OnlineLearner": "online_learner",
    "RTRL": "rtrl",
    "Resume": "resume",
    "TruncatedBPTT": "truncated_bptt",
    "distributed": "many_devices",
    "kept": "feature_cache",
    "share": "shared_batches",
    "share_files": "shared_batches",
    "together": "batches",
}
__all__ = list(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'zoo.train' has no attribute {name!r}; it has {', '.join(_MODULES)}")


def __dir__():
    return __all__
