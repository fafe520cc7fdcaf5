"""Takes --seconds for each mini-batch."""

import argparse
import time

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=60.0)
seconds = parser.parse_known_args()[0].seconds


def run(mini_batch):
    time.sleep(seconds)
    return list(mini_batch)
