"""The main loop of a worker process: it loads mini-batches, calls run(), writes the rows and sends the answers."""

from __future__ import annotations

import functools
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import failures, leaving, loading, script  # noqa: TID252

# Relative, because this package has another name in a worker process.
from .loading import Order  # noqa: TID252
from .offered import entry_script  # noqa: TID252
from .writing import rows  # noqa: TID252

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from airflow_prs.worker import channel, profiling, tasks

MOST_LOADERS = 4
"""Threads that load tables for an asynchronous script; each keeps its own open files and row group."""


class Try:
    """
    One try of a mini-batch, from loading to writing its rows; it measures the times and makes the answer.

    :param index: of the mini-batch.
    """

    __slots__ = ("_began", "_cpu", "_ended", "_index", "_since", "_started", "_status")

    def __init__(self, index: int) -> None:
        self._index = index
        self._started, self._since, self._cpu = time.time(), time.perf_counter(), time.process_time()
        self._began = self._ended = 0.0
        self._status = "LOAD"

    def begin(self) -> None:
        """Note that the mini-batch is loaded and run() will be called."""
        self._status = "RUN"
        self._began = time.perf_counter()

    def end(self) -> None:
        """Note that run() has returned."""
        self._ended = time.perf_counter()

    def done(self, returned: int, place: tuple[int, int, int]) -> dict[str, Any]:
        """Return the answer for a mini-batch whose rows are written."""
        duration_s, cpu_s = time.perf_counter() - self._since, time.process_time() - self._cpu
        return {"done": (self._index, returned, *place, self._started, duration_s, self._ended - self._began, cpu_s)}

    def failed(self, error: BaseException, overdue: str = "") -> dict[str, Any]:
        """
        Return the answer for a try that failed.

        :param overdue: why it was cancelled; '': it was not.
        """
        now = time.perf_counter()
        run_s = (self._ended or now) - self._began if self._began else 0.0
        cpu_s = time.process_time() - self._cpu
        timing = {"started": self._started, "duration_s": now - self._since, "run_s": run_s, "cpu_s": cpu_s}
        description = {"status": self._status + "_EXCEPTION", **failures.describe(error)}
        if overdue:
            description.update(status=self._status + "_TIMEOUT", error=overdue)
        elif isinstance(error, rows.BadResultError):
            description["status"] = "RUN_BAD_RESULT"
        else:
            description.update(entry_script.retry_wish(error))
        return {"try_failed": {"index": self._index, **description, **timing}}


