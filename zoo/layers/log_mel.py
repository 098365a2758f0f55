"""From raw samples to log-mel features with nothing but matmuls, so that every exported file takes samples."""

import math
from numbers import Real

import keras
import numpy as np
from keras import ops

from zoo import checks
from zoo.errors import SettingError

# Weights in one block of the mel matrix. TensorFlow Lite's dynamic-range quantiser leaves constants below 1024 elements
# in float32, where the front-end must stay: a power spectrum spans more decades than eight bits hold.
BLOCK = 512


@keras.saving.register_keras_serializable("zoo")
class LogMel(keras.layers.Layer):
    """Log-mel energies of raw audio, the usual input of a speech network, as a layer.

    It is made of slices, small constant matmuls, products and one logarithm, which every target has as built-in
    operations: no FFT kernel, no gather, no large constant. The discrete Fourier transform of length N = A B is
    factored once (Cooley and Tukey's decimation in time), which replaces its N x N matrix by an A x A and a B x B one.
    The mel matrix, nearly all zeros, is stored as the few dense blocks along its diagonal.

        frame[n]     = window[n] samples[t hop + n]         Hann; a full-scale sine shall have power 1
        stage[b, k1] = sum_a frame[B a + b] exp(-2 pi i a k1 / A)
        X[k1 + A k2] = sum_b stage[b, k1] exp(-2 pi i b k1 / N) exp(-2 pi i b k2 / B)
        y[t, m]      = log(max(sum_k |X[k]|^2 mel[k, m], floor))

    The mel scale is HTK's, mel(f) = 2595 log10(1 + f / 700), with triangles of height 1 whose feet stand on their
    neighbours' tops. The frame is rounded up by a few samples to an N = A B with similar factors and B even.
    Arithmetic is float32 under every dtype policy: a power spectrum overflows float16.

    Args:
        sample_rate: of the input, in whole Hz.
        mels: number of mel bands.
        frame_ms: length of one frame in milliseconds, before rounding up.
        hop_ms: distance between frames in milliseconds.
        low_hz: lower edge of the lowest band in Hz; the upper edge of the highest is half the sample rate.
        floor: the least energy told apart from silence, relative to a full-scale sine: 1e-6 is -60 dB.

    Call arguments:
        samples: `(batch, samples)`, float in [-1, 1]; the number of samples must be fixed.

    Returns:
        `(batch, frames, mels)` with `frames = 1 + (samples - N) // hop`.

    Raises:
        SettingError: settings that cannot be met, a clip shorter than a frame, or a number of samples left open.

    Example:
        >>> LogMel(8000, mels=20)(np.zeros((1, 8000))).shape[1:]
        (49, 20)

    Reference:
        Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980,
        https://doi.org/10.1109/TASSP.1980.1163420; the factored transform: Cooley and Tukey, 1965,
        https://doi.org/10.1090/S0025-5718-1965-0178586-1
    """

    quantizable = False  # a spectrum spans more decades than int8 has steps; the constants are small

    def __init__(self, sample_rate, *, mels=40, frame_ms=32.0, hop_ms=20.0, low_hz=20.0, floor=1e-6, **kwargs):
        super().__init__(autocast=False, **kwargs)
        sample_rate, mels = checks.whole(sample_rate, "sample_rate"), checks.whole(mels, "mels")
        for name, value in {"frame_ms": frame_ms, "hop_ms": hop_ms, "floor": floor}.items():
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
                raise SettingError(f"LogMel: {name} must be a number above 0, received {value!r}")
        self.hop = round(sample_rate * hop_ms / 1000)
        if self.hop < 1 or frame_ms < hop_ms:
            raise SettingError(
                f"LogMel: a hop of {hop_ms} ms and a frame of {frame_ms} ms do not work at {sample_rate} Hz; "
                "the hop must be one sample or more, and the frame at least as long as the hop"
            )
        if not isinstance(low_hz, Real) or not 0 <= low_hz < sample_rate / 2:
            raise SettingError(f"LogMel: low_hz must be from 0 to half of {sample_rate} Hz, received {low_hz!r}")
        self.sample_rate, self.mels, self.frame_ms, self.hop_ms = sample_rate, mels, frame_ms, hop_ms
        self.low_hz, self.floor = low_hz, floor
        self.factors = factorise(math.ceil(sample_rate * frame_ms / 1000 - 1e-6))  # 1e-6: of a sample, for rounding
        self.frame = math.prod(self.factors)
        self._constants = _fourier_constants(*self.factors)
        self._bands = _diagonal_blocks(mel_matrix(self.frame, sample_rate, mels, low_hz))

    def frames(self, samples):
        """Return how many frames a clip of `samples` samples has."""
        if samples is None:
            raise SettingError("LogMel: the number of samples per clip must be fixed, received None")
        if samples < self.frame:
            raise SettingError(
                f"LogMel: a clip of {samples} samples is shorter than one frame of {self.frame} samples "
                f"({self.frame_ms} ms at {self.sample_rate} Hz); give longer clips or set a shorter frame_ms"
            )
        return 1 + (samples - self.frame) // self.hop

    def call(self, samples):
        window, inner, twiddle, outer = keras.tree.map_structure(ops.convert_to_tensor, self._constants)
        frames = self.frames(samples.shape[-1])
        x = self._cut(ops.cast(samples, "float32"), frames) * window  # (batch, frames, N)
        x = ops.reshape(x, (-1, *self.factors))  # (batch * frames, A, B): three axes suit every runtime
        x = ops.transpose(x, (0, 2, 1))  # (batch * frames, B, A)
        real, imaginary = ops.matmul(x, inner[0]), ops.matmul(x, inner[1])  # over a: (batch * frames, B, k1)
        real, imaginary = _rotate(ops.multiply, twiddle, real, imaginary)
        real, imaginary = _rotate(ops.matmul, outer, real, imaginary)  # over b: (batch * frames, k2, k1)
        x = ops.square(real) + ops.square(imaginary)
        power = ops.reshape(x, (-1, frames, self.frame // 2))  # k = k1 + A k2 is in order
        bands = [ops.matmul(power[..., low:high], ops.convert_to_tensor(block)) for low, high, block in self._bands]
        energy = ops.concatenate(bands, axis=-1)
        return ops.cast(ops.log(ops.maximum(energy, self.floor)), self.compute_dtype)

    def _cut(self, samples, frames):
        """Return the overlapping frames `(batch, frames, N)`: whole hops, laid side by side, shifted by one each."""
        hops_per_frame = -(-self.frame // self.hop)
        hops = frames - 1 + hops_per_frame
        missing = hops * self.hop - samples.shape[-1]  # only ever in the part that the last slice cuts off
        if missing > 0:
            samples = ops.pad(samples, ((0, 0), (0, missing)))
        blocks = ops.reshape(samples[:, : hops * self.hop], (-1, hops, self.hop))
        shifted = [blocks[:, shift : shift + frames] for shift in range(hops_per_frame)]
        return ops.concatenate(shifted, axis=-1)[..., : self.frame]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.frames(input_shape[-1]), self.mels)

    def get_config(self):
        names = ("sample_rate", "mels", "frame_ms", "hop_ms", "low_hz", "floor")
        return super().get_config() | {name: getattr(self, name) for name in names}


def factorise(length):
    """Return (A, B) of the smallest A B >= length with B even and neither factor above twice the other."""
    for product in range(max(length, 4), 2 * length + 8):
        pairs = [(product // b, b) for b in range(2, product, 2) if product % b == 0]
        pairs = [(a, b) for a, b in pairs if max(a, b) <= 2 * min(a, b)]
        if pairs:
            return min(pairs, key=lambda pair: (sum(pair), pair))
    raise AssertionError("unreachable: every range of this width holds an even square")


def mel_matrix(frame, sample_rate, mels, low_hz):
    """Return HTK's triangular filters, `(frame / 2, mels)`; the last bin, half the sample rate, never has weight."""

    def to_mel(hertz):
        return 2595 * np.log10(1 + np.asarray(hertz) / 700)

    edges = np.linspace(to_mel(low_hz), to_mel(sample_rate / 2), mels + 2)
    bins = to_mel(np.arange(frame // 2) * sample_rate / frame)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    matrix = np.maximum(0, np.minimum(rising, falling))
    empty = np.flatnonzero(~matrix.any(axis=0))
    if empty.size:
        raise SettingError(
            f"LogMel: {mels} mel bands are too many for {frame // 2} frequency bins of {sample_rate / frame:.0f} Hz: "
            f"band {empty[0]} holds none; ask for fewer mels, a longer frame_ms or a higher low_hz"
        )
    return matrix


def _rotate(product, angle, real, imaginary):
    """Return the real and imaginary part of the complex product of (cosine, sine) and (real, imaginary)."""
    cosine, sine = angle
    return (
        product(cosine, real) - product(sine, imaginary),
        product(sine, real) + product(cosine, imaginary),
    )


def _fourier_constants(first, second):
    """Return the window and the (cosine, sine) of first stage, twiddle factors and second stage for N = A B."""
    size = first * second
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    window *= 2 / window.sum()  # a sine of amplitude 1 at a bin's centre has power 1 there
    inner = np.outer(np.arange(first), np.arange(first)) / first  # (a, k1), in turns
    twiddle = np.outer(np.arange(second), np.arange(first)) / size  # (b, k1)
    outer = np.outer(np.arange(second // 2), np.arange(second)) / second  # (k2, b)
    angles = [(np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)) for turns in (inner, twiddle, outer)]
    return keras.tree.map_structure(lambda constant: constant.astype("float32"), (window, *angles))


def _diagonal_blocks(matrix):
    """Return [(first bin, last bin + 1, weights)] of neighbouring bands, each weights `(bins, bands)`, small."""
    blocks, start = [], 0
    rows = [np.flatnonzero(column) for column in matrix.T]
    for stop in range(1, matrix.shape[1] + 1):
        low, next_high = rows[start][0], rows[min(stop, len(rows) - 1)][-1] + 1
        full = (next_high - low) * (stop + 1 - start) > BLOCK
        if full or stop == matrix.shape[1]:
            high = rows[stop - 1][-1] + 1
            blocks.append((int(low), int(high), matrix[low:high, start:stop].astype("float32")))
            start = stop
    return blocks
