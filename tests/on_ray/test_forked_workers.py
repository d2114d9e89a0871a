"""Workers of the shared Ray are forks (`forked_workers`), and else as other workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import ActorDiedError

from tests.on_ray.processes import title_of
from tests.on_ray.shared import SharedRay

pytestmark = pytest.mark.usefixtures("cluster")


class Worker:
    """Tells about its process."""

    def about(self) -> dict[str, Any]:
        modules = set(sys.modules)
        import numpy as np

        return {
            "pid": os.getpid(),
            "parent": title_of(psutil.Process().parent()),
            "modules": {"torch", "pandas", "inpaint_core"} & modules,
            "worker": next(word for word in sys.argv if word.startswith("--worker-id=")),
            "environment": os.environ.get("OF_THIS_WORKER"),
            "random": np.random.random(),
        }


def started(name: str) -> tuple[Any, dict[str, Any]]:
    """An actor, and what it tells; again while the imports are being made, before which workers are no forks."""
    deadline = time.monotonic() + 120
    while True:
        actor = ray.remote(num_cpus=0, runtime_env={"env_vars": {"OF_THIS_WORKER": name}})(Worker).remote()
        about = ray.get(actor.about.remote())
        if "forked_workers.py" in about["parent"] or time.monotonic() > deadline:
            return actor, about
        ray.kill(actor)


def starter(about: dict[str, Any]) -> psutil.Process:
    """The process with which the raylet started a worker."""
    (found,) = (process for process in psutil.process_iter() if about["worker"] in title_of(process))
    return found


def test_a_worker_has_its_imports_its_environment_and_its_random_numbers() -> None:
    told = [started(name)[1] for name in ("one", "two")]
    assert all("forked_workers.py" in about["parent"] for about in told)
    assert [about["modules"] for about in told] == [{"torch", "pandas"}] * 2
    assert [about["environment"] for about in told] == ["one", "two"]
    assert told[0]["pid"] != told[1]["pid"]
    assert told[0]["random"] != told[1]["random"]


def test_a_killed_worker_and_what_started_it_end_together(cluster: SharedRay) -> None:
    for victim in ("worker", "starter"):
        actor, about = started(victim)
        both = [psutil.Process(about["pid"]), starter(about)]
        assert both[1].ppid() in {raylet.pid for raylet in cluster.processes("raylet_socket_name")}
        both[victim == "starter"].send_signal(signal.SIGKILL)
        assert psutil.wait_procs(both, timeout=30)[1] == []
        with pytest.raises(ActorDiedError):
            ray.get(actor.about.remote(), timeout=60)
