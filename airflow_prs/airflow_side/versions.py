"""What the installed version of Airflow can do."""

from __future__ import annotations

from importlib.metadata import version

from packaging.version import Version

_FIRST_WITH_COOKIE = Version("3.1.1")


def why_no_tab() -> str:
    """
    Return why Airflow's UI can show no tab of ours; '': it can.

    Airflow 3.1.0 keeps the token where only its own pages reach it, and its API accepts no cookie.
    """
    installed = version("apache-airflow-core")
    if Version(installed) >= _FIRST_WITH_COOKIE:
        return ""
    return (
        f"Airflow {installed} accepts no cookie in its API, so its UI has no tab for parallel runs; upgrade to Airflow "
        f"{_FIRST_WITH_COOKIE} or newer"
    )
