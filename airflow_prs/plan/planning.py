"""make_plan: list and cut the input, and write the plan of a run to its run folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from airflow_prs.config.arguments import RESERVED, DriverOptions, driver_options
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import Dataset, TabularDataset
from airflow_prs.config.entry_check import check_entry_script
from airflow_prs.config.environment_files import read_packages
from airflow_prs.config.sizes import parse_size
from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.inputs.cut_input import cut_input, list_input, local_path, real_targets
from airflow_prs.inputs.cutting import Cut, cut_nothing
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.files.paths import Paths
from airflow_prs.plan.continuing import (
    add_borrowing_shards,
    find_unfinished,
    log_changed_terms,
    newest_folder,
    set_limits,
)
from airflow_prs.plan.fingerprint import Work, describe, versions_in
from airflow_prs.plan.only_new import OnlyNew, Selection
from airflow_prs.plan.queries import RunQuery, export_query, rows_file
from airflow_prs.plan.result_settings import read_to_csv
from airflow_prs.plan.reuse import find_reusable
from airflow_prs.plan.script_options import find_withheld
from airflow_prs.plan.shards import deal
from airflow_prs.plan.snapshot import Snapshot, take_snapshot
from airflow_prs.plan.written_inputs import WrittenInputs
from airflow_prs.records import InputKind, InputSpec, Manifest, RunIdentity, Shard
from airflow_prs.run_folder.folder import RunFolder, earlier_runs, run_folder_of
from airflow_prs.run_folder.task_log import TaskLog
from airflow_prs.settings import RunSettings
from airflow_prs.store.opening import Location, location_of, open_store
from airflow_prs.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

_SKIP_INSTEAD = '. on_empty="skip" skips the tasks instead.'
_RANKS = "ranks"
"""Name of the input of a run that has mini-batches without data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """
    The arguments of make_plan.

    :param config: the resolved configuration.
    :param datasets: the inputs, named; ignored if the arguments ask for mini-batches without data.
    :param side_inputs: the side inputs, named.
    :param arguments: the arguments of the entry script, rendered.
    :param output: folder of the result; None: summary_only without output.
    :param run_root: folder that holds the run folder if there is no output.
    :param dag_folder: folder that relative paths start from.
    :param identity: identity of the run.
    :param allow_reuse: whether the rows of an earlier run may be the result.
    :param on_empty: whether an input without items is an error or skips the group.
    :param variables_hash: keyed hash of the environment variables, '' without any; None: there is no key to make it, so
        nothing is reused.
    :param earlier: run folder of the last completed run; None: not known.
    :param published_name: name of the result file under ``output``, which is left out of the input.
    :param max_shards: the most shards that Airflow allows.
    :param run_query: runs the queries among the inputs.
    :param promoted: names of the parameters of the configuration that the run could choose.
    """

    config: ParallelRunConfig
    datasets: tuple[Dataset, ...]
    side_inputs: tuple[Dataset, ...] = ()
    arguments: tuple[str, ...] = ()
    output: str | None
    run_root: str
    dag_folder: str
    identity: RunIdentity
    allow_reuse: bool = True
    on_empty: Literal["fail", "skip"] = "fail"
    variables_hash: str | None = ""
    earlier: str | None = None
    published_name: str | None = None
    max_shards: int = 1024
    run_query: RunQuery | None = None
    promoted: tuple[str, ...] = ()


class _Query(NamedTuple):
    """
    A query among the inputs.

    :param dataset: the query.
    :param place: folder of the file with its rows.
    """

    dataset: TabularDataset
    place: Path


@dataclass(frozen=True, slots=True)
class _Inputs:
    """
    The inputs, by name.

    :param datasets: all inputs; in place of a query, the file with its rows.
    :param queries: the queries among them.
    """

    datasets: dict[str, Dataset]
    queries: dict[str, _Query]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """
    The result of make_plan.

    :param folder: the run folder, under the terms of this execution of plan.
    :param manifest: the totals and shards; without shards if there is nothing to do.
    :param borrowing_shards: shards without mini-batches, whose nodes take them over from the shards of the manifest.
    :param reused_from: run folder whose rows are the result; None: the shards do the work.
    :param is_empty: whether the input is empty and the task group is to be skipped; then no run folder was written.
    """

    folder: RunFolder
    manifest: Manifest
    borrowing_shards: tuple[Shard, ...] = ()
    reused_from: str | None = None
    is_empty: bool = False


