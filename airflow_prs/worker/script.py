"""The user's entry script: its module, and its init(), run() and shutdown()."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
CONTEXT = "mini_batch_context"


class EntryScriptError(Exception):
    """The entry script cannot be used as it is."""


class MiniBatchDataset:
    """
    The part of an input that is in a mini-batch.

    :param name: the input's name.
    :param mini_batch: the first argument of run().
    :param pieces: where its data is: paths, or lists that begin with a path.
    """

    def __init__(self, name: str, mini_batch: Any, pieces: list[Any]) -> None:
        self.name = name
        self._mini_batch = mini_batch
        self._pieces = pieces

    def __repr__(self) -> str:
        return f"MiniBatchDataset(name={self.name!r}, paths={self.to_path()!r})"

    def to_path(self) -> list[str]:
        """
        Return the local paths of the files that the mini-batch comes from, each once.

        Of tables on object storage, these are addresses.
        """
        return list(dict.fromkeys(piece if isinstance(piece, str) else piece[0] for piece in self._pieces))

    def to_pandas_dataframe(self) -> Any:
        """Return the rows of a table as a new DataFrame; for files use ``to_path()``."""
        if isinstance(self._mini_batch, list):
            raise TypeError(f"input {self.name!r} consists of files, not of rows: use to_path()")
        return self._mini_batch.copy()


class MiniBatchContext(NamedTuple):
    """
    The second argument of run().

    :param partition_key_value: key to value if the input is cut by partition, otherwise empty.
    :param dataset: the part of the input that is in the mini-batch.
    :param minibatch_index: position of the mini-batch in the entire input, from 0.
    :param try_number: from 1; higher if an earlier try of this mini-batch failed.
    """

    partition_key_value: dict[str, Any]
    dataset: MiniBatchDataset
    minibatch_index: int
    try_number: int


class Script:
    """
    A loaded entry script.

    :param module: its module.
    :ivar takes_context: whether run() takes a MiniBatchContext.
    :ivar has_shutdown: whether there is a shutdown().
    :ivar is_async: whether run() is an ``async def``.
    """

    def __init__(self, module: ModuleType) -> None:
        name = os.path.basename(module.__file__ or module.__name__)
        self._init = _function(module, "init", name)
        self._shutdown = _function(module, "shutdown", name)
        self.has_shutdown = self._shutdown is not None
        run = _function(module, "run", name)
        if run is None:
            raise EntryScriptError(f"{name} has no function run(mini_batch)")
        self._run: Callable[..., Any] = run
        self._call_run = _way_to_call(run, name)
        self.takes_context = self._call_run is not _without_context
        self.is_async = _is_async(run)
        has_async = any(function is not None and _is_async(function) for function in (self._init, run, self._shutdown))
        self._loop = make_loop() if has_async else None

    @property
    def has_loop(self) -> bool:
        """Whether init(), run() or shutdown() is asynchronous."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which the script's coroutines run."""
        if self._loop is None:
            raise EntryScriptError("nothing in this entry script is an async def, so it has no event loop")
        return self._loop

    def init(self) -> None:
        """Call the init function of the script, if it has one."""
        if self._init is not None:
            self._call(self._init)

    def run(self, mini_batch: Any, context: MiniBatchContext | None) -> Any:
        """Return the result of the script's run function for a mini-batch; pass the context if it takes one."""
        return self._call_run(self._run, mini_batch, context)

    def shutdown(self, on_return: Callable[[], None] = lambda: None) -> None:
        """
        Call the shutdown function of the script, if it has one; a failure is only logged, as the results are safe.

        :param on_return: called when shutdown() has returned, before tasks that are still running are cancelled.
        """
        try:
            if self._shutdown is not None:
                self._call(self._shutdown)
        except BaseException:  # noqa: BLE001 - the user's code may raise anything, also SystemExit
            _log.exception("shutdown() of the entry script failed; the results are not affected")
        on_return()
        try:
            if self._loop is not None:
                self.complete(_end_tasks())
                self._loop.close()
        except BaseException:  # noqa: BLE001 - as above
            _log.exception("what the entry script has left running failed; the results are not affected")

    def complete(self, work: Awaitable[Any]) -> Any:
        """Run the event loop until an awaitable is done, and return its result."""
        import asyncio

        task = asyncio.ensure_future(work, loop=self.loop)
        while True:
            try:
                return self.loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt):  # noqa: PERF203 - hardly ever more than one round
                # Raised in any task, it stops the loop, also for the other tasks.
                if task.done():
                    raise

    def _call(self, function: Callable[[], Any]) -> None:
        if _is_async(function):
            self.complete(function())
        else:
            function()


