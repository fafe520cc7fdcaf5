"""Environment variables of a step, rendered by us so that Airflow never stores them."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow.sdk import XComArg
from airflow.sdk.log import mask_secret

from airflow_prs.airflow_side.configuration import conf
from airflow_prs.config.parameters import fill_in
from airflow_prs.errors import ConfigError
from airflow_prs.operators.declaration import SideInputPath, with_paths

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

_PURPOSE = b"airflow_prs environment variables"


class EnvironmentVariables:
    """
    The variables that an author set, not yet rendered.

    It is not a mapping, and its repr contains no value: Airflow writes an operator's arguments into its database.

    :param templates: the value of each name: text, a template, an XComArg, a PipelineParameter or a SideInputPath.
    """

    def __init__(self, templates: Mapping[str, Any]) -> None:
        self._templates = dict(templates)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, which are not secret."""
        return tuple(sorted(self._templates))

    def add_edges(self, task: BaseOperator) -> None:
        """Let a task run after the tasks whose results the values contain."""
        XComArg.apply_upstream_relationship(task, list(self._templates.values()))

    def render(self, task: BaseOperator, context: Context, side_inputs: Mapping[str, str]) -> dict[str, str]:
        """
        Return the rendered values, which are masked in all logs from then on.

        :param side_inputs: the local path of each side input.
        :raises ConfigError: if a value is not text or a number.
        """
        filled = fill_in(with_paths(self._templates, side_inputs), context["params"])
        rendered = task.render_template(filled, context)
        if problems := list(_problems(rendered)):
            raise ConfigError(problems)
        values = {name: str(value) for name, value in rendered.items()}
        for name, value in values.items():
            if not isinstance(self._templates[name], SideInputPath):
                _mask(value)
        return values

    def __repr__(self) -> str:
        return f"<environment variables: {', '.join(self.names) or 'none'}>"


def keyed_hash(values: Mapping[str, str]) -> str | None:
    """
    Return a hash of values that nobody without Airflow's key can compute.

    :return: None if Airflow has no key.
    """
    key = (conf.get("core", "fernet_key", fallback="") or "").split(",")[0].strip()
    if not key:
        return None
    secret = hmac.digest(key.encode(), _PURPOSE, "sha256")
    return hmac.new(secret, json.dumps(dict(sorted(values.items()))).encode(), hashlib.sha256).hexdigest()


def _mask(value: str) -> None:
    """Mask a value in all logs, and what a script may extract from it: the password of a URL, secret fields of JSON."""
    mask_secret(value)
    with suppress(ValueError):
        mask_secret(unquote(urlsplit(value).password or ""))
    with suppress(ValueError):
        mask_secret(json.loads(value))


def _problems(rendered: Mapping[str, Any]) -> Iterator[str]:
    for name, value in rendered.items():
        if value is None or isinstance(value, dict | list | tuple):
            yield f"environment_variables[{name!r}] was rendered to a {type(value).__name__}; allowed: text or a number"
        elif "\0" in str(value):
            yield f"environment_variables[{name!r}] holds a null character, which no environment variable can"
