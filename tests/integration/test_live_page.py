"""The live page in a browser, with answers that a test writes: every state of a run, every action, no Airflow."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from tests.browser import open_page, running_browser
from tests.live_pages import NOW, RUN, failure, overview, page_server, task_ref

ASSETS = Path(__file__).parents[2] / "airflow_prs" / "live" / "assets"
MOST_SENT_BYTES = 30_000
"""Of all files, as the API server sends them: compressed."""
MOST_BYTES = 73_500
"""Of all files, as somebody reads them."""
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e\"'&{{7*7}}"
STATES = {
    "not planned": "Not planned",
    "planned": "Planned",
    "running": "Running",
    "stopped": "Stopped",
    "completed": "Completed",
    "aborted": "Aborted",
    "failed": "Failed",
    "unreadable": "Unreadable",
}


@pytest.fixture(scope="module")
def server():
    with page_server() as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with running_browser() as running:
        yield running


@pytest.fixture
def answers(server):
    """What the server answers, as if nobody had asked it before."""
    server.answers.__init__()
    server.answers.step = overview()
    server.answers.failures = [failure(47 * number) for number in (1, 2, 3)]
    return server.answers


@pytest.fixture(scope="module")
def context(browser):
    """What all pages share: the files of the page are loaded once."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as shared:
        yield shared


@pytest.fixture
def page(context):
    with open_page(context) as opened:
        yield opened


@pytest.fixture(scope="module")
def clock_context(browser):
    with browser.new_context() as shared:
        shared.clock.install(time=NOW)
        yield shared


@pytest.fixture
def timed(clock_context):
    """A page whose clock the test moves."""
    with open_page(clock_context) as opened:
        yield opened


def looks(server, page):
    """Return how often the page has asked for the step, once everything that is due has been asked."""
    page.evaluate("(url) => fetch(url).then(() => null)", f"{server.url}/parallel-run/api/runs")
    return sum(path.endswith("/steps/score") for path in server.answers.asked)


def is_step(response):
    return response.url.endswith("/steps/score")


def show(server, page, **query):
    page.goto(server.page(**query))
    page.get_by_role("heading", level=2).wait_for()
    return page


def text_of(page):
    return page.locator(".prs").inner_text()


def hide(page, is_hidden):
    page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def test_the_page_is_small_and_names_no_other_host():
    sent = sum(len(gzip.compress(path.read_bytes(), 5)) for path in ASSETS.iterdir())
    assert sent < MOST_SENT_BYTES
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) < MOST_BYTES
    texts = "".join(path.read_text() for path in ASSETS.iterdir())
    assert set(re.findall(r"https?://[^\s\"'`]*", texts)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_running_step_shows_how_far_it_is_and_what_each_process_does(server, page, answers, scheme):
    answers.step = overview(changes=[{"at": NOW - 30, "author": "ada", "what": "error_threshold: 100 -> 250"}])
    page.emulate_media(color_scheme=scheme)
    show(server, page).get_by_role("button", name="Tries of mini-batch 47").wait_for()
    text = text_of(page)
    for part in (
        "62 %",
        "312 of 500, 3 failed",
        "15,450 of 25,000",
        "3.4 / s",
        "about 55 s",
        "2 min 30 s",
        "150 of 250 items",
        "100 items left",
        "by ada",
        "20 mini-batches from shard 2, 4 done.",
        "4 of 4 processes busy, longest 3.4 s",
        "mini-batch 141 for 0.4 s",
        "RUN_EXCEPTION ValueError: cannot read this letter",
        "Memory 2.6 GiB peak 2.7 GiB",
        "RUN_TIMEOUT 60 s",
    ):
        assert part in text
    background, *colors = page.evaluate(
        """["html", ".prs", ".muted", ".badge", ".is-bad", "a", "thead th", ".danger"].map((name, index) =>
          getComputedStyle(document.querySelector(name))[index ? "color" : "backgroundColor"])"""
    )
    assert contrast(background, colors[0]) > 7
    assert min(contrast(background, color) for color in colors) >= 4.5


def contrast(*colors):
    """Return the contrast of two colors as WCAG measures it."""

    def luminance(color):
        parts = [float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3]]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted(map(luminance, colors))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_name_and_an_outline(server, page, answers, state):
    answers.step = overview(state)
    show(server, page)
    assert page.locator(".head .badge").inner_text() == STATES[state]
    assert page.locator(".head .badge svg").count() == 1


