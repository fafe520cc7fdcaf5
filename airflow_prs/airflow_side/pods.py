"""Pods of compute targets, as a YAML file writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_prs.errors import ConfigError

_KEY = "pod_override"


def with_pod(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return arguments in which ``executor_config["pod_override"]`` is a pod; the executor would refuse a mapping later.

    :param arguments: the arguments of a compute target.
    :raises ConfigError: if the mapping is not a pod, or Airflow's provider for Kubernetes is not installed.
    """
    config = arguments.get("executor_config") or {}
    given = config.get(_KEY)
    if not isinstance(given, Mapping):
        return dict(arguments)
    return {**arguments, "executor_config": {**config, _KEY: _read_pod(given)}}


def _read_pod(given: Mapping[str, Any]) -> Any:
    try:
        # Airflow 3.1.0 to 3.3.2, with 10.8.0 to 10.25.0 of the provider: its executor reads and writes pods so, too.
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    except ImportError as error:
        problem = f"compute_target has a {_KEY}, which needs apache-airflow-providers-cncf-kubernetes ({error})"
        raise ConfigError([problem]) from None
    try:
        pod = PodGenerator.deserialize_model_dict(dict(given))
        read = PodGenerator.serialize_pod(pod)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError([f"{_KEY} of compute_target is not a pod: {error}"]) from None
    # Kubernetes' client ignores keys that it does not know.
    lost = [f"{_KEY} of compute_target: {path} is not a field of a pod" for path in _lost(given, read)]
    if lost:
        raise ConfigError(lost)
    return pod


def _lost(given: Any, read: Any, path: str = "") -> Iterator[str]:
    if isinstance(given, Mapping):
        for key, value in given.items():
            place = f"{path}.{key}" if path else str(key)
            if not isinstance(read, Mapping) or (key not in read and value is not None):
                yield place
            elif value is not None:
                yield from _lost(value, read[key], place)
    elif isinstance(given, list) and isinstance(read, list):
        for number, (value, kept) in enumerate(zip(given, read, strict=False)):
            yield from _lost(value, kept, f"{path}[{number}]")
