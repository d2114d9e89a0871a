"""Workers of a Ray node as forks of one process that has imported torch, pandas and more, and do not import it again.

    python forked_workers.py SOCKET ray start --block ...

runs the command, beside a child that makes the imports, waits for workers to start, and ends with the command. The node's raylet
starts its workers as ever, each as a Python process of its own; `tests/quick_imports/sitecustomize.py` hands that over to the
child, which forks for it: the fork has its arguments, environment, folder and files, and its end is passed on. Ray knows a worker
by the pid that it registers with. Each worker imports Ray, whose workers do not start in a fork that has it, and the package.

Forks live in the session, network and folders of the node. What differs from other workers is their parent, and that
`/proc/PID/environ` shows the node's environment; so jobs that start a Ray of their own, whose processes `reaper` knows by their
environment, have ordinary workers, as have all that start while the imports are being made. Needs Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import marshal
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TESTS_FORKED_WORKERS"
"""Environment variable of the node, and so of what its raylet starts: the path of the socket."""

# What Ray and the package import, and `torch.optim` when it is used.
_MODULES = (
    "cv2",
    "google.protobuf.json_format",
    "jsonschema",
    "numpy",
    "pandas",
    "PIL.ImageDraw",
    "psutil",
    "pyarrow.dataset",
    "pyarrow.fs",
    "pyarrow.parquet",
    "pydantic.dataclasses",
    "pydantic.type_adapter",
    "requests",
    "s3fs",
    "torch",
    "torch._dynamo",
    "tqdm.auto",
    "wcmatch.glob",
    "yaml",
)
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass
class Request:
    """A worker to be started, as `sitecustomize` sends it."""

    words: list[str]  # of the command line, from the interpreter on
    environment: dict[str, str]
    folder: str
    path: list[str]  # sys.path
    files: list[int]  # standard input, output and error


def command(socket_path: str, node: Sequence[str]) -> list[str]:
    """The command that runs a node with workers that are forked.

    Args:
        socket_path: to be made; at most 107 bytes.
        node: the command of the node, such as `ray start --block`.
    """
    return [sys.executable, __file__, socket_path, *node]


def main() -> None:
    path, *node = sys.argv[1:]
    parent = os.getpid()
    if os.fork():
        os.execvpe(node[0], node, {**os.environ, VARIABLE: path})
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:
        _run(_wait_for_requests(Path(path)))


def _wait_for_requests(path: Path) -> Request:
    """Fork for each request; returns it in the fork, and never in this process."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it once; Ray sets it for the workers of one CPU
    for module in _MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    workers: dict[int, socket.socket] = {}
    ended, signalled = socket.socketpair()
    for end in (ended, signalled):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    with socket.socket(socket.AF_UNIX) as listening, selectors.DefaultSelector() as selector:
        listening.bind(str(path))
        listening.listen(64)
        selector.register(listening, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listening:
                    starter, _ = listening.accept()
                    request = _received(starter)
                    pid = os.fork() if request else None
                    if pid == 0:
                        assert request is not None
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for connection in (starter, *workers.values(), ended, signalled):
                            connection.close()
                        return request
                    for file in request.files if request else ():
                        os.close(file)
                    if pid is None:
                        starter.close()
                    else:
                        workers[pid] = starter
                        selector.register(starter, selectors.EVENT_READ, pid)
                elif key.fileobj is ended:
                    ended.recv(4096)
                    _pass_ends_on(workers, selector)
                elif key.data in workers:  # the process that asked has been killed
                    selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)


def _received(starter: socket.socket) -> Request | None:
    """The request of a process; None where it has ended meanwhile."""
    head, files, _, _ = socket.recv_fds(starter, 4, 3)
    content = b""
    if len(head) == 4:
        (length,) = struct.unpack("!I", head)
        while len(content) < length and (part := starter.recv(length - len(content))):
            content += part
        if len(content) == length:
            return Request(*marshal.loads(content), files)
    for file in files:
        os.close(file)
    return None


def _pass_ends_on(workers: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Tell the processes that asked for them how workers have ended."""
    while workers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        starter = workers.pop(pid)
        with contextlib.suppress(KeyError):  # it has ended before
            selector.unregister(starter)
        with contextlib.suppress(OSError), starter:
            starter.sendall(struct.pack("!i", status))


def _run(request: Request) -> None:
    """Run the script of a request as Python would."""
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    first = next(number for number, word in enumerate(request.words) if word.endswith(".py"))
    sys.orig_argv, sys.argv = request.words, request.words[first:]
    sys.path[:] = [os.path.dirname(sys.argv[0]), *request.path]
    importlib.invalidate_caches()
    sys.modules["numpy"].random.seed()  # Python's own generator seeds itself in a fork
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
