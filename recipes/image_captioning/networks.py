"""The decoder that writes captions while it looks at features, whole for training and in parts for a device."""

import json
import math

import keras
import numpy as np

from zoo.layers import AdditiveAttention, Annotation, AttentiveRecurrent, LSTMCell, PeepholeLSTM
from zoo.recipes.device.beam_search import beam_search
from zoo.recipes.device.captions import STATES
from zoo.train.shared_batches import predict_batch

_WHERE = 0.7  # spread of the first weights of a place's row and column, beside features that are about 1
_POINTS = 16  # of a frame, whose rows and columns a clip is read by
_SHARP, _FAR = 9.0, 4.0  # how sharply points begin, Glorot's is 1; rows and columns reach from -4 to 4, to be heard


def decoder(shape, labels, *, units, width, dropout, word_dropout):
    """Return a `keras.Model` from features and the words up to now to the next words, with the attention.

        memory = relu(features W + b)                     (batch, places, width), b another at each place
        hidden, cell = tanh(mean of memory W + b)         the start of the LSTM
        context[t], hidden[t] = LSTM(word[t], what hidden[t-1] and word[t] look for in memory)
        logits[t] = W_o tanh(W [hidden[t], context[t]] + word[t])

    Where a place is, its row and its column, is what b begins as, so that "left of" need not be learnt place by place.
    Of a clip, a recurrent layer first reads the frames in both directions, and takes the place of the features: the
    places that are attended to are then moments. Of a frame it reads what is in it, wherever that is, and where.

        what  = largest of all places of the features                                        (batch, frames, channels)
        where = mean row and column of 16 points, weighted by softmax(features W + b) over all places
        frame = relu([what, where] W + b)                                                    (batch, frames, width)
        features = frame, LSTM in both directions(frame), side by side                       (batch, frames, 2 width)

    Args:
        shape: (places, channels) of the features of a picture, (frames, places, channels) of those of a clip.
        labels: the vocabulary, tuple of str.
        units: int, of the LSTM.
        width: int, of the memory, the embeddings and the network that scores places.
        dropout: float, share of the memory, the embeddings and the outputs that training drops.
        word_dropout: float, share of the words before that training hides: what comes next is then told by the
            picture, and not by what followed that word in the captions.

    Returns:
        Inputs "features" (batch, *shape) and "words" int32 (batch, time); outputs "logits" (batch, time,
        words) and "attention" (batch, time, places).

    Reference:
        K. Xu et al., "Show, attend and tell: neural image caption generation with visual attention", ICML 2015,
        https://arxiv.org/abs/1502.03044; the points: C. Finn et al., "Deep spatial autoencoders for visuomotor
        learning", ICRA 2016, https://arxiv.org/abs/1509.06113
    """
    dense, layers, places = keras.layers.Dense, keras.layers, shape[0]
    features = keras.Input(shape, name="features")
    words = keras.Input((None,), dtype="int32", name="words")
    x = features if len(shape) == 2 else _over_time(features, width)
    memory = layers.EinsumDense("bpf,fw->bpw", (places, width), bias_axes="pw", activation="relu", name="memory")(x)
    memory = layers.Dropout(dropout, name="dropout_memory")(memory)
    mean = layers.GlobalAveragePooling1D(name="mean")(memory)
    start = [dense(units, activation="tanh", name=name)(mean) for name in ("hidden", "cell")]
    x = Annotation(json.dumps(list(labels)), name="vocabulary")(words)
    x = layers.Embedding(len(labels), width, name="embedding")(x)
    x = layers.Dropout(word_dropout, noise_shape=(None, None, 1), name="hide")(x)
    x = layers.Dropout(dropout, name="dropout_embedding")(x)
    attend = AttentiveRecurrent(
        AdditiveAttention(LSTMCell(units), width, width, query_inputs=True),
        return_sequences=True,
        return_attention=True,
        name="attend",
    )
    hidden, attention = attend(x, initial_state=start, memory=memory)
    context = layers.Dot((2, 1), name="context")([attention, memory])
    x = layers.Add(name="with_word")([dense(width, name="seen")(layers.Concatenate(name="both")([hidden, context])), x])
    x = layers.Activation("tanh", name="squashed")(x)
    x = layers.Dropout(dropout, name="dropout_word")(x)
    logits = dense(len(labels), name="logits")(x)
    said = {"logits": logits, "attention": attention}
    model = keras.Model({"features": features, "words": words}, said, name="decoder")
    if len(shape) == 3:
        model.get_layer("where").kernel.assign(_FAR * _where(shape[1], moments=False))
    where = _where(places, moments=len(shape) == 3)
    directions = keras.ops.convert_to_numpy(keras.random.normal((where.shape[1], width), stddev=_WHERE))
    model.get_layer("memory").bias.assign(where @ directions)
    return model


