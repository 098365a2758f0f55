"""What the doctor says of cuDNN, against what Keras then does."""

import keras
import numpy as np
import pytest

from zoo import layers
from zoo.cli import main
from zoo.train.doctor import cudnn_report

LAYERS = {
    "lstm": (lambda: keras.layers.LSTM(3), ""),
    "gru": (lambda: keras.layers.GRU(3), ""),
    "lstm with dropout": (lambda: keras.layers.LSTM(3, dropout=0.5, return_sequences=True), ""),
    "relu": (lambda: keras.layers.LSTM(3, activation="relu"), "activation is 'relu', expected 'tanh'"),
    "hard sigmoid": (lambda: keras.layers.GRU(3, recurrent_activation="hard_sigmoid"), "recurrent_activation is"),
    "unrolled": (lambda: keras.layers.LSTM(3, unroll=True), "unroll is True, expected False"),
    "no bias": (lambda: keras.layers.LSTM(3, use_bias=False), "use_bias is False"),
    "recurrent dropout": (lambda: keras.layers.LSTM(3, recurrent_dropout=0.1), "recurrent_dropout is 0.1"),
    "switched off": (lambda: keras.layers.LSTM(3, use_cudnn=False), "use_cudnn is False"),
    "old GRU": (lambda: keras.layers.GRU(3, reset_after=False), "reset_after is False"),
    "simple": (lambda: keras.layers.SimpleRNN(3), "cuDNN has LSTM and GRU alone"),
    "a cell": (lambda: keras.layers.RNN(keras.layers.LSTMCell(3)), "runs LSTMCell step by step"),
    "ours": (lambda: layers.PeepholeLSTM(3), "has other gates"),
}


@pytest.fixture
def tried(monkeypatch):
    """A list that Keras, believing in a GPU, adds to when it calls cuDNN; that it then finds missing."""
    module = pytest.importorskip(f"keras.src.backend.{keras.backend.backend()}.rnn")
    seen = []

    def call(*arguments, **options):
        seen.append(True)
        raise NotImplementedError

    if keras.backend.backend() == "tensorflow":
        for name in ("_cudnn_lstm", "_cudnn_gru"):
            monkeypatch.setattr(module, name, call)
        monkeypatch.setattr(module, "_is_gpu_available", lambda: True)
    elif keras.backend.backend() == "jax":
        import jax.experimental.rnn

        monkeypatch.setattr(jax.experimental.rnn, "lstm", call)
        monkeypatch.setattr(module, "_is_gpu_available", lambda: True)
    else:
        pytest.skip("torch looks for its GPU at each tensor")
    return seen


@pytest.mark.parametrize("wrap", [False, True], ids=["alone", "in both directions"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_is_said_to_run_on_cudnn_calls_it_and_no_other(tried, name, wrap):
    make, reason = LAYERS[name]
    layer = make()
    if wrap:
        layer = keras.layers.Bidirectional(layer)
    model = keras.Sequential([keras.Input((4, 2)), layer])
    findings = cudnn_report(model)
    tried.clear()
    model(np.ones((2, 4, 2), "float32"))
    assert len(findings) == 1 + wrap
    assert all(bool(one.prevented_by) != bool(tried) for one in findings)
    if reason:
        assert all(reason in str(one) for one in findings)


def test_a_mask_is_no_hindrance_on_tensorflow_alone():
    tokens = keras.Input((None,))
    x = keras.layers.Embedding(5, 3, mask_zero=True)(tokens)
    x = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True), name="both")(x)
    model = keras.Model(tokens, keras.layers.LSTM(2, name="last")(x))
    found = {backend: cudnn_report(model, backend=backend) for backend in ("tensorflow", "jax", "torch")}
    assert [one.prevented_by for one in found["tensorflow"]] == [()] * 3
    assert str(found["tensorflow"][2]) == "last (LSTM): on cuDNN, if all padding is at the end"
    for backend in ("jax", "torch"):
        assert all(f"a mask reaches it, which Keras on {backend}" in str(one) for one in found[backend])


def test_layers_within_models_are_found():
    inner = keras.Sequential([keras.Input((4, 2)), keras.layers.GRU(3, name="read")], name="inner")
    outer = keras.Sequential([keras.Input((5, 4, 2)), keras.layers.TimeDistributed(inner, name="each")])
    (found,) = cudnn_report(outer, backend="jax")
    assert found.layer == "each/read" and "no cuDNN for GRU" in str(found)


def test_the_command_shows_libraries_devices_and_layers(tmp_path, capsys):
    assert main(["doctor"]) == 0
    alone = capsys.readouterr().out
    assert (
        f"keras {keras.__version__}" in alone and keras.backend.backend() in alone and "recurrent layers" not in alone
    )
    keras.Sequential([keras.Input((4, 2)), layers.IndRNN(3, name="mine")]).save(tmp_path / "model.keras")
    assert main(["doctor", str(tmp_path / "model.keras")]) == 0
    assert "mine (IndRNN): not on cuDNN" in capsys.readouterr().out.splitlines()[-1]
    (tmp_path / "model.keras").write_bytes(b"PK nonsense")
    assert main(["doctor", str(tmp_path / "model.keras")]) == 1
    assert "cannot be read as a Keras model" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path)]) == 1
