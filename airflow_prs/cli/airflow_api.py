"""Airflow's REST API, as far as a command needs it to clear task instances."""

from __future__ import annotations

import configparser
import json
import os
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from airflow_prs.errors import PrsError
from airflow_prs.records import RunIdentity
from airflow_prs.steering.clearing import ClearRequest, dag_path
from airflow_prs.step_tasks import PLAN, TASKS, task_of

TOKEN_VARIABLE = "AIRFLOW_PRS_API_TOKEN"  # noqa: S105 - its name, not its value
_PAGE = 100
"""The most task instances in an answer; Airflow's own default limit."""
_TIMEOUT_S = 60
_HINTS = {
    HTTPStatus.UNAUTHORIZED: f"the token is missing, wrong or expired; pass --token, or set {TOKEN_VARIABLE}",
    HTTPStatus.FORBIDDEN: "the token's user may not do this",
}


class AirflowApiError(PrsError):
    """
    Airflow's API cannot be reached, or has refused a request.

    :param status: of HTTP; 0: there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class AirflowApi:
    """
    Airflow's REST API.

    :param url: its base URL, which may have a path.
    :param token: a token of Airflow's API; '': none.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._token = token

    def states(self, identity: RunIdentity) -> dict[str, dict[int, str | None]]:
        """
        Return the states of a step's tasks, see steering.clearing.States.

        :raises AirflowApiError: if they cannot be read.
        """
        run = f"{dag_path(identity.dag_id)}/dagRuns/{_quoted(identity.run_id)}"
        # A run that is not there has no tasks either: say so.
        self._call("GET", run)
        ids = [task_of(identity.task_id, task) for task in TASKS if task != PLAN]
        return {task_id: dict(self._states_of(f"{run}/taskInstances/{_quoted(task_id)}")) for task_id in ids}

    def clear(self, request: ClearRequest) -> list[dict[str, Any]]:
        """
        Clear task instances, and return them as Airflow describes them.

        :raises AirflowApiError: if Airflow refuses it.
        """
        return list(self._call("POST", request.path, request.body)["task_instances"])

    def _states_of(self, task: str) -> Iterator[tuple[int, str | None]]:
        found = self._find(task)
        if found is not None:
            yield -1, found["state"]
            return
        count = 0
        while page := self._find(f"{task}/listMapped?{urlencode({'limit': _PAGE, 'offset': count})}"):
            yield from ((each["map_index"], each["state"]) for each in page["task_instances"])
            count += len(page["task_instances"])
            if not page["task_instances"] or count >= page["total_entries"]:
                return

    def _find(self, path: str) -> Any:
        """Return what there is; None: there is nothing."""
        try:
            return self._call("GET", path)
        except AirflowApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self._url}/{path}", data, headers, method=method)  # noqa: S310 - the user's own URL
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
                return json.load(answer)
        except HTTPError as error:
            hint = _HINTS.get(HTTPStatus(error.code), "")
            said = error.read().decode(errors="replace")[:1000]
            message = f"Airflow's API at {self._url} answers {error.code} to {method} {path}: {hint or said}."
            raise AirflowApiError(message, error.code) from None
        except (URLError, OSError, ValueError) as error:
            raise AirflowApiError(
                f"Airflow's API at {self._url} cannot be used: {getattr(error, 'reason', error)}. Pass its base URL as "
                "--api-url."
            ) from None


def find_api(url: str | None, token: str | None) -> AirflowApi:
    """
    Return Airflow's API.

    :param url: the base URL; None: that of Airflow's configuration, ``[api] base_url``.
    :param token: the token; None: that of the environment.
    :raises AirflowApiError: if there is no URL.
    """
    found = url or os.environ.get("AIRFLOW__API__BASE_URL") or _configured_url()
    if not found:
        raise AirflowApiError(
            "only Airflow's API can clear task instances, and its address is not known: pass --api-url, or set [api] "
            "base_url in Airflow's configuration."
        )
    if not found.startswith(("http://", "https://")):
        raise AirflowApiError(f"--api-url is {found!r}; allowed: an address that begins with http:// or https://")
    return AirflowApi(found, token or os.environ.get(TOKEN_VARIABLE, ""))


def _configured_url() -> str:
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    # Airflow itself is not imported: that takes seconds, and it need not be installed here.
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(os.environ.get("AIRFLOW_CONFIG", home / "airflow.cfg"))
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return parser.get("api", "base_url", fallback="")


def _quoted(name: str) -> str:
    return quote(name, safe="")
