"""Its process dies at files whose name holds "deadly"."""

import os
import signal
from pathlib import Path


def run(mini_batch):
    if any("deadly" in Path(path).name for path in mini_batch):
        os.kill(os.getpid(), signal.SIGKILL)
    return [Path(path).name for path in mini_batch]
