"""How small a file is that holds a small network: the size of the file itself, not of its weights."""

import gzip

import keras
import numpy as np
import pytest
from litert_runs import assert_same, model_answers, sequences

from zoo import export
from zoo.layers import FastGRNN

STEPS, CHANNELS, ACTIVITIES = 128, 9, 6  # a window of accelerometer and gyroscope, as in human activity recognition


def fast_grnn(units, input_rank, recurrent_rank):
    layer = FastGRNN(units, input_rank, recurrent_rank, density=0.3)
    model = keras.Sequential([keras.Input((STEPS, CHANNELS), name="x"), layer, keras.layers.Dense(ACTIVITIES)])
    for weight in layer.cell.trainable_variables:
        if weight.constraint is not None:  # as every training step does
            weight.assign(weight.constraint(weight))
    return model


@pytest.mark.parametrize("target", ["linux", "mcu"])
@pytest.mark.parametrize(("units", "ranks", "most"), [(16, (4, 6), 9_000), (32, (8, 8), 12_000)])
def test_a_sparse_fast_grnn_of_low_rank_is_a_file_of_a_few_kilobytes(units, ranks, most, target, tmp_path):
    model, x = fast_grnn(units, *ranks), {"x": sequences(1, STEPS, CHANNELS, spread=1.0)}
    path = export.to_tflite(model, tmp_path / "m.tflite", target=target)
    assert_same(path, x, model_answers(model, x))
    content = path.read_bytes()
    # Four bytes for each weight, zeros too; the rest is the graph.
    assert 4 * model.count_params() < len(content) < most
    # Seven of ten entries are zero, which no op of TFLite makes use of but a download does.
    dense = np.count_nonzero(np.concatenate([np.ravel(w) for w in model.get_weights()]))
    assert dense < 0.5 * model.count_params()
    assert len(gzip.compress(content)) < 0.5 * len(content)
