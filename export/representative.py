"""Examples of what a device will see, from which the schemes that calibrate learn the ranges of activations."""

import numpy as np

from zoo.errors import DataError

_NAME = "representative_data"
LEAST, LARGEST = 1e-19, 1e19  # a product of two numbers beyond these is no float32 any more


def read_representative(data, specs, *, open_time=False):
    """Return `data` as {input name: array}, checked, the first axis counting examples.

    Args:
        data: an array for a model of one input; {input name: array}; or an iterable of examples, each an array or
            {input name: array} without the axis that counts.
        specs: list of `tf.TensorSpec`, the inputs of the model.
        open_time: whether the second axis may be longer than the spec's, which is a chunk of it.

    Raises:
        DataError: no examples, another shape, text, a value that is not finite or that is larger than `LARGEST`,
            nothing as large as `LEAST`, or the same value everywhere.
    """
    names = [spec.name for spec in specs]
    if isinstance(data, dict):
        if set(data) != set(names):
            raise DataError(f"{_NAME} is for the inputs {', '.join(map(str, data))}; the model has {', '.join(names)}")
        arrays = {name: as_array(data[name], f"{_NAME} for {name!r}") for name in names}
    elif hasattr(data, "__array__"):
        if len(names) != 1:
            raise DataError(f"{_NAME} is one array; the model has the inputs {', '.join(names)}: give a dict of arrays")
        arrays = {names[0]: as_array(data, _NAME)}
    else:
        arrays = _gather(data, names)
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if not all(counts.values()):
        raise DataError(f"{_NAME} is empty; give some hundred examples of what the device will see")
    if len(set(counts.values())) > 1:
        raise DataError(f"{_NAME} has {counts} examples; expected as many for each input")
    return {spec.name: _checked(arrays[spec.name], spec, open_time) for spec in specs}


def _gather(data, names):
    """Stack an iterable of examples."""
    try:
        examples = list(data)
    except TypeError:
        raise DataError(
            f"{_NAME} is a {type(data).__name__}; expected an array, a dict of arrays, or examples"
        ) from None
    examples = [example if isinstance(example, dict) else {names[0]: example} for example in examples]
    for number, example in enumerate(examples):
        if set(example) != set(names):
            raise DataError(
                f"example {number} of {_NAME} is for the inputs {', '.join(map(str, example))}; the model has "
                f"{', '.join(names)}: give each example as a dict"
            )
    return {name: as_array([example[name] for example in examples], f"{_NAME} for {name!r}") for name in names}


def as_array(values, name):
    """Return examples as an array; raise DataError, which tells their `name`, if their shapes differ."""
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"the examples of {name} have different shapes; make them alike") from None


def _checked(array, spec, open_time):
    expected = tuple(spec.shape)[1:]
    found = array.shape[1:]
    fits = len(found) == len(expected) and all(e in (None, f) for e, f in zip(expected, found, strict=True))
    if not fits and open_time and len(found) == len(expected) and found[1:] == expected[1:]:
        fits = found[0] >= expected[0]
    if not fits:
        wanted = ", ".join(["examples", *("any" if size is None else str(size) for size in expected)])
        raise DataError(f"{_NAME} for input {spec.name!r} has shape {array.shape}; expected ({wanted})")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{_NAME} for input {spec.name!r} holds {array.dtype}; expected numbers")
    if not array.size:
        raise DataError(f"{_NAME} for input {spec.name!r} has shape {array.shape}, which holds no numbers")
    if spec.dtype.is_floating:
        _check_size(np.abs(array), array, spec.name)
    array = array.astype(spec.dtype.as_numpy_dtype)
    if array.size > 1 and array.min() == array.max():
        raise DataError(
            f"{_NAME} for input {spec.name!r} is {array.flat[0]} everywhere, which shows no range; give examples of "
            "what the device will see"
        )
    return array


def _check_size(size, array, name):
    if not size.max() <= LARGEST:  # as of NaN
        at = [int(i) for i in np.argwhere(~(size <= LARGEST))[0]]
        raise DataError(
            f"{_NAME} for input {name!r} is {array[tuple(at)]:.3g} at {at}; expected numbers of at most {LARGEST:.0e}: "
            "leave such examples out"
        )
    if 0 < size.max() < LEAST:
        raise DataError(
            f"{_NAME} for input {name!r} is {size.max():.3g} at most; expected numbers of at least {LEAST:.0e}: let "
            "the model take them in another unit"
        )


def check_range(name, least, greatest):
    """Raise DataError if a tensor that is to be int8 becomes more than `LARGEST`, or no number, on examples."""
    if not (least >= -LARGEST and greatest <= LARGEST):  # as of NaN
        raise DataError(
            f"{name!r} becomes {least:.3g} to {greatest:.3g} on {_NAME}; expected numbers of at most {LARGEST:.0e}: "
            "leave its layer in float32 with keep_float, or change the data"
        )
