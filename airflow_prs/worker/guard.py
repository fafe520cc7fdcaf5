"""
The guard: the parent of one worker process, which sees to it that nothing of the worker outlives it.

Started as ``python -I -S guard.py <control_fd> <channel_fd> <work_dir> <node_dir> -- <command>``. It starts the
command and waits until that ends, or until the supervisor asks for its end or is gone (any byte, or the end of
``control_fd``). Then it kills whatever the command left behind, reports ``{"exit": <code>}`` on ``control_fd``
(negative: the number of the signal) and removes ``work_dir``, and ``node_dir`` too if the supervisor is gone. Where the
command cannot be started it reports ``{"start_errno": <errno>}`` before.

Processes that left the worker's session (setsid, double fork) come back to the guard because it is their subreaper; so
"no children left" means "nothing left". Standard library only, and little of it: each worker process waits for it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

SHELTERED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Meant for the supervisor, which then tells the guard; the guard itself must not die of them."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CANNOT_START = 127
LONGEST_PAUSE_S = 0.05


def main(arguments: list[str]) -> None:
    """Live the guard's whole life; the arguments are those of the module's description."""
    control_fd, channel_fd = int(arguments[0]), int(arguments[1])
    work_dir, node_dir = arguments[2], arguments[3]
    _leave_session()
    _set_process_option(PR_SET_CHILD_SUBREAPER, 1)
    wakeup_fd = _shelter_from_signals()
    child = _start(arguments[5:], control_fd)
    _let_go_of_pipes(channel_fd)

    family = Family(child)
    _wait(family, control_fd, wakeup_fd)
    family.end()
    is_supervisor_gone = not _report(control_fd, family.exit_code)
    _remove(work_dir)
    if is_supervisor_gone:
        _remove(node_dir)


class Family:
    """
    The worker process and all that descends from it.

    :param child: process id of the worker process.
    """

    def __init__(self, child: int) -> None:
        self._child = child
        self._out_of_reach: set[int] = set()
        self.exit_code: int | None = None

    def reap(self) -> bool:
        """Collect the dead, and note how the worker process ended; False when nobody is left."""
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
        """Kill until nobody is left but those whom we may not kill (another user's, as after sudo)."""
        pause_s = 0.0005
        while self.reap() and self._kill():
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _kill(self) -> bool:
        pids = set(_descendants(os.getpid(), self._child)) - self._out_of_reach
        self._out_of_reach.update(pid for pid in pids if not _may_kill(pid))
        return bool(pids)


def _may_kill(pid: int) -> bool:
    """Kill a process that may have ended meanwhile; False if it is not ours to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _leave_session() -> None:
    """Let a signal to the supervisor's process group or terminal pass by."""
    try:
        os.setsid()
    except PermissionError:
        return  # the supervisor has given us a session already


def _set_process_option(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _shelter_from_signals() -> int:
    """Ignore what is not meant for the guard; gives a pipe that becomes readable when a child ends."""
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
    """Turn this process into the worker process, with signals as any program finds them."""
    os.setsid()
    _set_process_option(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        return  # the guard died before the line above could tie us to it
    os.set_inheritable(control_fd, False)  # noqa: FBT003 - the function takes no names
    for number in (*SHELTERED_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - a shell is what we do not want


def _let_go_of_pipes(channel_fd: int) -> None:
    """Keep nothing open of which the supervisor waits for the end."""
    os.close(channel_fd)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _wait(family: Family, control_fd: int, wakeup_fd: int) -> None:
    """Return when the worker process has ended or the supervisor wants its end."""
    poll = select.poll()
    poll.register(control_fd, select.POLLIN)
    poll.register(wakeup_fd, select.POLLIN)
    while family.reap() and family.exit_code is None:
        ready = {fd for fd, _ in poll.poll()}
        if control_fd in ready:
            return
        os.read(wakeup_fd, 512)


def _descendants(ancestor: int, child: int) -> list[int]:
    """Everybody who descends from ``ancestor``; where there is no /proc, only the child's process group."""
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
    """Parent of a process; 0 if it has just ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The command's name stands in brackets and may itself hold brackets and spaces.
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _report(control_fd: int, exit_code: int | None) -> bool:
    """Tell the supervisor how the worker process ended; False if there is no supervisor any more."""
    code = "null" if exit_code is None else exit_code
    try:
        os.write(control_fd, f'{{"exit": {code}}}\n'.encode())
    except OSError:
        return False
    return True


def _remove(folder: str) -> None:
    import shutil  # takes longer to import than all the rest

    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