class Worker:
    """
    Works on mini-batches and answers them: one after the other, or concurrently for an asynchronous script.

    :param setup: the supervisor's first message.
    :param user_script: the entry script, whose init() has returned.
    :param rows_file: takes what run() returns; None: the elements are only counted.
    :param supervisor: the channel to the supervisor.
    :param concurrency: how many mini-batches it works on concurrently.
    """

    def __init__(
        self,
        setup: dict[str, Any],
        user_script: script.Script,
        rows_file: rows.RowsFile | None,
        supervisor: channel.Channel,
        concurrency: int,
    ) -> None:
        self._loader = loading.Loader(setup)
        self._script = user_script
        self._rows = rows_file
        self._supervisor = supervisor
        self._concurrency = concurrency
        self._profile = _make_profile(setup.get("profile"))
        if self._profile is not None and user_script.is_async:
            user_script.loop.set_task_factory(self._profile.make_task)
        self._tells_results = setup.get("tells_results", False)
        self._has_noted_surplus = False
        self._process = os.getpid()
        self._exit_timeout_s = setup.get("exit_timeout_s", leaving.DEFAULT_S)

    def live(self) -> None:
        """Work on mini-batches until the supervisor has no more, then shut down the script."""
        if self._serve() if self._concurrency == 1 else self._serve_many():
            self._end()

    def _serve(self) -> bool:
        """Work on mini-batches one by one; return True when there are no more, False if the supervisor is gone."""
        compute = self._compute_async if self._script.is_async else self._compute
        if self._profile is not None and not self._script.is_async:
            compute = functools.partial(self._profile.call, compute)
        while True:
            message = self._supervisor.receive()
            if message is None:
                return False
            if "close" in message:
                return True
            orders = deque(message.get("run", ()))  # a request to cancel comes too late here
            while orders:
                self._answer(Order(*orders.popleft()), self._loader.load, compute)
                if self._loader.should_read_ahead:
                    return self._serve_ahead(orders, compute)

    def _serve_ahead(self, orders: deque[list[Any]], compute: Callable[[Any, Any], Any]) -> bool:
        """Do what _serve() does, and load the next mini-batch while run() works."""
        from . import reading_ahead  # noqa: TID252

        ahead = reading_ahead.ReadAhead(self._supervisor, self._loader, orders, threads=1)
        while (upcoming := ahead.take()) is not None:
            self._answer(upcoming.order, upcoming.load, compute)
        return ahead.is_closed

    def _answer(self, order: Order, load: Callable[[Order], Any], compute: Callable[[Any, Any], Any]) -> None:
        # Send before the next run(): if that kills the process, the supervisor must not blame this mini-batch.
        self._supervisor.send(self._try(order, load, compute))
        if self._profile is not None:
            self._profile.write_if_due()

    def _serve_many(self) -> bool:
        """Work concurrently on all mini-batches that the supervisor hands out; return what _serve() returns."""
        from concurrent.futures import ThreadPoolExecutor

        from . import tasks  # noqa: TID252

        loaders = ThreadPoolExecutor(min(self._concurrency, MOST_LOADERS), "load")
        server = tasks.TaskServer(self._script.loop, self._supervisor, functools.partial(self._try_async, loaders))
        is_closed: bool = self._script.complete(server.begin())
        loaders.shutdown(wait=False)
        return is_closed

    def _end(self) -> None:
        """Write the profile and shut down the script."""
        if self._profile is not None:
            self._profile.write()
        self._script.shutdown(self._begin_to_leave)
        end_if_forked(self._process)

    def _begin_to_leave(self) -> None:
        end_if_forked(self._process)
        since = "shutdown() returned" if self._script.has_shutdown else "the last mini-batch"
        loop = self._script.loop if self._script.has_loop else None
        leaving.end_within(self._exit_timeout_s, since, lambda text: self._supervisor.send({"note": text}), loop)
        self._supervisor.send({"leaving": True})

    def _try(self, order: Order, load: Callable[[Order], Any], compute: Callable[[Any, Any], Any]) -> dict[str, Any]:
        """Work on one mini-batch and return the answer, whatever the user's code raises."""
        this = Try(order.minibatch_index)
        try:
            mini_batch = load(order)
            self._tell_running(order)
            context = order.context(mini_batch) if self._script.takes_context else None
            this.begin()
            elements = compute(mini_batch, context)
            this.end()
            return self._keep(this, order, elements)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, also SystemExit
            end_if_forked(self._process)
            return this.failed(error)

    async def _try_async(self, loaders: Executor, fields: list[Any], running: tasks.Running) -> dict[str, Any]:
        """Work on one mini-batch, concurrently with others, and return the answer."""
        order = Order(*fields)
        this = Try(order.minibatch_index)
        try:
            mini_batch = await self._load_beside(loaders, order)
            context = order.context(mini_batch) if self._script.takes_context else None
            this.begin()
            elements = rows.elements_of(await self._follow(self._script.run(mini_batch, context)))
            this.end()
            running.check()
            return self._keep(this, order, elements)
        except BaseException as error:  # noqa: BLE001 - as above, also cancellations
            end_if_forked(self._process)
            return this.failed(error, running.overdue)
        finally:
            if self._profile is not None:
                self._profile.write_if_due()

    def _compute(self, mini_batch: Any, context: script.MiniBatchContext | None) -> Any:
        return rows.elements_of(self._script.run(mini_batch, context))

    def _compute_async(self, mini_batch: Any, context: script.MiniBatchContext | None) -> Any:
        return rows.elements_of(self._script.complete(self._follow(self._script.run(mini_batch, context))))

    def _follow(self, work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        return work if self._profile is None else self._profile.follow(work)

    def _keep(self, this: Try, order: Order, elements: Any) -> dict[str, Any]:
        """Write the rows of a mini-batch and return the answer."""
        end_if_forked(self._process)
        returned = len(elements)
        if self._tells_results:
            self._tell(elements)
        place = (0, 0, 0) if self._rows is None else self._rows.append(elements)
        if order.is_trial and self._rows is not None:
            self._rows.take_back(place[0])
        if returned > order.given:
            self._note_surplus(returned, order.given)
        answer = this.done(returned, place)
        self._loader.note_try(answer["done"][6])
        return answer

    async def _load_beside(self, loaders: Executor, order: Order) -> Any:
        if not self._loader.is_table(order):
            return self._loader.load(order)
        mini_batch = await self._script.loop.run_in_executor(loaders, self._loader.load_in_thread, order)
        self._tell_running(order)
        return mini_batch

    def _tell_running(self, order: Order) -> None:
        if self._loader.is_table(order):
            self._supervisor.send({"running": order.minibatch_index})

    def _tell(self, elements: Any) -> None:
        columns = elements.schema.names if rows.is_arrow_table(elements) else getattr(elements, "columns", None)
        details = "" if columns is None else f" with the columns {', '.join(map(str, columns))}"
        self._supervisor.send({"note": f"run() returned a {type(elements).__name__}{details}"})

    def _note_surplus(self, returned: int, items: int) -> None:
        if not self._has_noted_surplus:
            self._has_noted_surplus = True
            self._supervisor.send({"note": f"run() returned {returned} elements for {items} items"})


def end_if_forked(process: int) -> None:
    """
    End this process if the user's code has forked it from the worker process: only that may talk to the supervisor.

    :param process: id of the worker process.
    """
    if os.getpid() != process:
        os._exit(0)


def _make_profile(wanted: dict[str, str] | None) -> profiling.RunProfile | None:
    if wanted is None:
        return None
    from . import profiling  # noqa: TID252

    return profiling.RunProfile(wanted["module"], wanted["path"])
