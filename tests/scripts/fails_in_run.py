"""Fails at files whose name holds "bad"."""

from pathlib import Path


def read(path):
    if "bad" in Path(path).name:
        raise ValueError(f"bad pixel in {Path(path).name}")
    return Path(path).name


def run(mini_batch):
    return [read(path) for path in mini_batch]
