"""A text that travels with a model."""

import keras
import numpy as np

from zoo.layers import Annotation


def test_the_text_comes_back_with_the_file_and_the_input_passes(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 3, mask_zero=True)(tokens)
    model = keras.Model(tokens, keras.layers.LSTM(2)(Annotation('["über", "\\u2028"]', name="note")(x)))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.get_layer("note").content == '["über", "\\u2028"]'
    plain = keras.Model(tokens, model.layers[-1](x))
    ids = np.array([[1, 2, 0], [3, 0, 0]], "int32")
    for other in (again, plain):
        np.testing.assert_array_equal(other.predict(ids, verbose=0), model.predict(ids, verbose=0))
