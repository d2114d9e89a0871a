"""A review of a job in a bucket: records, pictures and decisions, and carrying them out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inpaint_core.removal.acceptance import AcceptConfig
from inpaint_core.removal.review.command import main
from inpaint_core.storage import S3Options, open_storage
from tests.removal.review.finished_job import finished_job, request, served, street
from tests.s3.seaweedfs import S3Bucket


def test_decisions_in_a_bucket(tmp_path: Path, s3_bucket: S3Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    options = S3Options(endpoint=s3_bucket.endpoint)
    places = (open_storage(f"s3://{s3_bucket.name}/in", options), open_storage(f"s3://{s3_bucket.name}/out", options))
    key = "a/ü #1?.png"
    rules = AcceptConfig(instead="original")
    job = finished_job(tmp_path, {key: street(0), "b.png": street(1)}, places, options, rules)
    cleaned = job.output.read(key)
    with served(job.review()) as server:
        row = request(server, "api/records?q=a/").json["rows"][0]
        assert row["key"] == key
        picture = request(server, "picture?kind=before&key=a%2F%C3%BC%20%231%3F.png")
        assert picture.data == job.source.read(key)
        content = json.dumps({"key": key, "decision": "hold"}).encode()
        assert request(server, "api/decide", content, content_type="application/json").status == 200
    assert main([job.output.uri, "--apply", "--s3-endpoint", s3_bucket.endpoint]) == 0
    assert capsys.readouterr().out == "decisions carried out: 1 hold\n"
    assert job.output.read(key) == job.source.read(key)
    assert job.output.read(f"_removal/held/{key}") == cleaned
    assert job.records()[key]["decided_by"] == "Anna"
