"""Answers what the worker processes of a node ask about the layout that all rows of a run share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from airflow_prs.worker.channel import Revision


class LayoutAnswers:
    """
    Answers questions one after the other, each in a thread. To be used in one event loop.

    A failure is passed to the exception handler of the loop and not to the process: as after a commit that fails, the
    node ends, and no mini-batch is charged.

    :param propose: asks the run folder; takes and returns number and content of a revision.
    """

    def __init__(self, propose: Callable[[int, bytes], tuple[int, bytes]]) -> None:
        self._propose = propose
        self._turn = asyncio.Lock()
        self._open: set[asyncio.Future[None]] = set()

    def ask(self, question: Revision, answer: Callable[[Revision], None]) -> None:
        """Take a question; ``answer`` is called with the answer, in the event loop."""
        task = asyncio.ensure_future(self._ask(question, answer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _ask(self, question: Revision, answer: Callable[[Revision], None]) -> None:
        try:
            # Whoever comes next finds the answer known in most cases, so no second thread need wait for storage.
            async with self._turn:
                number, content = await asyncio.to_thread(self._propose, question.number, question.content)
        except Exception as error:  # noqa: BLE001 - an error of any kind ends the node
            context = {"message": "the layout of the rows cannot be read or written", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        else:
            answer(Revision(question.question, number, content))