def make_plan(request: PlanRequest) -> PlanResult:
    """
    List and cut the input, deal it into shards, and write the run folder; or continue one of the same run.

    The last thing is a record in the task log, without which a run folder does not count.

    :raises ConfigError: if the configuration does not fit the input.
    :raises InputError: if the input cannot be listed, read or cut.
    :raises InputChangedError: if the input changes while plan reads it.
    :raises EmptyInputError: if there is no item, unless ``on_empty`` is skip.
    :raises EntryScriptError: if the entry script is missing or cannot be used.
    :raises SupersededError: if another plan of this run has begun since.
    :raises RunFolderError: if the storage cannot hold run folders.
    """
    options = driver_options(request.arguments)
    if options.rank_mini_batch_count:
        request = replace(request, datasets=())
    elif not request.datasets:
        raise ConfigError(["inputs is empty; allowed: a list of at least one FileDataset or TabularDataset"])
    root = request.output or request.run_root
    _require_folder("output" if request.output else "run_root", location_of(root))
    folder = run_folder_of(root, request.identity)
    folder.check_storage()
    task_log = folder.open_task_log()
    claim = task_log.claim_plan(request.identity.plan)
    request = replace(request, identity=replace(request.identity, plan=task_log.history.plan_name(claim)))
    folder = run_folder_of(root, request.identity)
    result, settings = _plan(request, options, folder, task_log)
    if result.is_empty:
        return result
    execution = task_log.append_execution(claim, folder=result.folder.path.name, terms=settings.terms)
    planned = RunFolder(result.folder.path, execution)
    if planned.path != folder.path:
        set_limits(planned, settings.config.limits)
    return replace(result, folder=planned)


def _require_folder(parameter: str, location: Location) -> None:
    """
    Check that a run folder can be made somewhere.

    :raises ConfigError: if that is a file, or an object, which would be a file and a folder at the same time.
    """
    if isinstance(location, Path):
        what = "a file" if location.is_file() else None
    else:
        # An empty object marks a folder.
        found = open_store(location.parent).stat(location.name) if location.key else None
        what = "an object" if found is not None and found.size else None
    if what is not None:
        problem = f"{parameter} is {str(location)!r}, {what}; allowed: a folder, or a path that does not exist yet"
        raise ConfigError([problem])


def _plan(
    request: PlanRequest, options: DriverOptions, folder: RunFolder, task_log: TaskLog
) -> tuple[PlanResult, RunSettings]:
    """Return the result, with the folder under any terms, and its settings."""
    source_directory, entry_script = request.config.source_directory, request.config.entry_script
    with (
        take_snapshot(source_directory, entry_script, base=request.dag_folder) as snapshot,
        ExitStack() as last,
        ExitStack() as unless_written,
    ):
        request = replace(request, config=_complete_config(request, snapshot))
        is_same_python = request.config.environment.interpreter == sys.executable
        check_entry_script(snapshot.source, snapshot.entry_script, is_same_python=is_same_python)
        written = WrittenInputs(folder)
        last.callback(written.remove_local)
        inputs = _place_queries(request, written)
        listings = _list_inputs(request, inputs, [name for name in inputs.datasets if name not in inputs.queries])
        side_inputs = _list_side_inputs(request)
        work = _describe_work(request, snapshot, inputs, listings, side_inputs)
        selections = _select_new(request, newest_folder(folder, task_log.read()), inputs, listings, work)
        listings |= {name: selection.listing for name, selection in selections.items()}
        if work is not None:
            work = replace(work, inputs=_describe_inputs(inputs, listings))
        settings = _collect_settings(request, options, snapshot, side_inputs, work)
        if unfinished := find_unfinished(folder, task_log.read(), settings.work, allow_reuse=request.allow_reuse):
            return _continue(unfinished, settings, request.max_shards), settings
        # Only now, since the log begins with what this plan does.
        for name, listing in listings.items():
            if listing.unmatched:
                logger.warning("%s.", _unmatched(name, listing))
        unless_written.callback(written.remove)
        checksums = _run_queries(request, inputs)
        listings |= _list_inputs(request, inputs, inputs.queries)
        if not any(map(len, listings.values())) and not options.rank_mini_batch_count:
            return _nothing_to_do(folder), settings
        if work is not None and not options.rank_mini_batch_count:
            read = _describe_inputs(inputs, listings | checksums)
            settings = replace(settings, fingerprint=replace(work, inputs=read).fingerprint())
        if reusable := _find_reusable(request, settings):
            return _reuse(folder, reusable, settings), settings
        cuts, specs = _cut_inputs(request, options, inputs, listings, copies=written.path)
        if not any(map(len, cuts)):
            return _nothing_to_do(folder), settings
        settings = replace(settings, inputs=tuple(specs))
        written.upload()
        for name, selection in selections.items():
            folder.write_seen(name, selection.seen(), {} if work is None else work.digests_without_files())
        result = _write(request, folder, settings, snapshot, cuts, written=written)
        unless_written.pop_all()
        return result, settings


