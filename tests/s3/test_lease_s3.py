"""The lease of a job's output on a real S3 server, by whose clock leases become stale."""

import pytest

from inpaint_core.errors import ConfigError
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.lease import JobLease, Pace
from inpaint_core.storage import S3Options, open_storage
from tests.s3.seaweedfs import S3Bucket

pytestmark = pytest.mark.s3

LAYOUT = Layout.of(dry_run=False)


def test_one_job_at_a_time_in_a_bucket(s3_bucket: S3Bucket) -> None:
    output = open_storage(f"{s3_bucket.uri}/out", S3Options(endpoint=s3_bucket.endpoint))
    pace = Pace(renewed=0.3, stale=3)
    lines: list[str] = []
    with JobLease(output, LAYOUT, "first", lines.append, pace) as first:
        with (
            pytest.raises(ConfigError, match=r"^output: another job is running in s3://.*/out \(run first, "),
            JobLease(output, LAYOUT, "second", lines.append, pace),
        ):
            pass
        first.check()
    assert [line.split(" (")[0] for line in lines] == [f"another job may be running in {output.uri}"]
    assert [info.key for info in output.list()] == []
    left = b'{"run_id": "far", "host": "node-7", "process": 1, "machine": "other", "started": "then", "renewals": 3}'
    output.write(LAYOUT.lease, left)
    with JobLease(output, LAYOUT, "next", lines.append, pace) as held:
        held.check()
    assert lines[-1].startswith("resuming after a job that ended without releasing its lease (run far, ")
    assert [info.key for info in output.list()] == []