def _where(places, *, moments):
    """Return the row and the column of each place, from -1 to 1, float32 (places, 2); moments are in one row.

    A map that is no square is read as one row too: nobody says how it is cut.
    """
    side = math.isqrt(places)
    rows = 1 if moments or side * side != places else side
    row, column = np.divmod(np.arange(places, dtype="float32"), places // rows)
    return np.stack([2 * row / max(1, rows - 1) - (rows > 1), 2 * column / max(1, places // rows - 1) - 1], axis=1)


def _over_time(features, width):
    """Return (batch, frames, 2 width): of a clip's features each frame, and what a recurrent layer makes of it."""
    frames, places, channels = features.shape[1:]
    # Not by ops.max: its gradient on JAX counts ties, finds none where XLA computes the features anew, and is NaN.
    what = keras.layers.MaxPooling2D((1, places), name="largest")(features)
    what = keras.layers.Reshape((frames, channels), name="what")(what)
    sharp = keras.initializers.VarianceScaling(_SHARP, "fan_avg", "uniform")
    points = keras.layers.Dense(_POINTS, kernel_initializer=sharp, name="points")(features)
    looked = keras.layers.Softmax(name="looked")(keras.layers.Permute((1, 3, 2), name="each_point")(points))
    where = keras.layers.Dense(2, use_bias=False, name="where")(looked)
    where = keras.layers.Reshape((frames, 2 * _POINTS), name="all_points")(where)
    x = keras.layers.Concatenate(name="what_and_where")([what, where])
    x = keras.layers.Dense(width, activation="relu", name="frame")(x)
    moments = keras.layers.Bidirectional(PeepholeLSTM(-(-width // 2), return_sequences=True), name="moments")(x)
    return keras.layers.Concatenate(name="frame_and_moment")([x, moments])


def each_frame(encoder, frames):
    """Return a `keras.Model` from clips, (batch, frames, size, size, 3), to what an encoder makes of every frame."""
    clips = keras.Input((frames, *encoder.input_shape[1:]), name="frames")
    x = encoder(keras.ops.reshape(clips, (-1, *encoder.input_shape[1:])))
    x = keras.ops.reshape(x, (-1, frames, *encoder.output_shape[1:]))
    every = keras.Model(clips, x, name="encoder")
    every.trainable = encoder.trainable
    return every


def one_frame(model):
    """Return the `keras.Model` from "image" to "features" that `each_frame` runs on every frame of a clip."""
    encoder = next(layer for layer in model.get_layer("encoder").layers if isinstance(layer, keras.Model))
    image = keras.Input(encoder.input_shape[1:], name="image")
    return keras.Model({"image": image}, {"features": encoder(image)}, name="encoder")


def join(encoder, decoder):
    """Return the whole `keras.Model`: what the encoder reads, and "words", to the probabilities of the next words."""
    seen = keras.Input(encoder.input_shape[1:], name=encoder.input.name)
    words = keras.Input((None,), dtype="int32", name="words")
    x = decoder({"features": encoder(seen), "words": words})["logits"]
    probabilities = keras.layers.Softmax(name="probabilities")(x)
    return keras.Model({seen.name: seen, "words": words}, probabilities, name="captioning")


def to_train(model, seed=None):
    """Return the `keras.Model` that learns, of the layers of `model`, and its `training.OwnWords`, or None.

    It reads features, or of an encoder that learns pictures, and words, and gives logits and attention. It is never
    `model` or a part of it: what is compiled with a loss of ours would be saved with that loss, and not be read again.

    Args:
        model: as `join` returns it.
        seed: int for scheduled sampling, None for none.
    """
    from zoo.recipes.image_captioning.training import OwnWords

    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    words = keras.Input((None,), dtype="int32", name="words")
    if encoder.trainable:
        seen = keras.Input(encoder.input_shape[1:], name=encoder.input.name)
        features = encoder(seen)
    else:
        seen = features = keras.Input(encoder.output_shape[1:], name="features")
    read, own = words, None
    if seed is not None:
        own = OwnWords(seed, name="own_words")
        read = own(words, decoder({"features": features, "words": words})["logits"])
    said = decoder({"features": features, "words": read})
    return keras.Model({seen.name: seen, "words": words}, said, name="training"), own


def halves(model, name):
    """Return two models: what is computed once of a picture or clip, and for each word.

    The first gives the memory, the keys by which it is attended to, and the states that the first step takes. A step
    takes these, the word before and the states, and gives the probabilities of the next word, the attention and the
    states after it, named new_hidden and new_cell.

    Args:
        model: as `join` returns it.
        name: what the first reads: "features", or what the encoder does.
    """
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    cell, ready = decoder.get_layer("attend").cell, name == "features"
    given = keras.Input((encoder.output_shape if ready else encoder.input_shape)[1:], name=name)
    seen = _read(decoder, cell, given if ready else encoder(given))
    reader = keras.Model({name: given}, seen, name="encoder")
    renew(reader, model)
    word = keras.Input((1,), dtype="int32", name="word")
    given = {name: keras.Input(value.shape[1:], name=name) for name, value in seen.items()}
    return reader, keras.Model({"word": word, **given}, _step(decoder, cell, word, given), name="step")


def renew(reader, model):
    """Give the first of `halves` the keys' weights that the model has now: the one weight that is a copy.

    By way of NumPy, as JAX would share the array, and `predict` frees the arrays of the model that it runs.
    """
    cell = model.get_layer("decoder").get_layer("attend").cell
    reader.get_layer("keys").set_weights([keras.ops.convert_to_numpy(cell.key_kernel)])


def search(reader, step, given, *, beam, length, penalty):
    """Return the sentences that `beam_search` finds for each row of {input: array}, by the models of `halves`."""
    seen = {name: np.asarray(value) for name, value in predict_batch(reader, given).items()}
    states = {name: seen.pop(name) for name in STATES}

    def once(words, of, states):
        said = predict_batch(
            step, {"word": words[:, None], **{name: value[of] for name, value in seen.items()}, **states}
        )
        return said["probabilities"], said["attention"], {name: said[f"new_{name}"] for name in STATES}

    return beam_search(once, states, beam=beam, length=length, penalty=penalty)


def _read(decoder, cell, features):
    layer = decoder.get_layer
    outputs = {"memory": layer("memory").output, **{name: layer(name).output for name in STATES}}
    seen = keras.Model(decoder.input["features"], outputs, name="read")(features)
    keys = keras.layers.Dense(cell.units, use_bias=False, name="keys")
    seen["keys"] = keys(seen["memory"])
    return seen


def _step(decoder, cell, word, given):
    layer = decoder.get_layer
    x = keras.layers.Reshape((-1,), name="one")(layer("embedding")(word))
    hidden, states, attention = cell(x, [given["hidden"], given["cell"]], [given["keys"], given["memory"]])
    context = keras.layers.Dot((1, 1), name="context_now")([attention, given["memory"]])
    x = layer("with_word")([layer("seen")(layer("both")([hidden, context])), x])
    probabilities = keras.layers.Softmax(name="probabilities")(layer("logits")(layer("squashed")(x)))
    return {
        "probabilities": probabilities,
        "attention": attention,
        "new_hidden": states[0],
        "new_cell": states[1],
    }
