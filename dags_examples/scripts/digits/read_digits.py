"""Read handwritten digits: return a line for each scan, with its file name and the digit that the classifier reads."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

from PIL import Image

GREY_STEPS = 15
"""The classifier was trained on levels from 0 to 16. In the scans, each level is this many steps of grey."""


def init():
    """Load the classifier, once for each worker process."""
    global classifier
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    options, _ = parser.parse_known_args()
    classifier = pickle.loads(Path(options.model).read_bytes())


def run(mini_batch):
    digits = classifier.predict([pixels(path) for path in mini_batch])
    return [f"{Path(path).name} {digit}" for path, digit in zip(mini_batch, digits, strict=True)]


def pixels(path):
    with Image.open(path) as scan:
        return [grey / GREY_STEPS for grey in scan.convert("L").tobytes()]
