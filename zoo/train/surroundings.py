"""What a run depends on besides its settings: versions, hardware, the state of the working folder."""

import importlib.metadata
import os
import platform
import subprocess

PACKAGES = ("recurrent-zoo", "keras", "tensorflow", "jax", "torch", "numpy")


def versions(packages=PACKAGES):
    """Return {package: version}; of one that is not installed, None."""
    found = dict.fromkeys(packages)
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware():
    """Return {"machine", "processor", "cores", "memory_gib", "devices"}; devices are those of Keras' backend."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": usable,
        "memory_gib": _memory(),
        "devices": _devices(),
    }


def _devices():
    import keras

    if keras.backend.backend() != "torch":
        return keras.distribution.list_devices()
    import torch  # which Keras lists no devices of

    return [f"gpu:{index}" for index in range(torch.cuda.device_count())] or ["cpu:0"]


def git_state():
    """Return {"commit", "changed"} of the repository around the working folder, or None outside of one."""
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return None if not commit else {"commit": commit, "changed": bool(status)}


def _git(*arguments):
    try:
        done = subprocess.run(("git", *arguments), capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or None


def _memory():
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