def _complete_config(request: PlanRequest, snapshot: Snapshot) -> ParallelRunConfig:
    """Return the configuration with the script's path in the snapshot and the contents of requirements files."""
    environment = read_packages(request.config.environment.relative_to(request.dag_folder))
    return request.config.model_copy(update={"entry_script": snapshot.entry_script, "environment": environment})


def _place_queries(request: PlanRequest, written: WrittenInputs) -> _Inputs:
    """Return the inputs, with the file that a query is going to write in place of the query."""
    datasets: dict[str, Dataset] = {}
    queries: dict[str, _Query] = {}
    for dataset in request.datasets:
        name = str(dataset.name)
        datasets[name] = dataset
        if not isinstance(dataset, TabularDataset) or dataset.kind is not InputKind.QUERY:
            continue
        if request.run_query is None:
            raise ConfigError([f"input {name!r} is a query; allowed without Airflow: files"])
        # A name cannot contain '~', so no copy of another input has this path.
        place = written.path / (name if dataset.partitioned_by is None else f"{name}~rows")
        exported = TabularDataset.from_parquet_files(rows_file(place)).as_named_input(name)
        datasets[name] = replace(exported, partitioned_by=dataset.partitioned_by, target=dataset.target)
        queries[name] = _Query(dataset, place)
    return _Inputs(datasets, queries)


def _run_queries(request: PlanRequest, inputs: _Inputs) -> dict[str, Listing]:
    """
    Write the rows of the queries to their files.

    :return: what the fingerprint needs of each query, by its name: a listing with the checksum of its rows.
    """
    import numpy as np

    checksums: dict[str, Listing] = {}
    for name, (dataset, place) in inputs.queries.items():
        batches = cast("RunQuery", request.run_query)(str(dataset.sql), str(dataset.conn_id))
        checksum = export_query(name, batches, place)
        checksums[name] = Listing(Paths.of([checksum]), np.zeros(1, np.int64), np.zeros(1, np.int64))
    return checksums


def _list_inputs(request: PlanRequest, inputs: _Inputs, names: Iterable[str]) -> dict[str, Listing]:
    """
    List the files of some inputs.

    :param names: the names of these inputs.
    """
    published = None
    if request.output is not None and request.published_name is not None:
        published = str(location_of(request.output) / request.published_name)
    sources = {name: dataset.to_source() for name, dataset in inputs.datasets.items()}
    targets = real_targets(list(sources.values()), request.dag_folder)
    listings = {}
    for name in names:
        listing = list_input(sources[name], base=request.dag_folder, published=published, targets=targets)
        if listing.unmatched and request.on_empty == "fail":
            raise EmptyInputError(f"{_unmatched(name, listing)}{_SKIP_INSTEAD}")
        listings[name] = listing
    return listings


def _list_side_inputs(request: PlanRequest) -> dict[str, tuple[str, Listing]]:
    """Return the path and the files of each side input, by its name."""
    sources = [dataset.to_source() for dataset in request.side_inputs]
    return {source.name: local_path(source, request.dag_folder) for source in sources}


