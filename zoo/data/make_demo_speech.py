"""Make the demo set: spoken digits, synthetic, by espeak-ng in many voices, speeds and pitches.

Needs espeak-ng (Debian: `apt install espeak-ng`), once, on the machine of whoever changes the set; the result lies in
the package. Run `python -m zoo.data.make_demo_speech`: the same espeak-ng makes the same bytes.

A voice is an accent with a variant, and no variant is used twice, so that a voice of the test is new in every respect.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from zoo.data.demo_speech import EXAMPLE, INDEX, SAMPLE_RATE, SPEECH
from zoo.data.keyword_layouts import DIGITS
from zoo.errors import DataError

ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
VARIANTS = {
    "train": (
        *(
            "m1",
            "m2",
            "m4",
            "m5",
            "m6",
            "m8",
            "f1",
            "f2",
            "f4",
            "f5",
            "Alex",
            "Alicia",
            "Andy",
            "Annie",
            "Denis",
            "Gene",
        ),
        *("Hugo", "Jacky", "Lee", "rob", "Michael", "anika", "antonio", "aunty", "benjamin", "boris", "david", "ed"),
        *(
            "grandma",
            "john",
            "linda",
            "max",
            "norbert",
            "pablo",
            "paul",
            "quincy",
            "robert",
            "shelby",
            "steph",
            "victor",
        ),
    ),
    "validation": ("m3", "f3", "Andrea", "Mike", "caleb", "zac"),
    "test": ("m7", "belinda", "edward", "grandpa", "sandro", "steph2"),
}
TAKES = 2  # of each digit by each voice
SPEEDS = (130, 210)  # words a minute
PITCHES = (25, 75)  # of espeak-ng's 0 to 99
LOUDEST = 0.5  # of full scale
SILENCE = 0.01  # of the loudest sample: anything below, before and after the word, is cut
MARGIN = 0.02  # seconds left before and after the word


def main():
    """Write the sound, its index and the example that `zoo run` shows."""
    random = np.random.default_rng(0)
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout.split()[3]
    sound, clips, at = [], [], 0
    for split, variants in VARIANTS.items():
        for number, variant in enumerate(variants):
            voice = f"{ACCENTS[number % len(ACCENTS)]}+{variant}"
            for digit in DIGITS:
                for take in range(TAKES):
                    speed, pitch = int(random.integers(*SPEEDS)), int(random.integers(*PITCHES))
                    samples = say(digit, voice, speed, pitch)
                    clips.append(
                        {
                            "label": digit,
                            "voice": voice,
                            "split": split,
                            "take": take,
                            "speed": speed,
                            "pitch": pitch,
                            "start": at,
                            "stop": at + len(samples),
                        }
                    )
                    at += len(samples)
                    sound.append(samples)
    example = next(i for i, clip in enumerate(clips) if clip["split"] == "test" and clip["label"] == "seven")
    _write(SPEECH, lambda path: soundfile.write(path, np.concatenate(sound), SAMPLE_RATE, "IMA_ADPCM", format="WAV"))
    _write(EXAMPLE, lambda path: soundfile.write(path, sound[example], SAMPLE_RATE, "PCM_16", format="WAV"))
    lines = ",\n".join(json.dumps(clip) for clip in clips)
    head = json.dumps({"what": "synthetic speech", "made_by": f"espeak-ng {version}", "sample_rate": SAMPLE_RATE})
    _write(INDEX, lambda path: path.write_text(f'{head[:-1]}, "clips": [\n{lines}\n]}}\n', encoding="utf-8"))
    print(f"{len(clips)} clips, {at / SAMPLE_RATE:.0f} s, {sum(map(_size, (SPEECH, INDEX, EXAMPLE))):,} bytes")


def say(word, voice, speed, pitch):
    """Synthesise one word; returns float32 samples at the demo set's rate, without the silence around it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "word.wav")
        command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path), word]
        subprocess.run(command, check=True)
        samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(samples, rate, SAMPLE_RATE)
    loudest = np.abs(samples).max(initial=0.0)
    if loudest == 0:
        raise DataError(f"espeak-ng said nothing for {' '.join(command)}: choose another voice.")
    heard = np.flatnonzero(np.abs(samples) > SILENCE * loudest)
    margin = round(MARGIN * SAMPLE_RATE)
    return samples[max(0, heard[0] - margin) : heard[-1] + margin] * (LOUDEST / loudest)


def _write(target, write):
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(target.name + ".part")
    write(unfinished)
    os.replace(unfinished, target)


def _size(path):
    return path.stat().st_size


if __name__ == "__main__":
    main()
