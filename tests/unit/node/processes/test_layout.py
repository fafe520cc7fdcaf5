"""Answers about the layout: one question at a time, each in a thread, and failures for the node alone."""

import asyncio
import threading
import time

from airflow_prs.node.processes.layout import LayoutAnswers
from airflow_prs.run_folder.layout import Layout
from airflow_prs.store.memory import MemoryStore
from airflow_prs.worker.channel import Revision


def ask_all(propose, *questions):
    """What each question gets, and the errors that the event loop is told."""
    answers, errors = {}, []

    async def ask():
        over = asyncio.Event()

        def note(_done):
            if len(answers) + len(errors) == len(questions):
                over.set()

        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: note(errors.append(context["exception"]))
        )
        desk = LayoutAnswers(propose)
        for name, question in enumerate(questions):
            desk.ask(question, lambda answer, name=name: note(answers.setdefault(name, answer)))
        await asyncio.wait_for(over.wait(), 30)

    asyncio.run(ask())
    return answers, errors


def test_each_question_gets_the_revision_that_counts_and_its_own_number():
    operations = []
    store = MemoryStore(lambda operation, _key: operations.append(operation))
    answers, _ = ask_all(Layout(store).propose, *(Revision(n, 0, b"%d" % n) for n in range(1, 5)))
    assert answers == {n - 1: Revision(n, 0, b"1") for n in range(1, 5)}
    assert operations == ["create"]


def test_questions_never_meet_and_never_hold_up_the_event_loop():
    busy, main = [], threading.current_thread()

    def propose(number, content):
        assert threading.current_thread() is not main
        busy.append(1)
        assert len(busy) == 1
        time.sleep(0.01)
        busy.pop()
        return number, content

    answers, errors = ask_all(propose, *(Revision(n, n, b"x") for n in range(8)))
    assert (len(answers), errors) == (8, [])


def test_a_failure_is_told_to_the_event_loop_and_the_next_question_is_answered():
    def propose(number, content):
        if number == 0:
            raise PermissionError("layout/000000")
        return number, content

    answers, (error,) = ask_all(propose, Revision(1, 0, b"x"), Revision(2, 1, b"y"))
    assert isinstance(error, PermissionError)
    assert answers == {1: Revision(2, 1, b"y")}
