"""Compare the live page with Airflow's own page of a run, and the page of 1,000,000 mini-batches with that of 1,000."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.comparing import Comparison
from tests.airflow_services import running_airflow
from tests.browser import running_browser
from tests.live_pages import overview, page_server
from tests.system.step_runs import Place, StepRun, write_dag

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, CDPSession, Page

_ROUNDS = 5
_FEW, _MANY = 1_000, 1_000_000
_READS = 20
_PATIENCE_S = 120


def page(_scale: float) -> Iterator[Comparison]:
    """Yield the comparisons; what they need runs until the last one is measured."""
    with running_browser() as browser, browser.new_context() as context:
        context.set_default_timeout(1000 * _PATIENCE_S)
        yield from _beside_airflow(context)
        yield from _of_a_million(context)


def _beside_airflow(context: BrowserContext) -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as folder, running_airflow(Path(folder, "home")) as services:
        write_dag(services, "seen")
        run = StepRun.trigger(services, "seen", Place(Path(folder, "place")))
        if run.finish() != "success":
            raise RuntimeError(run.summary())
        address = f"{services.url}/dags/seen/runs/{run.run_id}"

        def ours() -> float:
            return _first_data_s(context, f"{address}/plugin/parallel-run", ".prs .facts b")

        def airflows() -> float:
            return _first_data_s(context, address, "main table tbody a, table tbody a")

        # The first look logs in and fills the caches of the browser and of the server.
        ours(), airflows()
        work, peer = "first data of a run in its tab, from the address", "first data of Airflow's own page of the run"
        yield Comparison(work, peer, 1.5, ours, airflows, rounds=_ROUNDS)


def _first_data_s(context: BrowserContext, address: str, selector: str) -> float:
    page = context.new_page()
    try:
        began = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.locator(selector).first.wait_for()
        return time.perf_counter() - began
    finally:
        page.close()


def _of_a_million(context: BrowserContext) -> Iterator[Comparison]:
    with page_server() as server:

        def opened(total: int, measure: Callable[[Page], float]) -> Callable[[], float]:
            def run() -> float:
                server.answers.step = overview(total=total, done=total * 6 // 10, failed=total // 100)
                page = context.new_page()
                try:
                    return measure(page)
                finally:
                    page.close()

            return run

        def map_s(page: Page) -> float:
            began = time.perf_counter()
            page.goto(server.page(), wait_until="commit")
            page.locator(".map i").last.wait_for()
            return time.perf_counter() - began

        def read_s(page: Page) -> float:
            map_s(page)
            client = context.new_cdp_session(page)
            # CPU time of the main thread, so that neither the next frame nor other processes are measured.
            client.send("Performance.enable", {"timeDomain": "threadTicks"})
            before = _busy_s(client)
            page.evaluate(_READ_SQUARES, _READS)
            return (_busy_s(client) - before) / _READS

        def heap_bytes(page: Page) -> float:
            map_s(page)
            client = context.new_cdp_session(page)
            client.send("HeapProfiler.collectGarbage")
            return float(client.send("Runtime.getHeapUsage")["usedSize"])

        opened(_MANY, map_s)()
        for what, measure, unit in (
            ("until the map is there", map_s, "s"),
            ("CPU time from a key to the text of the next square", read_s, "s"),
            ("memory of its JavaScript", heap_bytes, "MiB"),
        ):
            sides = opened(_MANY, measure), opened(_FEW, measure)
            yield Comparison(
                f"page of {_MANY:,} mini-batches: {what}", f"that of {_FEW:,}", 1.25, *sides, unit, _ROUNDS
            )


def _busy_s(client: CDPSession) -> float:
    metrics = client.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


_READ_SQUARES = """async (count) => {
  const slider = document.querySelector("[role=slider]");
  slider.focus();
  for (let number = 0; number < count; number += 1) {
    const before = slider.getAttribute("aria-valuetext");
    slider.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    while (slider.getAttribute("aria-valuetext") === before) await new Promise(requestAnimationFrame);
  }
}"""
"""Moves over the squares of the map, and waits until each one is read out."""
