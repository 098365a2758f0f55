"""Keyword spotting on Free Spoken Digits, leaving one speaker out at a time: how well is an unheard voice understood?

    python benchmarks/fsdd_speakers.py --data PATH

Each fold trains on five speakers and tests once on all recordings of the sixth. With --validate each fold instead
removes the sixth altogether, trains on four and reports the fifth: the way to choose between settings.
"""

import argparse
import time
from dataclasses import dataclass, replace

import numpy as np
from record import record

from zoo.recipes import KeywordSpotting
from zoo.recipes.base import setting


@dataclass(frozen=True, kw_only=True)
class _WithoutSpeaker(KeywordSpotting):
    absent: str = setting("", "a speaker whose recordings are not used at all")

    def load(self):
        keywords = super().load()
        kept = np.array(keywords.speakers) != self.absent
        return replace(
            keywords,
            pcm=keywords.pcm[kept],
            labels=keywords.labels[kept],
            split=keywords.split[kept],
            speakers=tuple(np.array(keywords.speakers)[kept]),
            files=tuple(np.array(keywords.files)[kept]),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fsdd", help="folder of the recordings, or fsdd to fetch them")
    parser.add_argument("--network", default="crnn")
    parser.add_argument("--units", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--extra", default="demo", help="more voices to train on; '' for the five real ones alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="choose between settings without the test speakers")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("data", "network", "units", "extra", "epochs", "seed")}
    settings |= {"batch_size": 64, "learning_rate": 0.003}  # more clips than the demo set: fewer, larger steps

    speakers = sorted(set(KeywordSpotting(**settings).load().speakers))
    accuracy, seconds = {}, {}
    for position, speaker in enumerate(speakers):
        recipe, reported = KeywordSpotting(**settings, test_speaker=speaker), speaker
        if options.validate:
            reported = speakers[(position + 1) % len(speakers)]
            recipe = _WithoutSpeaker(**settings, test_speaker=reported, absent=speaker)
        started = time.perf_counter()
        model, scores = recipe.train(verbose=0)
        seconds[reported] = round(time.perf_counter() - started, 1)
        accuracy[reported] = scores["accuracy"]
        print(f"{reported:10} {accuracy[reported]:.4f}  {seconds[reported]:.0f} s", flush=True)
    mean = float(np.mean(list(accuracy.values())))
    print(f"mean {mean:.4f}, {model.count_params():,} parameters")
    if not options.validate:
        record(
            "keyword_spotting-fsdd",
            {
                "recipe": "keyword_spotting",
                "data": "Free Spoken Digits, six speakers, 3,000 recordings",
                "split": "leave one speaker out: five train (and extra, see settings), all of the sixth tests",
                "weights": "lowest validation loss on recordings of the five",
                "settings": {name: value for name, value in settings.items() if name != "data"},
                "parameters": model.count_params(),
                "accuracy": {"mean": round(mean, 4)} | {name: round(value, 4) for name, value in accuracy.items()},
                "training_seconds": seconds,
            },
        )


if __name__ == "__main__":
    main()
