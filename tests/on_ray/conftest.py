from collections.abc import Iterator

import pytest
import ray

from tests.on_ray.shared import SharedRay
from tests.s3.seaweedfs import AccessKey


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory, s3_admin: AccessKey) -> Iterator[SharedRay]:
    """A real Ray of two CPUs, shared by all tests that kill none of its nodes; its workers may use the S3 server."""
    folder = tmp_path_factory.mktemp("shared-ray")
    (folder / "aws-empty").touch()
    cluster = SharedRay(folder / "node.log", s3_admin.environment(folder / "aws-empty"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def cluster(shared_ray: SharedRay) -> Iterator[SharedRay]:
    """This process has joined the shared Ray; with the module's last test it leaves, and all that it started ends."""
    ray.init(shared_ray.address, log_to_driver=False, logging_level="WARNING")
    yield shared_ray
    ray.shutdown()


@pytest.fixture
def jobs_join(shared_ray: SharedRay, monkeypatch: pytest.MonkeyPatch) -> SharedRay:
    """Jobs that the test starts join the shared Ray."""
    monkeypatch.setenv("RAY_ADDRESS", shared_ray.address)
    return shared_ray
