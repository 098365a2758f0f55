"""What is refused, in which words, and that nothing is left behind; and reading files of strangers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import export
from zoo.errors import DataError, ExportError, SettingError
from zoo.export.tflite import op_histogram

K = keras.layers


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((6, 3), name="x"), K.LSTM(4, name="memory"), K.Dense(2)])


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    return export.to_tflite(model, tmp_path_factory.mktemp("tflite") / "m.tflite")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "int4"}, "expected one of float32, float16"),
        ({"target": "toaster"}, "expected one of linux"),
        ({"state": "kept"}, "expected one of reset"),
        ({"state": "external"}, "reads chunks; give time_steps="),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"time_steps": -1}, "time_steps is -1"),
        ({"representative_data": [1]}, "does not calibrate"),
        ({"plan": "native"}, "plan is a str"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(model, tmp_path, options, words):
    with pytest.raises(SettingError, match=words):
        export.to_tflite(model, tmp_path / "m.tflite", **options)
    assert not list(tmp_path.iterdir())


def test_a_plan_of_another_model_or_target_is_refused(model, tmp_path):
    other = keras.Sequential([keras.Input((6, 3)), K.LSTM(4, name="other")])
    with pytest.raises(SettingError, match="not of this model"):
        export.to_tflite(model, tmp_path / "m.tflite", plan=export.plan(other, format="tflite"))
    with pytest.raises(SettingError, match="expected one for tflite on mcu"):
        export.to_tflite(model, tmp_path / "m.tflite", target="mcu", plan=export.plan(model, format="tflite"))


def test_a_native_form_that_a_layer_cannot_take_is_an_error(tmp_path):
    model = keras.Sequential([keras.Input((6, 3), name="x"), K.GRU(4, name="memory")])
    plan = export.plan(model, format="tflite")
    with pytest.raises(ExportError, match="memory cannot be native"):
        export.to_tflite(model, tmp_path / "m.tflite", plan=plan.override({plan.choices[0].layer: "native"}))


def test_a_path_that_exists_or_cannot_be_is_refused_and_kept(model, file, tmp_path):
    before = file.read_bytes()
    with pytest.raises(SettingError, match="exists already"):
        export.to_tflite(model, file)
    assert file.read_bytes() == before
    with pytest.raises(SettingError, match="is a folder"):
        export.to_tflite(model, tmp_path)
    with pytest.raises(SettingError, match="there is no folder"):
        export.to_tflite(model, tmp_path / "none" / "m.tflite")


def unbuilt():
    return keras.Sequential([K.LSTM(4)])


def strings():
    words = keras.Input((), dtype="string", name="words")
    return keras.Model(words, K.StringLookup(vocabulary=["a"])(words))


def open_loop():
    return keras.Sequential([keras.Input((None, 3)), K.GRU(4, name="memory")])


def without_op():
    class Singular(K.Layer):
        def call(self, x):
            return tf.linalg.svd(x, compute_uv=False)

    return keras.Sequential([keras.Input((4, 4)), Singular(name="singular"), K.Dense(2)])


def without_fixed_shapes():
    class Growing(K.Layer):
        def call(self, x):
            steps = tf.shape(x)[1]
            grown = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
            return tf.while_loop(lambda t, _: t < steps, lambda t, a: (t + 1, a.write(t, x[:, t])), (0, grown))[
                1
            ].stack()

    return keras.Sequential([keras.Input((None, 4)), Growing(name="growing")])


def of_fixed_batch():
    return keras.Sequential([keras.Input(batch_shape=(3, 6, 4)), K.LSTM(4)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (unbuilt, "was never built"),
        (strings, "takes strings"),
        (open_loop, "memory becomes a loop, which needs a known number of steps; give time_steps="),
        (without_op, "no built-in op for Svd, which computes '.*singular"),
        (without_fixed_shapes, "cannot run what '.*growing.*' computes"),
        (of_fixed_batch, "give batch_size=3"),
        (lambda: "model", "expected a keras.Model"),
    ],
)
def test_a_model_that_cannot_leave_is_told_why_and_leaves_nothing(make, words, tmp_path):
    with pytest.raises(ExportError, match=words):
        export.to_tflite(make(), tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_op_histogram_counts_what_the_runtime_lists(file):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    listed = Interpreter(str(file), experimental_op_resolver_type=resolver)._get_ops_details()
    names = [op["op_name"] for op in listed]
    assert op_histogram(file) == {name: names.count(name) for name in sorted(set(names))}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no TFLite file"), (b"TFL3", "no TFLite file"), (b"PK\x03\x04" * 9, "no TFLite file")],
)
def test_a_foreign_file_is_named(tmp_path, content, words):
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        op_histogram(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        op_histogram(tmp_path / "none.tflite")


def test_a_damaged_file_is_an_error_or_read_never_a_crash(file, tmp_path):
    whole = file.read_bytes()
    path = tmp_path / "m.tflite"
    generator = np.random.default_rng(0)
    refused = 0
    for trial in range(300):
        data = bytearray(whole)
        if trial < 100:
            data = data[: generator.integers(8, len(data))]
        else:  # lengths and offsets of any size, anywhere; a wild one in the first bytes matters most
            place = generator.integers(0, len(data) if trial % 2 else 400) // 4 * 4
            data[place : place + 4] = generator.integers(0, 2**32, dtype=np.uint32).tobytes()
        path.write_bytes(data)
        try:
            op_histogram(path)
        except DataError:
            refused += 1
    assert refused > 100


def test_a_list_that_claims_to_hold_more_than_the_file_is_refused_at_once(tmp_path):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    # One graph with many ops, which a list names again and again: small on disk, endless to read.
    builder = flatbuffers.Builder(0)
    code = schema.OperatorCodeT().Pack(builder)
    operator = schema.OperatorT().Pack(builder)

    def many(start, item, number):
        start(builder, number)
        for _ in range(number):
            builder.PrependUOffsetTRelative(item)
        return builder.EndVector()

    operators = many(schema.SubGraphStartOperatorsVector, operator, 10_000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddOperators(builder, operators)
    graph = schema.SubGraphEnd(builder)
    graphs = many(schema.ModelStartSubgraphsVector, graph, 10_000)
    codes = many(schema.ModelStartOperatorCodesVector, code, 1)
    schema.ModelStart(builder)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    path = tmp_path / "m.tflite"
    path.write_bytes(builder.Output())
    with pytest.raises(DataError, match="longer than the file"):
        op_histogram(path)


def test_nothing_is_logged_at_a_user_who_exports(model, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    export.to_tflite(model, tmp_path / "m.tflite")
    assert not [record.getMessage() for record in caplog.records]
