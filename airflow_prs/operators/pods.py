"""A pod as a YAML file writes it, made into what the KubernetesExecutor takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_prs.errors import ConfigError

_KEY = "pod_override"


def with_pod(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Let ``executor_config["pod_override"]`` be a pod where it is a mapping; the executor would refuse that later.

    :param arguments: of a compute target.
    :raises ConfigError: if the mapping is no pod, or Kubernetes' provider is not installed.
    """
    config = arguments.get("executor_config") or {}
    given = config.get(_KEY)
    if not isinstance(given, Mapping):
        return dict(arguments)
    return {**arguments, "executor_config": {**config, _KEY: _read_pod(given)}}


def _read_pod(given: Mapping[str, Any]) -> Any:
    try:
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    except ImportError as error:
        problem = f"compute_target has a {_KEY}, which needs apache-airflow-providers-cncf-kubernetes ({error})"
        raise ConfigError([problem]) from None
    try:
        pod = PodGenerator.deserialize_model_dict(dict(given))
        read = PodGenerator.serialize_pod(pod)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError([f"{_KEY} of compute_target is no pod: {error}"]) from None
    # What Kubernetes' client does not know it leaves out without a word.
    lost = [f"{_KEY} of compute_target: {path} is nothing that a pod has" for path in _lost(given, read)]
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
