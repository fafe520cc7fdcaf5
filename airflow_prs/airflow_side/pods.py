"""Pods for Airflow's KubernetesExecutor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def load_pod(mapping: Mapping[str, Any]) -> tuple[Any, Any]:
    """
    Return the pod that a mapping describes, and the mapping that the pod is written as.

    :raises ImportError: if Airflow's provider for Kubernetes is not installed.
    :raises AttributeError, TypeError, ValueError: if the mapping is not a pod.
    """
    # Airflow 3.1.0 to 3.3.2, with 10.8.0 to 10.25.0 of the provider: its executor reads and writes pods with this, too.
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    pod = PodGenerator.deserialize_model_dict(dict(mapping))
    return pod, PodGenerator.serialize_pod(pod)
