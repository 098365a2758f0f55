"""The built-in demo set: synthetic speech, ten digits said by espeak-ng in many voices.

It shows that everything works, at once and without a network; it says nothing of real recordings. Validation and test
hold out whole voices. `make_demo_speech.py` made it.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from zoo.data.audio import read_audio

_FOLDER = Path(__file__).parent / "demo"
SPEECH = _FOLDER / "speech.wav"  # all clips one after the other, 4 bits a sample (IMA ADPCM)
INDEX = _FOLDER / "speech.json"  # where each clip lies, what is said, by which voice
EXAMPLE = _FOLDER / "seven.wav"  # one word of a test voice
SAMPLE_RATE = 8000  # Hz


@dataclass(frozen=True)
class DemoClip:
    """One synthetic word."""

    name: str
    label: str
    voice: str  # accent+variant of espeak-ng
    split: str
    samples: np.ndarray  # float32, in [-1, 1]


def load(sample_rate=SAMPLE_RATE):
    """Load the demo set (synthetic).

    Args:
        sample_rate: int, Hz, of the result (default: 8000, as it is stored).

    Returns:
        List of DemoClip.

    Example:
        >>> clips = load()
        >>> clips[0].label
        'zero'
    """
    sound = read_audio(SPEECH, SAMPLE_RATE, longest=math.inf)
    clips = []
    for entry in json.loads(INDEX.read_text(encoding="utf-8"))["clips"]:
        samples = sound[entry["start"] : entry["stop"]]
        if sample_rate != SAMPLE_RATE:
            samples = np.clip(soxr.resample(samples, SAMPLE_RATE, sample_rate), -1.0, 1.0)
        name = f"demo/{entry['label']}_{entry['voice']}_{entry['take']}"
        clips.append(DemoClip(name, entry["label"], entry["voice"], entry["split"], samples))
    return clips
