"""`make screenshots`: take the pictures of the live page that README.md and docs/watching.md show, with real runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.airflow_services import AirflowServices, running_airflow
from tests.browser import open_page, running_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Route

IMAGES = Path(__file__).parent.parent / "docs" / "images"
FILES = 4_000
BAD = (611, 1_702, 2_390, 3_555)
PATIENCE_S = 180
COLORS = 256
SIZE = {"width": 1440, "height": 1010}
DAG = """
from airflow.sdk import DAG, Param
from airflow_prs import FileDataset, PipelineParameter, parallel_run

@parallel_run(
    inputs=FileDataset("{data}/*.txt"), output="{scores}", mini_batch_size=5, node_count=2,
    process_count_per_node=4, run_max_try=2,
    error_threshold=PipelineParameter("error_threshold", default_value=50),
)
def score(mini_batch):
    import random, time

    time.sleep(random.uniform(0.1, 0.9))
    for path in mini_batch:
        if not open(path).read().strip():
            raise ValueError(f"{{path}} is empty")
    return [f"{{path}} {{len(open(path).read())}}" for path in mini_batch]

with DAG("score_letters", schedule=None) as dag:
    score()
"""


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as name, running_browser() as browser:
        data = Path(name, "letters")
        data.mkdir()
        for number in range(FILES):
            (data / f"{number:05}.txt").write_text("" if number in BAD else "Dear reader")
        with running_airflow(Path(name, "airflow")) as services:
            (services.dags / "score_letters.py").write_text(DAG.format(data=data, scores=data.with_name("scores")))
            services.wait_for_dag("score_letters")
            _take_running(browser, services, data)
            _take_aborted(browser, services, data)


def _trigger(services: AirflowServices, run_id: str, conf: Mapping[str, Any]) -> str:
    body = {"logical_date": None, "dag_run_id": run_id, "conf": dict(conf)}
    services.api.post("dags/score_letters/dagRuns", body)
    return f"{services.url}/dags/score_letters/runs/{run_id}/plugin/parallel-run"


def _take_running(browser: Browser, services: AirflowServices, data: Path) -> None:
    address = _trigger(services, "a-run", {})
    for scheme in ("light", "dark"):
        with browser.new_context(color_scheme=scheme, viewport=SIZE) as context, open_page(context, PATIENCE_S) as page:
            _prepare(context, data)
            page.goto(address)
            page.get_by_role("button", name="Tries of mini-batch").nth(0 if scheme == "light" else 1).wait_for()
            _save(page, f"running_{scheme}")
    services.api.patch("dags/score_letters/dagRuns/a-run", {"state": "failed"})


def _take_aborted(browser: Browser, services: AirflowServices, data: Path) -> None:
    address = _trigger(services, "a-run-that-fails", {"error_threshold": 9})
    with browser.new_context(color_scheme="light", viewport=SIZE) as context, open_page(context, PATIENCE_S) as page:
        _prepare(context, data)
        page.goto(address)
        page.locator(".head .badge", has_text="Aborted").wait_for()
        page.get_by_role("button", name="Tries of mini-batch").first.click()
        page.get_by_text("is empty").last.wait_for()
        _save(page, "aborted")
        page.locator(".head").get_by_role("button", name="Change limits").click()
        page.get_by_role("dialog").get_by_role("textbox").first.wait_for()
        _save(page, "limits")


def _prepare(context: BrowserContext, data: Path) -> None:
    """Show the folder of the data under a shorter name than that of a temporary folder."""

    def shorten(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(str(data.parent), "/data"))

    context.route("**/parallel-run/api/**", shorten)


def _save(page: Page, name: str) -> None:
    """Save a picture with few colors, which makes it small."""
    page.mouse.move(0, 0)
    picture = Image.open(BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(IMAGES / f"live_{name}.png", optimize=True)


if __name__ == "__main__":
    main()
