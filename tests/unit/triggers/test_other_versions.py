"""A triggerer that has another version of the package than the gatekeeper whose trigger it loads."""

from __future__ import annotations

import asyncio
from inspect import signature

import pytest
from airflow.executors.workloads import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger

from airflow_prs.triggers.gatekeeper import GatekeeperTrigger

PATH = f"{GatekeeperTrigger.__module__}.{GatekeeperTrigger.__qualname__}"


@pytest.fixture
def arguments():
    """The arguments of a trigger as Airflow's database keeps them."""
    return GatekeeperTrigger(**dict.fromkeys(signature(GatekeeperTrigger).parameters, "")).serialize()[1]


def load(*stored):
    """Let a triggerer load triggers, each a path and arguments; return what failed and what runs, by number."""

    async def create():
        runner = TriggerRunner()
        for number, (path, arguments) in enumerate(stored):
            encrypted = Trigger.encrypt_kwargs(arguments)
            runner.to_create.append(RunTrigger(id=number, ti=None, classpath=path, encrypted_kwargs=encrypted))
        await runner.create_triggers()
        for details in runner.triggers.values():
            details["task"].cancel()
        return {number: type(error) for number, error in runner.failed_triggers}, set(runner.triggers)

    return asyncio.run(create())


def test_a_trigger_of_the_same_version_runs(arguments):
    assert load((PATH, arguments)) == ({}, {0})


OTHERS = {
    "one argument more": (PATH, lambda arguments: {**arguments, "added": 1}),
    "one argument less": (PATH, lambda arguments: dict(list(arguments.items())[1:])),
    "another class": (f"{PATH}2", dict),
    "another module": ("airflow_prs.triggers.gone.GatekeeperTrigger", dict),
}


@pytest.mark.parametrize(("path", "change"), OTHERS.values(), ids=OTHERS)
def test_a_trigger_of_another_version_fails_alone(arguments, path, change):
    failed, running = load((path, change(arguments)), (PATH, arguments))
    assert set(failed) == {0}
    assert issubclass(failed[0], (TypeError, ImportError))
    assert running == {1}