def _fail_or_warn(request: PlanRequest, problem: str) -> None:
    """Say that there is no item: as an error, unless the tasks are to be skipped."""
    if request.on_empty == "fail":
        raise EmptyInputError(f"{problem}{_SKIP_INSTEAD}")
    logger.warning("%s.", problem)


def _unmatched(name: str, listing: Listing) -> str:
    return f"input {name!r}: {'; '.join(listing.unmatched)}"


def _collect_settings(
    request: PlanRequest,
    options: DriverOptions,
    snapshot: Snapshot,
    side_inputs: Mapping[str, tuple[str, Listing]],
    work: Work | None,
) -> RunSettings:
    """Return the settings of the run as far as they are known before its queries are run and the input is cut."""
    config = request.config
    to_csv = None
    if config.source_directory is not None and config.output_action == "append_row":
        to_csv = read_to_csv(snapshot.archive, config.result_format)
    return RunSettings(
        config=config,
        to_csv=to_csv,
        identity=request.identity,
        arguments=request.arguments,
        side_inputs={name: path for name, (path, _) in side_inputs.items()},
        output=request.output,
        work={} if work is None else work.digests(),
        variable_names=tuple(sorted(config.environment_variables or {})),
        load_timeout_s=options.task_overhead_timeout_s,
        progress_update_timeout_s=options.progress_update_timeout_s,
        resource_monitor_interval_s=options.resource_monitor_interval_s,
        profiling_module=options.profiling_module,
        withheld_arguments=tuple(find_withheld(snapshot.archive, RESERVED)),
        promoted=request.promoted,
    )


def _describe_work(
    request: PlanRequest,
    snapshot: Snapshot,
    inputs: _Inputs,
    listings: Mapping[str, Listing],
    side_inputs: Mapping[str, tuple[str, Listing]],
) -> Work | None:
    """
    Return what the rows of the run depend on; None if something of it is not known.

    :param listings: the files of all inputs but queries.
    :param side_inputs: path and files by name.
    """
    config = request.config
    if request.variables_hash is None:
        return None
    versions = versions_in(config.environment)
    if versions is None:
        if request.allow_reuse:
            logger.warning("No reuse: the packages of %s cannot be listed.", config.environment.interpreter)
        return None
    return Work(
        config=config.to_json(),
        arguments=request.arguments,
        snapshot=(snapshot.digest, snapshot.entry_script),
        inputs=_describe_inputs(inputs, listings),
        side_inputs=[(name, listing) for name, (_, listing) in side_inputs.items()],
        versions=versions,
        variable_names=tuple(config.environment_variables or {}),
        variables_hash=request.variables_hash,
        output=request.output if config.output_action == "summary_only" else None,
    )


def _describe_inputs(
    inputs: _Inputs, listings: Mapping[str, Listing]
) -> list[tuple[Mapping[str, Any], Listing | None]]:
    """Return how each input is read, and its files, or None."""
    written = {name: query.dataset for name, query in inputs.queries.items()}
    return [(describe(written.get(name, dataset)), listings.get(name)) for name, dataset in inputs.datasets.items()]


def _select_new(
    request: PlanRequest,
    own: RunFolder | None,
    inputs: _Inputs,
    listings: Mapping[str, Listing],
    work: Work | None,
) -> dict[str, Selection]:
    """
    Return the files to process of each input with ``only_new=True``.

    :param own: the folder of the newest execution of plan in this run; None: there is none.
    """
    names = [name for name, dataset in inputs.datasets.items() if dataset.only_new]
    if not names:
        return {}
    only_new = OnlyNew(names, None if work is None else work.digests_without_files(), request.identity)
    runs = earlier_runs(request.output or request.run_root, request.identity.dag_id, request.identity.task_id)
    only_new.look(own, [*runs, *([RunFolder(request.earlier)] if request.earlier else [])])
    selections = {}
    for name in names:
        are_tables = isinstance(inputs.datasets[name], TabularDataset)
        selections[name] = only_new.select(name, listings[name], are_tables=are_tables)
        if (problem := selections[name].problem) is not None:
            _fail_or_warn(request, problem)
    return selections


def _continue(unfinished: RunFolder, settings: RunSettings, max_shards: int) -> PlanResult:
    log_changed_terms(unfinished, settings)
    manifest = unfinished.read_manifest()
    borrowing = add_borrowing_shards(unfinished, manifest, settings, max_shards=max_shards)
    return PlanResult(folder=unfinished, manifest=manifest, borrowing_shards=borrowing)