def load_script(source: str, entry_script: str, arguments: list[str]) -> Script:
    """
    Return the entry script, loaded as if it had been started with its arguments.

    :param source: root folder of the snapshot.
    :param entry_script: path of the script relative to ``source``.
    :param arguments: the arguments after the script's path in ``sys.argv``.
    """
    path = os.path.join(source, entry_script)
    folders = dict.fromkeys((os.path.dirname(path), source))
    sys.path[:] = [*folders, *(entry for entry in sys.path if entry not in folders)]
    sys.argv[:] = [path, *arguments]
    return Script(_import_as_own_name(path))


def _import_as_own_name(path: str) -> ModuleType:
    """Return the module at a path, imported under its file name: other modules and pickles refer to it by that name."""
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, path))
    if spec is None:
        raise EntryScriptError(f"there is no entry script at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    SourceFileLoader(name, path).exec_module(module)
    return module


def make_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of this process."""
    import asyncio  # takes longer than all other imports of this module; few scripts need it

    # Before 3.10 a lock that the script makes at its import belongs to the loop that get_event_loop() returns.
    loop = asyncio.get_event_loop() if sys.version_info < (3, 10) else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


async def _end_tasks() -> None:
    """Cancel all tasks that are still running, and wait for them."""
    import asyncio

    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _function(module: ModuleType, name: str, script: str) -> Callable[..., Any] | None:
    found: Callable[..., Any] | None = getattr(module, name, None)
    if found is not None and not callable(found):
        raise EntryScriptError(f"{name} in {script} is a {type(found).__name__}, it must be a function")
    return found


def _with_context(run: Callable[..., Any], mini_batch: Any, context: MiniBatchContext | None) -> Any:
    return run(mini_batch, context)


def _with_named_context(run: Callable[..., Any], mini_batch: Any, context: MiniBatchContext | None) -> Any:
    return run(mini_batch, mini_batch_context=context)


def _without_context(run: Callable[..., Any], mini_batch: Any, context: MiniBatchContext | None) -> Any:  # noqa: ARG001
    return run(mini_batch)


def _way_to_call(run: Callable[..., Any], script: str) -> Callable[..., Any]:
    """
    Return the function that calls run(): with the context by position, by name, or without it.

    :raises EntryScriptError: if run() cannot be called with any of them.
    """
    try:
        signature = inspect.signature(run)
    except ValueError:
        return _without_context  # compiled code may hide its signature
    call = _find_way(list(signature.parameters.values()))
    try:
        call(signature.bind, None, None)
    except TypeError:
        raise EntryScriptError(
            f"run{signature} in {script} cannot be called: "
            "it must be run(mini_batch) or run(mini_batch, mini_batch_context)"
        ) from None
    return call


def _find_way(parameters: list[inspect.Parameter]) -> Callable[..., Any]:
    """Return how run() takes the context; a parameter with a default, such as ``threshold=0.5``, is not the context."""
    places = [parameter for parameter in parameters if parameter.kind in POSITIONAL]
    second = places[1] if len(places) > 1 else None
    if second is not None and (second.name == CONTEXT or second.default is None or second.default is second.empty):
        return _with_context
    if any(p.name == CONTEXT and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
        return _with_named_context
    if second is None and any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return _with_context
    return _without_context
