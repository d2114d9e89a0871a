"""Runs first in all Python processes that tests start: garbage is collected less often, and workers of Ray are forks.

Imports take most of the CPU time of tests on Ray, and garbage collection an eighth of that: `import torch, ray.train` takes 2.8 s
instead of 3.2. A worker of a node that `tests/on_ray/forked_workers.py` started has them before it begins.
"""

import gc
import os
import sys

gc.set_threshold(20_000)


def run_as_fork(path: str) -> None:
    """Have a worker run by a fork of the process that listens at `path`, and end as it ends; returns where nothing listens.

    Imports next to nothing, since this process does nothing else.
    """
    import _socket
    import marshal
    import struct

    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        server.connect(path)
    except OSError:  # its own imports take it some seconds
        server.close()
        return
    request = marshal.dumps((sys.orig_argv, dict(os.environ), os.getcwd(), sys.path))
    files = struct.pack("3i", 0, 1, 2)
    server.sendmsg([struct.pack("!I", len(request))], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    server.sendall(request)
    status = server.recv(4)  # for as long as the fork lives
    code = os.waitstatus_to_exitcode(struct.unpack("!i", status)[0]) if len(status) == 4 else 1
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


if "TESTS_FORKED_WORKERS" in os.environ:
    script = next((word for word in sys.orig_argv[1:] if not word.startswith("-")), "")
    if script.endswith("/default_worker.py"):
        run_as_fork(os.environ["TESTS_FORKED_WORKERS"])
