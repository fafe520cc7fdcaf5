"""The live page inside a real Airflow below a path of its own: runs are watched and steered by clicks alone."""

from __future__ import annotations

import re

import pytest

from tests.airflow_services import running_airflow
from tests.browser import open_page, running_browser
from tests.system.step_runs import Place, StepRun, write_dag

pytestmark = [pytest.mark.system, pytest.mark.slow]

ITEMS = 12
PATIENCE_S = 120


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    with running_airflow(tmp_path_factory.mktemp("airflow") / "home", prefix="/team/airflow") as services:
        write_dag(services, "watched", config="process_count_per_node=2,")
        yield services
    assert services.processes() == []


@pytest.fixture(scope="module")
def browser():
    with running_browser() as running:
        yield running


def test_runs_are_watched_and_steered_in_the_browser(airflow, browser, tmp_path):
    tolerated, aborted, stopped = (Place(tmp_path / name, ITEMS) for name in "abc")
    tolerated.fail("0003")
    tolerated.hold("0005")
    # The last one: after its abort no work is left, so that the run can be published.
    aborted.fail(f"{ITEMS - 1:04}")
    stopped.hold("0005")
    watched, *others = [
        StepRun.trigger(airflow, "watched", place, allowed=allowed, tries=1, nodes=1)
        for place, allowed in ((tolerated, 4), (aborted, 0), (stopped, 0))
    ]
    with browser.new_context(viewport={"width": 1440, "height": 950}) as context:
        with open_page(context, PATIENCE_S) as page:
            _watch_to_its_end(page, watched)
        for run, steer in zip(others, (_publish_under_new_limits, _stop_and_resume), strict=True):
            with open_page(context, PATIENCE_S) as page:
                steer(page, run)
        with open_page(context, PATIENCE_S) as page:
            _find_in_the_list(page, airflow.url, watched)
    assert [len(place.result or []) for place in (tolerated, aborted, stopped)] == [12, 11, 12]
    assert tolerated.ran["0003"] == 2


def _watch_to_its_end(page, run):
    """A tab that was opened before plan has ended shows everything without a reload; failures are tried again."""
    _open(page, run)
    _wait(page, "11 of 12, 1 failed")
    # The map is of the status of the node, which may be a few seconds older than the counts.
    page.locator(".map .bad").wait_for()
    assert "mini-batch 5 for" in page.locator(".processes").inner_text()
    _fill_limit(page, "9")
    page.keyboard.press("Escape")
    _wait(page, "1 of 9 items")
    page.get_by_role("button", name="Tries of mini-batch 3").click()
    _wait(page, "ValueError: 0003 is bad")
    script = page.get_by_role("link", name="Log of the script").get_attribute("href")
    assert "has written no log" in page.request.get(script).text()
    run.place.release()
    _wait(page, "which the thresholds allow")
    run.place.repair()
    _act(page, "Retry failed mini-batches")
    _wait(page, "12 of 12, 0 failed")
    _wait_for_state(page, "Completed")


def _publish_under_new_limits(page, run):
    _open(page, run)
    _wait_for_state(page, "Aborted")
    _wait(page, "error_threshold allows 0")
    _fill_limit(page, "5")
    page.get_by_role("button", name="Publish …").click()
    _confirm(page, "Publish")
    page.keyboard.press("Escape")
    _wait_for_state(page, "Completed")


def _stop_and_resume(page, run):
    _open(page, run)
    _wait(page, "mini-batch 5 for")
    _act(page, "Cancel")
    _wait(page, "Cancelled")
    _act(page, "Resume")
    _wait(page, "mini-batch 5 for")
    _act(page, "Drain")
    run.place.release()
    _wait(page, "Drained")
    _act(page, "Resume")
    _wait_for_state(page, "Completed")


def _find_in_the_list(page, url, run):
    page.goto(f"{url}/plugin/parallel-runs")
    row = page.get_by_role("row", name=run.run_id)
    row.get_by_text("12 of 12").wait_for()
    row.get_by_role("link").click()
    _wait(page, "12 of 12, 0 failed")
    assert page.url.endswith("/plugin/parallel-run")


def _open(page, run):
    page.goto(f"{run.services.url}/dags/{run.dag_id}/runs/{run.run_id}/plugin/parallel-run")


def _wait(page, text):
    page.locator(".prs", has_text=text).wait_for()


def _wait_for_state(page, state):
    page.locator(".head .badge", has_text=state).wait_for()


def _act(page, action):
    """Click a button as soon as it can do something, confirm, and close the dialog."""
    page.locator(f".head button:not(.cannot):text-is('{action}')").click()
    _confirm(page, action)
    page.keyboard.press("Escape")


def _confirm(page, action):
    page.get_by_role("dialog").get_by_role("button", name=re.compile(f"^{action}")).click()
    page.get_by_role("dialog").locator("div[role=status]").wait_for()


def _fill_limit(page, value):
    page.locator(".head").get_by_role("button", name="Change limits").click()
    page.get_by_role("dialog").get_by_label("error_threshold").fill(value)
    _confirm(page, "Change limits")