def _find_reusable(request: PlanRequest, settings: RunSettings) -> RunFolder | None:
    # With only_new, the same work is left only if it failed before, and is to be tried again.
    has_only_new = any(dataset.only_new for dataset in request.datasets)
    if not request.allow_reuse or not settings.fingerprint or has_only_new:
        return None
    return find_reusable(settings, root=request.output or request.run_root, earlier=request.earlier)


def _reuse(folder: RunFolder, reusable: RunFolder, settings: RunSettings) -> PlanResult:
    reused_from = str(reusable.path)
    logger.info("Nothing has changed since an earlier run, so its result is reused: %s", reused_from)
    folder.write_settings(replace(settings, inputs=reusable.read_settings().inputs, reused_from=reused_from))
    return PlanResult(folder=folder, manifest=folder.write_manifest((), ()), reused_from=reused_from)


def _cut_inputs(
    request: PlanRequest, options: DriverOptions, inputs: _Inputs, listings: Mapping[str, Listing], *, copies: Path
) -> tuple[list[Cut], list[InputSpec]]:
    """Return the mini-batches of each input, and how worker processes read it."""
    if options.rank_mini_batch_count:
        return [cut_nothing(_RANKS, options.rank_mini_batch_count)], [InputSpec(name=_RANKS, kind=InputKind.FILES)]
    config = request.config
    cuts: list[Cut] = []
    specs: list[InputSpec] = []
    size = None if config.mini_batch_size is None else parse_size(config.mini_batch_size)
    if problems := config.find_size_problems(request.datasets):
        raise ConfigError(problems)
    for name, dataset in inputs.datasets.items():
        listing = listings[name]
        cut, spec = cut_input(
            dataset.to_source(), listing, size, config.partition_keys, base=request.dag_folder, copies=copies
        )
        if len(listing) and not len(cut):
            problem = f"input {dataset.name!r}: {counted(len(listing), 'file holds', 'files hold')} no data"
            _fail_or_warn(request, problem)
        if not spec.partition_keys:
            _warn_of_tiny_batches(cut, spec)
        cuts.append(cut)
        specs.append(spec)
    return cuts, specs


def _write(
    request: PlanRequest,
    folder: RunFolder,
    settings: RunSettings,
    snapshot: Snapshot,
    cuts: Sequence[Cut],
    *,
    written: WrittenInputs,
) -> PlanResult:
    import numpy as np

    shards = deal(
        np.concatenate([cut.items for cut in cuts]),
        np.concatenate([cut.sizes for cut in cuts]),
        node_count=settings.config.node_count,
        mini_batches_per_task=settings.config.mini_batches_per_task,
        max_shards=request.max_shards,
    )
    folder.write_settings(settings)
    folder.write_source(snapshot.archive)
    manifest = folder.write_batches(map(written.kept, _all_batches(cuts)), shards)
    logger.info(
        "%s with %s in %s.",
        counted(manifest.mini_batches, "mini-batch", "mini-batches"),
        counted(manifest.items, "item"),
        counted(len(manifest.shards), "shard"),
    )
    return PlanResult(folder=folder, manifest=manifest)


def _nothing_to_do(folder: RunFolder) -> PlanResult:
    return PlanResult(folder=folder, manifest=Manifest(mini_batches=0, items=0, size_bytes=0, shards=()), is_empty=True)


def _all_batches(cuts: Sequence[Cut]) -> Iterator[pa.RecordBatch]:
    first = 0
    for cut in cuts:
        yield from cut.batches(first)
        first += len(cut)


def _warn_of_tiny_batches(cut: Cut, spec: InputSpec) -> None:
    """Warn if hardly one row fits into a mini-batch: the author meant rows, but a plain number is bytes of a table."""
    if spec.kind is not InputKind.FILES and len(cut) > 1 and sum(cut.items) < 2 * len(cut):
        logger.warning(
            "The %d mini-batches of input %r hold hardly one row each. mini_batch_size of a table is in bytes; "
            'write "20 rows" if you mean rows.',
            len(cut),
            spec.name,
        )
