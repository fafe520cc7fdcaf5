"""The files for GitHub: workflows that do what the Makefile and .ci/run do, and pages and forms without a dead end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.test_docs import anchors, without_blocks

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = {path.name: path for path in (GITHUB / "workflows").glob("*.yml")}
PAGES = {path.name: path for path in GITHUB.glob("*.md")}
FORMS = {path.name: path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"}
TARGETS = set(re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
PROJECT = (ROOT / "pyproject.toml").read_text()
PYTHONS = re.findall(r"Programming Language :: Python :: (3\.\d+)", PROJECT)

every_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def read_workflow(name):
    """Read a workflow without YAML 1.1's idea that `on` is a truth value."""
    workflow = yaml.safe_load(WORKFLOWS[name].read_text())
    return {"on" if key is True else key: value for key, value in workflow.items()}


def jobs(name):
    return read_workflow(name)["jobs"]


def steps(name):
    return [step for job in jobs(name).values() for step in job.get("steps", [])]


def commands(name):
    """Give the shell commands of a workflow, those that a matrix holds included."""
    matrices = [job.get("strategy", {}).get("matrix", {}).get("include", []) for job in jobs(name).values()]
    return [step["run"] for step in steps(name) if "run" in step] + [
        entry["command"] for matrix in matrices for entry in matrix if "command" in entry
    ]


def targets(text):
    """Give the targets that the `make` commands of a text name."""
    named = re.findall(r"(?:^|\s|`)make((?: [a-z-]+)+)", text, re.MULTILINE)
    return {target for names in named for target in names.split()}


@every_workflow
def test_every_target_of_make_in_a_workflow_exists(name):
    assert targets("\n".join(commands(name))) - TARGETS == set()


@every_workflow
def test_every_command_of_a_workflow_is_one_for_bash(name):
    for command in commands(name):
        done = subprocess.run(["bash", "-n"], input=command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@every_workflow
def test_no_value_becomes_part_of_a_command(name):
    assert [command for command in commands(name) if "${{" in command] == []


@every_workflow
def test_every_action_is_pinned_to_a_commit_and_its_version_is_told(name):
    used = re.findall(r"uses: (\S+)(.*)", WORKFLOWS[name].read_text())
    loose = [
        action
        for action, comment in used
        if not (re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) and re.fullmatch(r" # v[\d.]+", comment))
        and not (ROOT / action).is_file()
    ]
    assert loose == []


def test_an_action_has_one_version():
    used = {use for path in WORKFLOWS.values() for use in re.findall(r"uses: ([\w/-]+@.+)", path.read_text())}
    assert len({use.partition("@")[0] for use in used}) == len(used)


@every_workflow
def test_a_workflow_may_read_and_no_more_but_for_the_job_that_creates_the_release(name):
    assert read_workflow(name)["permissions"] == {"contents": "read"}
    assert {job for job, content in jobs(name).items() if "permissions" in content} <= {"release"}


@every_workflow
def test_every_job_ends_and_waits_for_jobs_that_exist(name):
    for job in jobs(name).values():
        needs = job.get("needs", [])
        assert {needs} if isinstance(needs, str) else set(needs) <= set(jobs(name))
        assert "timeout-minutes" in job or "uses" in job


def test_ci_runs_what_must_pass_before_a_merge():
    assert ".ci/run" in commands("ci.yml")


def test_ci_runs_the_tests_with_every_python():
    rows = jobs("ci.yml")["tests"]["strategy"]["matrix"]["include"]
    # `make test-lowest`, which .ci/run runs, uses the oldest one, which the workflow installs beside the others.
    (oldest,) = set(PYTHONS) - {row["python"] for row in rows}
    assert oldest == PYTHONS[0]
    (setup,) = (step for step in steps("ci.yml") if "setup-python" in step.get("uses", ""))
    assert oldest in setup["with"]["python-version"].split()
    assert f"python{oldest}" in (ROOT / "Makefile").read_text()


def test_ci_passes_only_if_every_job_has_passed():
    others = set(jobs("ci.yml")) - {"passed"}
    assert jobs("ci.yml")["passed"]["needs"] in (sorted(others), *others)


def test_a_release_is_checked_with_every_python():
    assert jobs("release.yml")["check"]["strategy"]["matrix"]["python"] == PYTHONS


def test_a_release_waits_for_ci_and_for_the_check_of_its_files():
    assert jobs("release.yml")["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert "workflow_call" in read_workflow("ci.yml")["on"]
    assert set(jobs("release.yml")["release"]["needs"]) == {"ci", "check"}


@pytest.mark.parametrize(
    ("tag", "heading", "fits"),
    [
        ("v1.2.0", "## [1.2.0] - 2026-03-01", True),
        ("v1.2.0", "## [1.2.0] - unreleased", False),
        ("v1.2.0", "## [1.1.0] - 2026-03-01", False),
        ("v1.2.1", "## [1.2.1] - 2026-03-01", False),
    ],
)
def test_a_tag_must_fit_the_version_and_the_changelog(tag, heading, fits, tmp_path):
    (compare,) = (
        step["run"] for step in steps("release.yml") if "CHANGELOG" in step.get("run", "") and "grep" in step["run"]
    )
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    done = subprocess.run(
        ["bash", "-e", "-c", compare], cwd=tmp_path, env={"GITHUB_REF_NAME": tag}, check=False, capture_output=True
    )
    assert (done.returncode == 0) == fits


def test_the_newest_section_of_the_changelog_is_that_of_the_version():
    version = re.search(r'^version = "(.+)"$', PROJECT, re.MULTILINE)[1]
    assert re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_dead_link_and_names_targets_that_exist(page):
    text = PAGES[page].read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        path, _, anchor = target.partition("#")
        linked = (GITHUB / path).resolve()
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked.read_text()), target
    assert targets(text) - TARGETS == set()


@pytest.mark.parametrize("form", FORMS)
def test_every_field_of_a_form_has_a_name_and_a_label(form):
    body = yaml.safe_load(FORMS[form].read_text())["body"]
    fields = [field for field in body if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) > 0
