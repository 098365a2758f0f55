"""Which worker of which cluster this is, as those who start it say in the environment."""

import json
import os
import re

from zoo.errors import SettingError
from zoo.train.cluster import PORT, Cluster


def cluster_from_environment(*, wait=60.0):
    """Return the `Cluster` that TF_CONFIG, or RANK with WORLD_SIZE and MASTER_ADDR, or Slurm describe; not yet joined.

    Args:
        wait: seconds until all must have come.

    Raises:
        SettingError: none of them does, or not rightly.
    """
    for variable, read in _READERS.items():
        if variable in os.environ:
            try:
                chief, workers, worker = read(os.environ)
            except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
                if isinstance(error, SettingError):
                    raise
                raise SettingError(
                    f"the environment has {variable}={os.environ[variable]!r}, and this with what belongs to it "
                    f"describes no cluster ({error!r}); docs/cluster.md has examples."
                ) from error
            return Cluster(chief, workers, worker, wait=wait)
    raise SettingError(
        "the environment describes no cluster, expected TF_CONFIG, or RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, "
        "or what Slurm's srun sets; docs/cluster.md has examples."
    )


def _of_tf_config(environment):
    found = json.loads(environment["TF_CONFIG"])
    jobs, task = found["cluster"], found["task"]
    if set(jobs) - {"chief", "worker"} or task["type"] not in jobs:
        raise SettingError(
            f"TF_CONFIG has the jobs {', '.join(jobs)} and this is a {task['type']!r}; expected chief and worker alone."
        )
    addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
    before = len(jobs.get("chief", [])) if task["type"] == "worker" else 0
    return addresses[0], len(addresses), before + int(task["index"])


def _of_rank(environment):
    address = f"{environment['MASTER_ADDR']}:{environment.get('MASTER_PORT', PORT)}"
    return address, int(environment["WORLD_SIZE"]), int(environment["RANK"])


def _of_slurm(environment):
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)  # gpu[03-05,9] begins with gpu03
    port = 20_000 + int(environment["SLURM_JOB_ID"]) % 10_000  # jobs on one machine get different ones
    return f"{first[1]}{first[2] or ''}:{port}", int(environment["SLURM_NTASKS"]), int(environment["SLURM_PROCID"])


_READERS = {"TF_CONFIG": _of_tf_config, "RANK": _of_rank, "SLURM_PROCID": _of_slurm}  # the first that is set
