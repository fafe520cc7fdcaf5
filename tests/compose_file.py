"""docker-compose.yaml as a container engine reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yaml"
EXAMPLE = ROOT / ".env.example"
_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


class MissingVariableError(Exception):
    """A variable that the file insists on has no value."""


def references(text: str) -> list[tuple[str, str, str]]:
    """Give the name of each variable in a text, ``-`` or ``?``, and the default or the complaint."""
    return [(name, sign, rest) for _, name, sign, rest in _REFERENCE.findall(text) if name]


def read_env(text: str) -> dict[str, str]:
    """Read a file of variables."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """Read the file with these variables."""
    return _filled(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")), variables)


def services(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Give the services by their names."""
    return load(variables)["services"]


def airflow_services(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Give the services that run Airflow."""
    return {name: each for name, each in services(variables).items() if each["image"] == "airflow-prs"}


def health_command(service: Mapping[str, Any]) -> list[str]:
    """Give the command of a health check, as a process starts it."""
    kind, *command = service["healthcheck"]["test"]
    return command if kind == "CMD" else ["sh", "-c", *command]


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, variables) for each in value]
    return _REFERENCE.sub(lambda match: _value(match, variables), value) if isinstance(value, str) else value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    dollar, name, sign, rest = match.groups()
    if dollar:
        return "$"
    value = variables.get(name, "")
    if not value and sign == "?":
        raise MissingVariableError(f"{name} {rest}")
    return value or rest or ""
