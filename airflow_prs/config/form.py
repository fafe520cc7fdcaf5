"""How the form of "Trigger DAG" describes the parameters of a configuration."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_prs.config.parameters import Words

FORM: Mapping[str, Words] = {
    "error_threshold": Words(
        title="Failed items allowed",
        effect="The run stops as soon as more items have failed. -1 allows any number.",
    ),
    "node_count": Words(
        title="Nodes at the same time", effect="More nodes finish sooner and use more of Airflow's slots."
    ),
    "process_count_per_node": Words(
        title="Worker processes on each node",
        effect="More processes use more cores and more memory of a node.",
        empty="one for each core, or one on a machine with a GPU",
    ),
    "mini_batch_size": Words(
        title="Size of a mini-batch",
        effect="What one call of the script receives: a number of files; for tables, an amount of data (1MB) or a "
        "number of rows (5000 rows). Large mini-batches have less overhead. If a small one fails, less is lost.",
        empty="10 files, or 1 MB of a table",
        examples=("10", "1MB", "5000 rows"),
    ),
    "logging_level": Words(
        title="Detail of the script's logs", effect="DEBUG logs most, WARNING logs warnings and errors only."
    ),
    "run_invocation_timeout": Words(
        title="Time limit of a call of the script (seconds)",
        effect="A call that takes longer is ended, and its mini-batch is tried again.",
    ),
    "run_max_try": Words(
        title="Tries of each mini-batch", effect="A mini-batch counts as failed after this number of failed tries."
    ),
    "append_row_file_name": Words(
        title="Name of the result file",
        effect="The ending .jsonl or .parquet also selects the format; .csv does so for tables.",
        empty="parallel_run_step with the ending of its format",
    ),
    "allowed_failed_count": Words(
        title="Failed mini-batches allowed",
        effect="The run stops as soon as more mini-batches have failed. -1 allows any number.",
        empty="not checked",
    ),
    "allowed_failed_percent": Words(
        title="Failed mini-batches allowed (percent)",
        effect="The run stops as soon as more than this part of all mini-batches has failed. 100 allows any number.",
        empty="not checked",
    ),
    "partition_keys": Words(
        title="Keys of a mini-batch",
        effect="Items with the same values of these keys make one mini-batch.",
        empty="mini-batches are cut by size",
    ),
    "mini_batches_per_task": Words(
        title="Mini-batches of each task",
        effect="A smaller number makes more tasks that each take less time.",
        empty="one task for each node",
    ),
    "append_row_format": Words(
        title="Format of the result",
        effect="How the rows are written: lines of text, csv with one header, jsonl with an object for each row, or "
        "parquet with types.",
        empty="as the ending of the result file says, else text",
    ),
    "count_failed_tries": Words(
        title="Count failed tries",
        effect="If it is on, a mini-batch counts as failed from its first failed try until a later one succeeds, so a "
        "bad run stops sooner.",
    ),
    "retry_delay_s": Words(
        title="Delay before the second try (seconds)",
        effect="A longer delay gives a service time to recover. It doubles before each further try.",
    ),
    "max_mini_batches_per_process": Words(
        title="Mini-batches of a worker process",
        effect="A new process replaces it after this number. A small number helps a script whose memory grows.",
        empty="no limit",
    ),
    "max_memory_per_process": Words(
        title="Memory of a worker process",
        effect="A new process replaces one that uses more, between two mini-batches.",
        empty="no limit",
        examples=("500MB", "2GB"),
    ),
    "max_concurrency_per_process": Words(
        title="Mini-batches at the same time in each process",
        effect="Changes only a script with async def run. A larger number helps one that waits for a service.",
    ),
    "read_ahead": Words(
        title="Load the next mini-batch during run()",
        effect="If it is on, a worker process has up to two mini-batches of a table in memory.",
    ),
    "exit_timeout_s": Words(
        title="Time limit of the end of a process (seconds)",
        effect="A worker process that takes longer after shutdown() is killed.",
    ),
    "lend": Words(
        title="Share work between nodes",
        effect="If it is on, a node without work of its own takes mini-batches over from slower ones.",
    ),
    "keep_rows": Words(
        title="Keep the rows of mini-batches",
        effect="If it is off, they are deleted once the result is published: the run cannot be continued or reused.",
    ),
    "bisect_failed_mini_batches": Words(
        title="Split failed mini-batches",
        effect="If it is on, only the items that fail are left out; the rows of the others are kept.",
    ),
}
"""By the name of the parameter. Those that a PipelineParameter may not stand for are not in it."""
