"""Random models in every form of both formats against Keras: how many, and what did not agree.

    python benchmarks/fuzz.py --log fuzz.jsonl                500 models; a log that exists is gone on with
    python benchmarks/fuzz.py --log fuzz.jsonl --models 20    a few, not recorded

The models are those of tests/export/random_models.py for the seeds from 0 on; tests/export/fuzzing.py says what is
asked of each.
"""

import argparse
import collections
import json
import pathlib
import sys
import tempfile

from record import current_commit, record

TESTS = pathlib.Path(__file__).parents[1] / "tests"
RECORDED = 500


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=pathlib.Path, required=True, help="JSON lines, one for each model")
    parser.add_argument("--models", type=int, default=RECORDED)
    given = parser.parse_args()
    done = {row["seed"] for row in read(given.log)}
    for seed in range(given.models):
        if seed not in done:
            row = run(seed)
            with given.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
            print(seed, row["error"] or f"{len(row['files'])} files")
    if given.models >= RECORDED:
        record("fuzz", summary(read(given.log)))


def read(log):
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def run(seed):
    """Check the model of one seed; return what it wrote, "form.format" of each file, and the error if there was one."""
    sys.path[:0] = [path for path in (str(TESTS), str(TESTS / "export")) if path not in sys.path]
    from fuzzing import check

    from zoo.errors import ZooError

    with tempfile.TemporaryDirectory() as folder:
        try:
            files, error = check(seed, pathlib.Path(folder)), None
        except (AssertionError, ZooError) as failed:
            files, error = [], str(failed)
    return {
        "seed": seed,
        "files": [name.split("-", 1)[1] for name in files],
        "error": error,
        "commit": current_commit(),
    }


def summary(rows):
    """Return how many models and files there were, and what was wrong with any."""
    from fuzzing import ATOL, LIKE

    files = collections.Counter(name for row in rows for name in row["files"])
    return {
        "models": len(rows),
        "files": sum(files.values()),
        "files_by_form": dict(sorted(files.items())),
        "mismatches": {row["seed"]: row["error"] for row in rows if row["error"]},
        "tolerance": {"absolute": ATOL, "correlation_of_other_schemes": LIKE},
        "seeds": [min(row["seed"] for row in rows), max(row["seed"] for row in rows)],
        "commits": sorted({row["commit"] for row in rows}),
    }


if __name__ == "__main__":
    main()
