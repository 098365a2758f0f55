"""Files that read a sequence chunk by chunk: after the last chunk they have said what the model says of the whole."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from cases import LAYERS
from keras import layers as L
from litert_runs import randomise

from zoo import export, layers
from zoo.errors import ExportError, SettingError
from zoo.export.session import Session, answer
from zoo.export.signature import output_names
from zoo.export.streaming import streaming_signature

ATOL = 2e-6  # float32 sums of a few dozen terms, in another order

pytestmark = pytest.mark.on_tensorflow


def keyword_model():
    samples = keras.Input((3200,), name="samples")
    x = layers.LogMel(8000, mels=20, frame_ms=25.0, hop_ms=20.0)(samples)
    x = L.BatchNormalization()(layers.RunningLevel()(x))
    return keras.Model(samples, L.Dense(3, name="words")(layers.PeepholeLSTM(5)(x)))


def convolutional_model():
    frames = keras.Input((24, 6), name="frames")
    x = L.Conv1D(7, 4, padding="causal", strides=2, activation="relu")(frames)
    x = L.MaxPooling1D(2, 1)(L.Conv1D(5, 3)(x))
    x = L.GRU(4, return_sequences=True, name="sequence")(x)
    ends = [L.GlobalAveragePooling1D(name="mean")(x), L.GlobalMaxPooling1D(name="maximum")(x)]
    return keras.Model(frames, [x, *ends])


def picture_model():
    return keras.Sequential(
        [
            keras.Input((24, 6), name="frames"),
            L.Reshape((24, 6, 1)),
            L.ZeroPadding2D(((4, 0), (2, 2))),
            L.Conv2D(3, 5, strides=(2, 2)),
            L.BatchNormalization(),
            L.Reshape((12, 9)),
            L.LSTM(5, return_sequences=True),
            L.GRU(4),
        ]
    )


MODELS = {"keyword": (keyword_model, 160), "convolutional": (convolutional_model, 2), "picture": (picture_model, 2)}


def example(model, batch=1):
    shape = (batch, *model.inputs[0].shape[1:])
    return (0.3 * np.random.default_rng(0).normal(size=shape)).astype("float32")


def streamed(model, path, x, chunk, leads):
    """Return {output: what the file said of x}, sequences without the frames before the first."""
    session = Session(path)
    (name,) = session.inputs
    said = [session({name: x[:, at : at + chunk]}) for at in range(0, x.shape[1], chunk)]
    names = [output.name.split("/")[0] for output in model.outputs]
    return [
        said[-1][name] if lead is None else np.concatenate([one[name] for one in said], axis=1)[:, lead:]
        for name, lead in zip(output_names(model, names), leads, strict=True)
    ]


def write(model, folder, format, **options):
    make = export.to_tflite if format == "tflite" else export.to_onnx
    return make(model, folder / f"stream.{format}", **options)


@pytest.mark.parametrize(("format", "state"), [("tflite", "external"), ("tflite", "internal"), ("onnx", "external")])
@pytest.mark.parametrize("times", [1, 2, 4])
@pytest.mark.parametrize("name", MODELS)
def test_chunk_by_chunk_a_file_says_what_the_model_says_of_the_whole(tmp_path, name, times, format, state):
    make, stride = MODELS[name]
    model, chunk = make(), stride * times
    x = example(model)
    whole = [np.asarray(output) for output in keras.tree.flatten(model(x))]
    leads = streaming_signature(model, batch_size=1, time_steps=chunk).leads
    said = streamed(model, write(model, tmp_path, format, state=state, time_steps=chunk), x, chunk, leads)
    for got, expected in zip(said, whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=ATOL)


@pytest.mark.parametrize("chunk", [2, 4])
def test_leads_are_the_frames_that_a_file_has_and_the_whole_clip_has_not(tmp_path, chunk):
    model = convolutional_model()
    leads = export.leads(model, time_steps=chunk)
    path, x = write(model, tmp_path, "onnx", state="external", time_steps=chunk), example(model)
    session = Session(path)
    said = [session({"frames": x[:, at : at + chunk]}) for at in range(0, x.shape[1], chunk)]
    whole = dict(zip(leads, keras.tree.flatten(model(x)), strict=True))
    frames = sum(one["sequence"].shape[1] for one in said)
    assert leads == {"sequence": frames - whole["sequence"].shape[1], "mean": None, "maximum": None}
    for name, found in answer(session, {"frames": x}, leads).items():
        np.testing.assert_allclose(found, whole[name], atol=ATOL)


def test_leads_ask_for_a_chunk_that_can_be():
    for chunk, words in ((0, "expected a whole number"), (None, "give time_steps="), (3, "moves on by 2")):
        with pytest.raises(SettingError, match=words):
            export.leads(convolutional_model(), time_steps=chunk)


@pytest.mark.parametrize("case", LAYERS, ids=str)
@pytest.mark.parametrize(("format", "state"), [("tflite", "external"), ("tflite", "internal"), ("onnx", "external")])
def test_every_layer_goes_on_from_chunk_to_chunk(tmp_path, case, format, state):
    x = np.random.default_rng(1).normal(size=(1, 6, 4)).astype("float32")
    model = randomise(keras.Sequential([keras.Input((6, 4)), case.make(return_sequences=True)]), 0.3)
    path = write(model, tmp_path, format, state=state, time_steps=3)
    (said,) = streamed(model, path, x, 3, [0])
    np.testing.assert_allclose(said, model(x), atol=ATOL)


@pytest.mark.parametrize("layer", [L.LSTM, L.GRU, L.SimpleRNN])
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_keras_layers_go_on_from_chunk_to_chunk(tmp_path, layer, format):
    x = np.random.default_rng(1).normal(size=(1, 6, 4)).astype("float32")
    model = keras.Sequential([keras.Input((None, 4)), layer(5, return_sequences=True), layer(3)])
    path = write(model, tmp_path, format, state="external", time_steps=2)
    (said,) = streamed(model, path, x, 2, [None])
    np.testing.assert_allclose(said, model(x), atol=ATOL)


def test_a_mask_within_the_stream_counts(tmp_path):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Model(tokens, L.LSTM(4)(L.Embedding(10, 5, mask_zero=True)(tokens)))
    x = np.array([[3, 0, 4, 0, 0, 9]], "int32")
    for format in ("tflite", "onnx"):
        path = write(model, tmp_path, format, state="external", time_steps=2)
        (said,) = streamed(model, path, x, 2, [None])
        np.testing.assert_allclose(said, model(x), atol=ATOL)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_masked_steps_at_the_start_of_a_chunk_go_on_as_in_the_whole(tmp_path, format, zeros):
    """A masked step repeats the output before it, which another chunk gave, and a mean counts what the mask leaves."""
    frames = keras.Input((6, 4), name="frames")
    masked = L.Masking()(frames)
    sequence = L.LSTM(3, return_sequences=True, zero_output_for_mask=zeros)(masked)
    ends = {"last": L.GRU(3, zero_output_for_mask=zeros)(masked), "mean": L.GlobalAveragePooling1D()(sequence)}
    model = keras.Model(frames, {"sequence": sequence, **ends})
    x = np.random.default_rng(0).normal(size=(1, 6, 4)).astype("float32")
    x[:, [2, 4, 5]] = 0
    session = Session(write(model, tmp_path, format, state="external", time_steps=2))
    said = [session({"frames": x[:, at : at + 2]}) for at in (0, 2, 4)]
    whole = model(x)
    np.testing.assert_allclose(np.concatenate([one["sequence"] for one in said], axis=1), whole["sequence"], atol=ATOL)
    for name in ends:
        np.testing.assert_allclose(said[-1][name], whole[name], atol=ATOL)


@pytest.mark.filterwarnings("ignore:Layer 'sequential.*passed an input with a mask")
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_mask_goes_on_after_a_model_within_the_model(tmp_path, format):
    """Keras warns that it is lost there; in its own calls it is not, as the tensor that comes out carries it."""
    frames = keras.Input((6, 4), name="frames")
    inner = keras.Sequential([keras.Input((6, 4)), L.Dense(4), L.LSTM(3, return_sequences=True)])
    sequence = L.BatchNormalization()(inner(L.Masking()(frames)))
    ends = {"last": L.GRU(3)(sequence), "mean": L.GlobalAveragePooling1D()(sequence)}
    model = keras.Model(frames, ends)
    x = np.random.default_rng(0).normal(size=(1, 6, 4)).astype("float32")
    x[:, [1, 3, 4]] = 0
    session = Session(write(model, tmp_path, format, state="external", time_steps=2))
    for at in (0, 2, 4):
        said = session({"frames": x[:, at : at + 2]})
    whole = model(x)
    for name in ends:
        np.testing.assert_allclose(said[name], whole[name], atol=ATOL)


def test_a_state_given_by_the_model_is_where_the_stream_starts(tmp_path):
    sequences, speaker = keras.Input((6, 4), name="sequences"), keras.Input((3,), name="speaker")
    model = keras.Model([sequences, speaker], L.GRU(5)(sequences, initial_state=[L.Dense(5)(speaker)]))
    random = np.random.default_rng(0)
    x, who = random.normal(size=(1, 6, 4)).astype("float32"), random.normal(size=(1, 3)).astype("float32")
    for format in ("tflite", "onnx"):
        session = Session(write(model, tmp_path, format, state="external", time_steps=3))
        for at in (0, 3):
            said = session({"sequences": x[:, at : at + 3], "speaker": who})
        np.testing.assert_allclose(next(iter(said.values())), model([x, who]), atol=ATOL)


@pytest.mark.parametrize(("make", "chunk"), [(picture_model, 4), (keyword_model, 320)])
def test_several_streams_run_side_by_side_in_one_onnx_file(tmp_path, make, chunk):
    model = make()
    x = example(model, batch=3)
    (said,) = streamed(model, write(model, tmp_path, "onnx", state="external", time_steps=chunk), x, chunk, [None])
    np.testing.assert_allclose(said, model(x), atol=ATOL)


@pytest.mark.parametrize(("format", "state"), [("tflite", "external"), ("tflite", "internal"), ("onnx", "external")])
def test_a_stream_begins_afresh_after_a_reset(tmp_path, format, state):
    model = keyword_model()
    x = example(model)
    session = Session(write(model, tmp_path, format, state=state, time_steps=160))
    first = [session({"samples": x[:, at : at + 160]})["words"] for at in range(0, 640, 160)]
    assert not np.array_equal(session({"samples": x[:, :160]})["words"], first[0])
    session.reset()
    again = [session({"samples": x[:, at : at + 160]})["words"] for at in range(0, 640, 160)]
    np.testing.assert_array_equal(first, again)


def test_states_are_inputs_and_outputs_of_their_own_names(tmp_path):
    model = keras.Sequential([keras.Input((None, 4), name="frames"), layers.PeepholeLSTM(5, name="memory")])
    path = write(model, tmp_path, "tflite", state="external", time_steps=2)
    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    assert set(runner.get_input_details()) == {"frames", "memory/hidden", "memory/cell"}
    assert {"memory/hidden_next", "memory/cell_next"} < set(runner.get_output_details())


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (L.Bidirectional(L.LSTM(3)), "reads the sequence from its end"),
        (L.LSTM(3, go_backwards=True), "reads the sequence from its end"),
        (L.Conv1D(3, 3, padding="same"), "looks ahead"),
        (L.ZeroPadding1D(1), "adds 1 frames at the end"),
        (L.Flatten(), "has no rule for streaming"),
        (L.LayerNormalization(axis=1), "along the axis of time"),
        (L.Reshape((48,)), "has no meaning for a chunk"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_needs_more_than_the_past_is_named(tmp_path, layer, reason):
    model = keras.Sequential([keras.Input((12, 4)), layer])
    with pytest.raises(ExportError, match=reason) as error:
        export.to_tflite(model, tmp_path / "m.tflite", state="external", time_steps=2)
    assert layer.name in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_chunk_that_does_not_fit_is_said(tmp_path):
    with pytest.raises(SettingError, match="moves on by 160; choose time_steps"):
        export.to_tflite(keyword_model(), tmp_path / "m.tflite", state="external", time_steps=100)
    with pytest.raises(SettingError, match="give time_steps="):
        export.to_tflite(keyword_model(), tmp_path / "m.tflite", state="internal")
    with pytest.raises(SettingError, match="no place to keep one"):
        export.to_onnx(keyword_model(), tmp_path / "m.onnx", state="internal", time_steps=160)


def test_a_mixed_precision_model_streams_in_float32(tmp_path):
    inputs = keras.Input((6, 4), name="frames")
    model = keras.Model(inputs, layers.PeepholeLSTM(5, dtype="mixed_float16")(inputs))
    path = write(model, tmp_path, "tflite", state="external", time_steps=3)
    x = np.random.default_rng(1).normal(size=(1, 6, 4)).astype("float32")
    (said,) = streamed(model, path, x, 3, [None])
    np.testing.assert_allclose(said, np.asarray(model(x), "float32"), atol=3e-3)  # float16's own rounding


def test_attention_to_a_memory_that_comes_in_chunks_is_refused():
    words, frames = keras.Input((6, 4), name="words"), keras.Input((6, 3), name="frames")
    cell = layers.AdditiveAttention(layers.LSTMCell(5), 3, 3)
    decoder = layers.AttentiveRecurrent(cell, return_sequences=True, name="decoder")
    model = keras.Model([words, frames], decoder(words, memory=frames))
    with pytest.raises(ExportError, match="decoder looks at all of its memory at once"):
        streaming_signature(model, batch_size=1, time_steps=2)
