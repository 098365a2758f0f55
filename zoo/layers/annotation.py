"""A text that travels with a model."""

import keras


@keras.saving.register_keras_serializable("zoo")
class Annotation(keras.layers.Layer):
    """Keeps a text in the file of a model, such as the vocabulary that it was trained with; its input passes unchanged.

        y = x

    Args:
        content: str.

    Call arguments:
        inputs: any.
    """

    def __init__(self, content, **kwargs):
        super().__init__(**kwargs)
        self.content, self.supports_masking = content, True

    def call(self, inputs):
        return inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self):
        return super().get_config() | {"content": self.content}