def test_an_abort_shows_its_cause_and_the_next_action(server, page, answers):
    reason = "300 of 25,000 items failed, error_threshold allows 250."
    answers.step = overview(
        "aborted", failed=6, abort={"kind": "threshold", "reason": reason, "author": None, "at": NOW}
    )
    show(server, page)
    notice = page.get_by_role("alert")
    assert reason in notice.inner_text()
    assert "exceeded" in text_of(page)
    notice.get_by_role("button", name="Retry failed mini-batches").click()
    page.get_by_role("dialog").wait_for()


def test_a_person_who_stopped_the_run_is_named(server, page, answers):
    answers.step = overview(
        "aborted", failed=0, abort={"kind": "drain", "reason": "drained", "author": "ada", "at": NOW}
    )
    assert "by ada" in show(server, page).locator(".notice").inner_text()
    assert page.locator(".notice").get_by_role("button", name="Resume").is_visible()


def test_failures_within_the_thresholds_are_a_success_with_a_number(server, page, answers):
    answers.step = overview("completed", total=500, done=500, failed=2)
    text = show(server, page).locator(".notice").inner_text()
    assert "Completed. 100 of 25,000 items failed, which the thresholds allow" in text


@pytest.mark.parametrize(
    ("total", "squares", "text"),
    [
        (10, 10, "Mini-batch 1: succeeded"),
        (1_000_000, 400, "Mini-batches 2,500 to 4,999: 2,500 succeeded (100 % done)"),
    ],
)
def test_the_map_is_readable_for_few_and_for_a_million(server, page, answers, total, squares, text):  # noqa: PLR0917
    answers.step = overview(total=total, done=total * 6 // 10, failed=1)
    show(server, page)
    assert page.locator(".map i").count() == squares
    assert page.locator(".map .bad, .map .partly-bad").count() == 1
    slider = page.get_by_role("slider", name="Map of")
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.locator(".readout", has_text=text).wait_for()
    assert slider.get_attribute("aria-valuetext") == text
    page.locator(".map i").nth(squares // 2).hover()
    page.locator(".readout", has_text=f"Mini-batch{'' if squares == total else 'es'} {total // 2:,}").wait_for()


def test_charts_can_be_read_point_by_point(server, page, answers):
    slider = show(server, page).get_by_role("slider", name="Throughput")
    slider.focus()
    page.keyboard.press("End")
    page.locator(".readout", has_text="312 done, 3 failed. Throughput 3.6 / s, CPU 96 %, Memory 2.6 GiB").wait_for()


def test_failed_mini_batches_show_items_tries_tracebacks_and_logs(server, page, answers):
    show(server, page)
    page.get_by_role("button", name="Tries of mini-batch 47").click()
    card = page.locator("section", has=page.get_by_role("heading", name="Failed mini-batches"))
    card.locator("h4").first.wait_for()
    text = card.inner_text()
    assert "/data/letters/2026/09/0047/00019.txt" in text
    assert "and 30 more" in text
    assert 'raise ValueError("cannot read this letter")' in text
    assert [summary.inner_text() for summary in card.locator("h4").all()][1:] == [
        f"Try {number} RUN_EXCEPTION" for number in (3, 2, 1)
    ]
    script, task = card.get_by_role("link").all()[:2]
    assert script.get_attribute("href").startswith(f"{server.url}/parallel-run/api/dags/score_letters/")
    assert task.inner_text() == "Log of the task, attempt 1"
    assert task.get_attribute("href").startswith(f"{server.url}/dags/score_letters/")


def test_tracebacks_need_a_permission(server, page, answers):
    shown = failure(1)
    for each in shown["tries"]:
        each["traceback"] = None
    answers.failures = [shown]
    show(server, page).get_by_role("button", name="Tries of mini-batch 1").click()
    page.get_by_text("you need the permission to read task logs").nth(2).wait_for()


def test_many_failures_have_pages(server, page, answers):
    answers.step = overview(failed=45)
    answers.failures = [failure(number) for number in range(45)]
    show(server, page)
    pages = page.get_by_role("navigation", name="Pages of failed mini-batches")
    pages.get_by_text("1 to 20 of 45").wait_for()
    pages.get_by_role("button", name="Next").click()
    pages.get_by_text("21 to 40 of 45").wait_for()
    pages.get_by_role("button", name="Next").click()
    pages.get_by_text("41 to 45 of 45").wait_for()
    assert pages.get_by_role("button", name="Next").is_disabled()
    page.get_by_role("button", name="Tries of mini-batch 44").wait_for()


def test_what_a_run_contains_is_text_and_never_markup(server, page, answers):
    shown = failure(1)
    shown["items"] = [EVIL]
    for each in shown["tries"]:
        each |= {"error": EVIL, "status": EVIL, "traceback": EVIL, "node": EVIL, "process": EVIL}
        each |= {"log": "javascript:alert(3)", "task": {**task_ref(EVIL), "url": "https://elsewhere.example/"}}
    answers.failures = [shown]
    step = overview("aborted", abort={"kind": EVIL, "reason": EVIL, "author": EVIL, "at": NOW}, problem=EVIL)
    step |= {"xcom": {"summary": {EVIL: EVIL}, "error": EVIL}, "step": EVIL, "command": EVIL}
    step |= {"result": {"location": EVIL, "rows": 1, "reports": [EVIL], "head": [EVIL]}}
    step |= {"configuration": [{"name": EVIL, "value": EVIL, "is_promoted": True}]}
    step |= {"changes": [{"at": NOW, "author": EVIL, "what": EVIL}]}
    step["nodes"][0] |= {"node": EVIL, "state": EVIL, "loans": [EVIL]}
    step["slowest"][0]["node"] = EVIL
    answers.step = step
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    show(server, page)
    page.get_by_role("button", name="Tries of mini-batch 1").click()
    page.get_by_role("button", name="Show the configuration").click()
    page.get_by_role("cell", name=re.compile("{{7")).first.wait_for()
    assert text_of(page).count("<script>alert(2)</script>") >= 15
    assert page.locator(".prs img, .prs script").count() == 0
    assert page.locator("a[href^='javascript'], a[href*='elsewhere']").count() == 0
    assert dialogs == []


def test_a_running_step_is_asked_for_every_three_seconds_and_sent_if_it_has_changed(server, timed, answers):
    show(server, timed)
    for _ in range(3):
        with timed.expect_response(is_step) as response:
            timed.clock.fast_forward(3000)
        assert response.value.status == 304
    answers.step = overview(done=400)
    with timed.expect_response(is_step) as response:
        timed.clock.fast_forward(3000)
    timed.get_by_text("400 of 500").wait_for()


def test_a_step_that_has_ended_is_asked_for_once_a_minute(server, timed, answers):
    answers.step = overview("completed", done=500)
    show(server, timed)
    timed.clock.fast_forward(50_000)
    assert looks(server, timed) == 1
    with timed.expect_response(is_step):
        timed.clock.fast_forward(11_000)


def test_nothing_is_asked_while_nobody_can_see_the_page(server, timed, answers):
    show(server, timed)
    hide(timed, True)
    timed.clock.fast_forward(600_000)
    assert looks(server, timed) == 1
    with timed.expect_response(is_step):
        hide(timed, False)


def test_nothing_is_asked_after_the_login_has_expired(server, timed, answers):
    show(server, timed)
    answers.step = (401, "no user")
    with timed.expect_response(is_step):
        timed.clock.fast_forward(3000)
    timed.get_by_text("You are not logged in any more.").wait_for()
    asked = looks(server, timed)
    timed.clock.fast_forward(600_000)
    assert looks(server, timed) == asked
    assert "312 of 500" in text_of(timed)


def test_a_step_that_has_not_begun_is_expected_while_the_run_is_active(server, timed, answers):
    answers.step = (404, "no parallel step")
    timed.goto(server.page())
    timed.get_by_text("Waiting for the plan of score").wait_for()
    answers.step = overview()
    with timed.expect_response(lambda response: is_step(response) and response.ok):
        timed.clock.fast_forward(1000)
    timed.get_by_text("312 of 500").wait_for()


def test_a_step_that_never_began_is_an_answer_too(server, page, answers):
    answers.step, answers.airflow_state = (404, "the run has no parallel step 'score'"), "failed"
    page.goto(server.page())
    page.get_by_text("There is no parallel run here.").wait_for()
    assert "the run has no parallel step 'score'" in text_of(page)


@pytest.mark.parametrize(
    ("status", "text"), [(403, "You may not read this DAG run."), (500, "The last update failed.")]
)
def test_a_refusal_says_what_to_do(server, page, answers, status, text):
    answers.step = (status, "why it is so")
    page.goto(server.page())
    page.get_by_text(text).wait_for()
    assert "why it is so" in text_of(page)


def test_a_machine_that_cannot_see_the_storage_says_what_to_do(server, page, answers):
    answers.step = {
        **overview(
            "failed", bins={"count": 0}, thresholds=[], nodes=[], history=[], skew=[], slowest=[], configuration=[]
        ),
        "problem": "Mount /data where the API server runs.",
        "tasks": {"plan": {"success": 1}, "mini_batches": {"running": 2, "success": 1}, "merge": {}},
        "xcom": {"summary": {"status": "aborted"}, "error": "5 of 500 items failed"},
        "progress": dict.fromkeys(overview()["progress"]),
    }
    text = text_of(show(server, page))
    for part in (
        "Mount /data where",
        "airflow-prs show /data/scores",
        "aborted",
        "5 of 500 items failed",
        "2 running, 1 success",
    ):
        assert part in text


def test_an_answer_that_nobody_expected_breaks_the_page_alone(server, page, answers):
    answers.step = overview(nodes=[None])
    page.goto(server.page())
    page.get_by_text("This page has an error.").wait_for()
    assert "airflow-prs show" in text_of(page)


def test_limits_are_changed_with_the_keyboard_alone(server, page, answers):
    show(server, page)
    page.get_by_role("button", name="Change limits").focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("error_threshold")
    field.fill("ten")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("error_threshold is ten. It must be a whole number, -1 or more.").wait_for()
    assert field.evaluate("(node) => node === document.activeElement")
    field.fill("20")
    page.keyboard.press("Enter")
    page.get_by_text("error_threshold 10 -> 20").wait_for()
    assert answers.sent == [
        (f"parallel-run/api/dags/{RUN['dag_id']}/runs/{RUN['run_id']}/steps/score/limits", {"error_threshold": 20})
    ]
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.get_by_role("button", name="Change limits").evaluate("(node) => node === document.activeElement")


def test_limits_that_do_not_differ_are_not_sent(server, page, answers):
    show(server, page).get_by_role("button", name="Change limits").click()
    page.get_by_role("dialog").get_by_role("button", name="Change limits").click()
    page.get_by_role("alert").get_by_text("No limit differs from the present one.").wait_for()
    assert answers.sent == []


@pytest.mark.parametrize("name", ["Cancel", "Drain"])
def test_a_run_is_stopped_after_a_question(server, page, answers, name):
    show(server, page).get_by_role("button", name=name, exact=True).click()
    dialog = page.get_by_role("dialog")
    assert answers.step["actions"][name.lower()]["why"] in dialog.inner_text()
    assert answers.sent == []
    dialog.get_by_role("button", name=name, exact=True).click()
    dialog.get_by_role("status").wait_for()
    assert [body for _, body in answers.sent] == [{"kind": name.lower()}]


def test_failed_mini_batches_are_cleared_through_the_api_of_airflow(server, page, answers):
    answers.step = overview("aborted", failed=6)
    show(server, page).locator(".head").get_by_role("button", name="Retry failed mini-batches").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("score.mini_batches[2]").wait_for()
    dialog.get_by_role("button", name="Retry failed mini-batches: clear 4 tasks").click()
    dialog.get_by_text("The failed mini-batches run again.").wait_for()
    ids = [["score.mini_batches", 0], ["score.mini_batches", 2], "score.gatekeeper", "score.merge"]
    assert answers.sent == [(f"api/v2/dags/{RUN['dag_id']}/clearTaskInstances", {"task_ids": ids})]


def test_a_refused_action_shows_why_and_can_be_tried_again(server, page, answers):
    answers.refused = {"clearTaskInstances": (409, "the run is being cleared already")}
    answers.step = overview("stopped")
    show(server, page).locator(".head").get_by_role("button", name="Resume").click()
    page.get_by_role("button", name=re.compile("Resume: clear")).click()
    page.get_by_role("dialog").get_by_role("alert").get_by_text("the run is being cleared already").wait_for()
    answers.refused = {}
    page.get_by_role("button", name=re.compile("Resume: clear")).click()
    page.get_by_text("The run continues where it stopped.").wait_for()


def test_what_cannot_be_done_now_says_why_and_shows_the_command(server, page, answers):
    show(server, page).get_by_role("button", name="Resume").click()
    text = page.get_by_role("dialog").inner_text()
    assert "The run is under way." in text
    assert "airflow-prs runs resume /data/scores" in text
    assert page.get_by_role("dialog").get_by_role("button").all_inner_texts() == ["Copy", "Close"]
    assert answers.sent == []


def test_new_limits_of_a_run_that_has_ended_lead_to_publishing_it(server, page, answers):
    answers.step = overview("aborted", failed=6)
    show(server, page).get_by_role("button", name="Change limits").click()
    page.get_by_label("error_threshold").fill("500")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Publish …").click()
    page.get_by_role("button", name="Publish: clear 2 tasks").click()
    page.get_by_text("gatekeeper and merge run again").wait_for()
    assert answers.sent[-1][1] == {"task_ids": ["score.gatekeeper", "score.merge"]}


def test_an_update_keeps_what_the_reader_has_opened_and_where_they_are(server, timed, answers):
    show(server, timed)
    toggle = timed.get_by_role("button", name="Tries of mini-batch 47")
    toggle.click()
    toggle.focus()
    answers.step = overview(done=400, nodes=[])
    with timed.expect_response(is_step):
        timed.clock.fast_forward(3000)
    timed.get_by_text("400 of 500").wait_for()
    assert toggle.get_attribute("aria-expanded") == "true"
    assert toggle.evaluate("(node) => node === document.activeElement")


def test_a_run_of_several_steps_lets_choose_one(server, page, answers):
    answers.steps = [{**RUN, "state": "completed"}, {**RUN, "step": "train", "state": "running"}]
    show(server, page)
    steps = page.get_by_role("navigation", name="Steps of this run")
    assert steps.get_by_role("button", pressed=True).inner_text().startswith("train")
    with page.expect_response(is_step):
        steps.get_by_role("button", name="score").click()
    steps.get_by_role("button", name="score", pressed=True).wait_for()


def test_the_list_of_runs_leads_to_each_run(server, page, answers):
    row = {
        **RUN,
        "state": "running",
        "total": 500,
        "done": 312,
        "failed": 3,
        "items_failed": 150,
        "began": NOW,
        "page": "dags/x",
    }
    unreadable = {
        **row,
        "dag_id": "other",
        "state": "unreadable",
        "total": None,
        "done": None,
        "failed": None,
        "items_failed": None,
    }
    answers.runs = [row, unreadable]
    page.goto(f"{server.url}/parallel-run/page")
    page.get_by_role("row", name="Unreadable").wait_for()
    assert "312 of 500" in page.get_by_role("table").inner_text()
    page.get_by_role("link", name="score_letters.score").click()
    page.get_by_text("15,450 of 25,000").wait_for()


def test_no_runs_yet_is_said(server, page, answers):
    page.goto(f"{server.url}/parallel-run/page")
    page.get_by_text("No parallel runs yet.").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_inside_airflow_it_follows_its_theme_and_leaves_nothing_behind(server, timed, answers, theme):
    timed.goto(server.page(host=theme, taskId="score.mini_batches", mapIndex="1"))
    timed.get_by_text("312 of 500").wait_for()
    background = timed.locator(".button").first.evaluate("(node) => getComputedStyle(node).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if theme == "light" else "rgb(11, 13, 18)")
    assert timed.locator("tr.this").inner_text().startswith("worker-1-1-1")
    assert "score_letters" not in text_of(timed)
    timed.evaluate("leave()")
    timed.clock.fast_forward(600_000)
    assert looks(server, timed) == 1
    assert timed.locator(".prs").count() == 0


def test_inside_airflow_the_list_leads_to_its_tabs(server, page, answers):
    answers.runs = [{**RUN, "state": "running", "page": "dags/d/runs/r/plugin/parallel-run"}]
    page.goto(f"{server.url}/light")
    link = page.get_by_role("link", name="score_letters.score")
    assert link.evaluate("(node) => node.href") == f"{server.url}/dags/d/runs/r/plugin/parallel-run"


@pytest.mark.parametrize("width", [320, 700])
def test_a_narrow_window_needs_no_scrolling_to_the_side(server, page, answers, width):
    page.set_viewport_size({"width": width, "height": 800})
    show(server, page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_nothing_moves_for_readers_who_do_not_want_it(server, page, answers):
    page.emulate_media(reduced_motion="reduce")
    show(server, page)
    durations = page.locator(".prs *").evaluate_all(
        "(nodes) => nodes.map((node) => getComputedStyle(node).transitionDuration)"
    )
    assert set(durations) == {"0s"}


def test_a_screen_reader_gets_names_for_everything(server, page, answers):
    show(server, page)
    unnamed = page.locator("button, a, input, section, [role=slider], table, nav").evaluate_all(
        """(nodes) => nodes
        .filter((node) => !(node.ariaLabel || node.innerText.trim() || node.getAttribute("aria-labelledby")))
        .map((node) => node.outerHTML)"""
    )
    assert unnamed == []
    assert page.get_by_role("status").first.text_content() == "running, 60 % done, 3 failed"
