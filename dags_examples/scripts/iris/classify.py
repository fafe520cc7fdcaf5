"""Classify irises: return the rows of the table with the predicted species as the last column."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path


def init():
    """Load the classifier, once for each worker process."""
    global classifier
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    options, _ = parser.parse_known_args()
    classifier = pickle.loads(Path(options.model).read_bytes())


def run(mini_batch):
    measures = mini_batch[list(classifier.feature_names_in_)]
    return mini_batch.assign(predicted=classifier.predict(measures))
