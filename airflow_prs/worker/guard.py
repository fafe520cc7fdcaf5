"""
The guard: the parent of one worker process. It ends all processes that the worker leaves behind.

Started as ``python -I -S guard.py <control_fd> <channel_fd> <work_dir> <node_dir> -- <command>``. It starts the command
and waits until the command ends, or until the supervisor asks for the end (a byte on ``control_fd``) or is gone (EOF on
``control_fd``). Then it kills all descendants of the command, reports ``{"exit": <code>}`` on ``control_fd`` (negative:
the number of the signal) and removes ``work_dir``; if the supervisor is gone, ``node_dir`` too. If the command cannot
be started, it reports ``{"start_errno": <errno>}`` first.

Processes that left the worker's session (setsid, double fork) become children of the guard, because it is their
subreaper; so "no children left" means "no descendants left". The guard uses little of the standard library, and nothing
else, because the start of each worker process waits for its imports.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

SHELTERED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Ignored by the guard: the supervisor handles them and then asks the guard for the end."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CANNOT_START = 127
LONGEST_PAUSE_S = 0.05


def main(arguments: list[str]) -> None:
    """Run the guard; the arguments are those of the module's docstring."""
    control_fd, channel_fd = int(arguments[0]), int(arguments[1])
    work_dir, node_dir = arguments[2], arguments[3]
    _leave_session()
    _set_process_option(PR_SET_CHILD_SUBREAPER, 1)
    wakeup_fd = _shelter_from_signals()
    child = _start(arguments[5:], control_fd)
    _close_pipes(channel_fd)

    family = Family(child)
    _wait(family, control_fd, wakeup_fd)
    family.end()
    is_supervisor_gone = not _report(control_fd, family.exit_code)
    _remove(work_dir)
    if is_supervisor_gone:
        _remove(node_dir)


class Family:
    """
    The worker process and all its descendants.

    :param child: process id of the worker process.
    """

    def __init__(self, child: int) -> None:
        self._child = child
        self._out_of_reach: set[int] = set()
        self.exit_code: int | None = None

    def reap(self) -> bool:
        """Collect ended children and note the worker's exit code; return False when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self.exit_code = os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """Kill until no process is left except those of other users (as after sudo), which the guard may not kill."""
        pause_s = 0.0005
        while self.reap() and self._kill():
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _kill(self) -> bool:
        pids = set(_descendants(os.getpid(), self._child)) - self._out_of_reach
        self._out_of_reach.update(pid for pid in pids if not _may_kill(pid))
        return bool(pids)


def _may_kill(pid: int) -> bool:
    """Kill a process, which may have ended already; return False if permission is denied."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _leave_session() -> None:
    """Start a session, so that signals to the supervisor's process group or terminal do not reach the guard."""
    try:
        os.setsid()
    except PermissionError:
        return  # the supervisor has started it in a session of its own


def _set_process_option(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _shelter_from_signals() -> int:
    """Ignore signals meant for the supervisor; return a pipe that becomes readable when a child ends."""
    for number in SHELTERED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writable)
    return readable


def _start(command: list[str], control_fd: int) -> int:
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _become(command, control_fd, guard)
        except OSError as error:
            os.write(2, f"cannot start {command[0]}: {error}\n".encode())
            os.write(control_fd, f'{{"start_errno": {error.errno}}}\n'.encode())
        finally:
            os._exit(CANNOT_START)
    return child


def _become(command: list[str], control_fd: int, guard: int) -> None:
    """Replace this process by the worker process, with default signal handlers."""
    os.setsid()
    _set_process_option(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        return  # the guard died before PR_SET_PDEATHSIG took effect
    os.set_inheritable(control_fd, False)  # noqa: FBT003 - the function takes no names
    for number in (*SHELTERED_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - without a shell on purpose


def _close_pipes(channel_fd: int) -> None:
    """Close every pipe whose EOF the supervisor waits for."""
    os.close(channel_fd)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _wait(family: Family, control_fd: int, wakeup_fd: int) -> None:
    """Return when the worker process has ended, or the supervisor asks for its end or is gone."""
    poll = select.poll()
    poll.register(control_fd, select.POLLIN)
    poll.register(wakeup_fd, select.POLLIN)
    while family.reap() and family.exit_code is None:
        ready = {fd for fd, _ in poll.poll()}
        if control_fd in ready:
            return
        os.read(wakeup_fd, 512)


def _descendants(ancestor: int, child: int) -> list[int]:
    """Return the ids of all descendants of ``ancestor``; without /proc only the child's process group."""
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        return [-child]
    children: dict[int, list[int]] = {}
    for name in names:
        if name.isdigit():
            children.setdefault(_parent(name), []).append(int(name))
    found = [ancestor]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found[1:]


def _parent(pid: str) -> int:
    """Return the parent's id of a process; 0 if the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The command's name is in brackets and may itself contain brackets and spaces.
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _report(control_fd: int, exit_code: int | None) -> bool:
    """Report the worker's exit code to the supervisor; return False if the supervisor is gone."""
    code = "null" if exit_code is None else exit_code
    try:
        os.write(control_fd, f'{{"exit": {code}}}\n'.encode())
    except OSError:
        return False
    return True


def _remove(folder: str) -> None:
    import shutil  # takes longer to import than all other modules together

    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
