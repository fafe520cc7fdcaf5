"""Notes what is called in a file ``calls.txt`` in the output folder."""

from pathlib import Path

from azureml_user.parallel_run import EntryScript


def note(line):
    with Path(EntryScript().output_dir, "calls.txt").open("a") as calls:
        calls.write(line + "\n")


def init():
    note("init")


def run(mini_batch, mini_batch_context):
    note(f"run {mini_batch_context.minibatch_index} try {mini_batch_context.try_number}")
    return list(mini_batch)


def shutdown():
    note("shutdown")
