"""RunSettings: what plan has resolved. Every other task reads it from the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.errors import RunFolderError
from airflow_prs.records import LIMITS, SCHEMA, InputKind, InputSpec, RunIdentity

_TERMS_OF_FAILURES: Final = frozenset(
    {
        *LIMITS,
        "bisect_failed_mini_batches",
        "count_failed_tries",
        "exit_timeout_s",
        "max_concurrency_per_process",
        "max_memory_per_process",
        "max_mini_batches_per_process",
        "read_ahead",
        "retry_delay_s",
        "run_invocation_timeout",
        "run_max_try",
    }
)
TERMS: Final = _TERMS_OF_FAILURES | {
    "compute_target",
    "description",
    "keep_rows",
    "lend",
    "logging_level",
    "mini_batches_per_task",
    "node_count",
    "process_count_per_node",
}
"""Parameters that may change when a run folder is continued: neither its rows nor how it was cut depend on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """
    Everything about a run that no longer changes after plan, except for the terms.

    :param config: the configuration, with the values of the run in place of parameters.
    :param arguments: the arguments of the entry script, rendered.
    :param inputs: how the inputs are read.
    :param side_inputs: local path by name: a folder, or a single file.
    :param output: folder of the result; None: summary_only without output.
    :param identity: identity of the run.
    :param fingerprint: equal for runs with the same work; '' if a part of it is not known.
    :param work: digest of each part of the work, see plan.fingerprint.Work; empty if a part is not known.
    :param variable_names: names of the environment variables; their values are never written.
    :param reused_from: run folder whose rows are the result of this run; None: the run does its own work.
    :param to_csv: arguments of to_csv for the result, from source_directory; None: there are none.
    :param load_timeout_s: seconds allowed for loading a mini-batch; None: run_invocation_timeout.
    :param progress_update_timeout_s: seconds that a node may run without finishing a mini-batch; None: no limit.
    :param resource_monitor_interval_s: seconds between samples of the nodes' resources; 0: no samples.
    :param profiling_module: ``cProfile`` or ``profile``; None: no profiles.
    :param withheld_arguments: reserved arguments that the entry script does not get; see plan.script_options.
    :param promoted: names of the parameters of the configuration that the run could choose.
    """

    config: ParallelRunConfig
    identity: RunIdentity
    arguments: tuple[str, ...] = ()
    inputs: tuple[InputSpec, ...] = ()
    side_inputs: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    fingerprint: str = ""
    work: Mapping[str, str] = field(default_factory=dict)
    variable_names: tuple[str, ...] = ()
    reused_from: str | None = None
    to_csv: Mapping[str, Any] | None = None
    load_timeout_s: float | None = None
    progress_update_timeout_s: float | None = None
    resource_monitor_interval_s: float = 600
    profiling_module: str | None = None
    withheld_arguments: tuple[str, ...] = ()
    promoted: tuple[str, ...] = ()

    @property
    def has_tables(self) -> bool:
        """Return whether run() gets DataFrames; inputs are either all tables or all files."""
        return any(spec.kind is not InputKind.FILES for spec in self.inputs)

    @property
    def terms(self) -> dict[str, Any]:
        """Return the terms as plain values."""
        return {name: value for name, value in self.config.to_json().items() if name in TERMS}

    def has_result_of(self, other: RunSettings) -> bool:
        """Return whether the result of another run is also the result of this one: which mini-batches fail, too."""
        ours, theirs = self.terms, other.terms
        is_same_work = self.fingerprint != "" and self.fingerprint == other.fingerprint
        return is_same_work and all(ours[name] == theirs[name] for name in _TERMS_OF_FAILURES)

    def with_terms(self, terms: Mapping[str, Any]) -> RunSettings:
        """
        Return the settings under other terms.

        :param terms: as ``terms`` returns them.
        """
        return replace(self, config=ParallelRunConfig.from_json({**self.config.to_json(), **terms}))

    def to_json(self) -> bytes:
        """Return the settings as JSON, indented for readers."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain |= {
            "schema": SCHEMA,
            "config": self.config.to_json(),
            "identity": asdict(self.identity),
            "inputs": [asdict(spec) for spec in self.inputs],
        }
        return json.dumps(plain, indent=2, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> RunSettings:
        """
        Return settings from the JSON that ``to_json`` returned.

        :raises RunFolderError: if the run folder has the layout of another version of airflow_prs.
        """
        plain: dict[str, Any] = json.loads(data)
        check_layout("config.json", plain.pop("schema"))
        plain["config"] = ParallelRunConfig.from_json(plain["config"])
        plain["identity"] = RunIdentity(**plain["identity"])
        plain["inputs"] = tuple(_input_spec(spec) for spec in plain["inputs"])
        plain["arguments"] = tuple(plain["arguments"])
        plain["variable_names"] = tuple(plain["variable_names"])
        plain["withheld_arguments"] = tuple(plain["withheld_arguments"])
        plain["promoted"] = tuple(plain.get("promoted", ()))
        return cls(**plain)


def _input_spec(plain: dict[str, Any]) -> InputSpec:
    return InputSpec(
        name=plain["name"],
        kind=InputKind(plain["kind"]),
        options=plain["options"],
        partition_keys=tuple(plain["partition_keys"]),
    )


def check_layout(file: object, layout: int) -> None:
    """
    Check that this version reads the layout of a run folder.

    :param file: the file that tells the layout.
    :param layout: its number.
    :raises RunFolderError: if another version wrote it, which says what to do.
    """
    if layout == SCHEMA:
        return
    age, what_next = (
        ("a newer", "Install the same version on all machines.")
        if layout > SCHEMA
        else ("an older", "Clear the plan task to start over with this version.")
    )
    raise RunFolderError(
        f"{file} was written by {age} version of airflow_prs (layout {layout}, this version reads {SCHEMA}). "
        f"{what_next}"
    )
