"""Returns the name of each file, or a table as it came."""

from pathlib import Path


def run(mini_batch):
    if isinstance(mini_batch, list):
        return [Path(path).name for path in mini_batch]
    return mini_batch
