"""What each of the four tasks does, and what clearing it does: the documentation that Airflow shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_prs.step_tasks import GATEKEEPER, MERGE, MINI_BATCHES, PLAN

_FORMATS = ("doc", "doc_json", "doc_yaml", "doc_rst")
"""Other forms of documentation; a task that has one gets none of ours."""

_OF_TASK = {
    PLAN: """\
**plan** lists the input, cuts it into mini-batches and groups these into shards.

Clear it with *Downstream* after you have changed something. With other thresholds, tries, timeouts or numbers of
nodes and processes, the run continues: failed mini-batches get fresh tries, the others do not run again. With another
script, input or environment, with `allow_reuse=False`, or after the result was published, it starts over.""",
    MINI_BATCHES: """\
**mini_batches** has one task instance for each shard. It calls the script with the mini-batches of the shard in worker
processes.

Clear instances with *Downstream* if a cause is gone without a change. Each continues where it stopped: failed
mini-batches get fresh tries, the others do not run again. *Only failed* leaves out shards whose failed mini-batches
the thresholds allow, since their task has succeeded.""",
    GATEKEEPER: """\
**gatekeeper** waits for the shards. It aborts the run if more has failed than the thresholds allow, and its error then
has the first failures. Its log has the progress of the entire run each half minute.

Clearing it alone runs no mini-batch again: it counts once more. After an abort, clear `plan` or `mini_batches`.""",
    MERGE: """\
**merge** writes the rows of all mini-batches to the result, in the order of the input, and publishes the result and the
reports in one step. Its XCom `summary` says what came of the run.

Clearing it runs no mini-batch again: it publishes the same rows once more.""",
}


def documented(task: str, arguments: Mapping[str, Any], default_args: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments of a task with documentation, after that of the author if there is any.

    :param task: the task: ``plan``, ``mini_batches``, ``gatekeeper`` or ``merge``.
    :param default_args: those of the DAG and of the groups around.
    """
    chosen = {**default_args, **arguments}
    if any(chosen.get(name) for name in _FORMATS):
        return dict(arguments)
    texts = [text for text in (chosen.get("doc_md"), _OF_TASK[task]) if text]
    return {**arguments, "doc_md": "\n\n".join(texts)}
