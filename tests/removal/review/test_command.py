"""`inpaint review` as a process."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.removal.review.finished_job import finished_job, plain


def test_it_prints_its_address_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    job = finished_job(tmp_path, {"a.png": plain()})
    command = [sys.executable, "-m", "inpaint_core", "review", job.output.uri, "--name", "Anna"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("review: http://127.0.0.1:")
        address = urlsplit(line.split()[1])
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=30)
        connection.request("GET", f"{address.path}api/about")
        answer = connection.getresponse()
        assert (answer.status, b'"reviewer":"Anna"' in answer.read()) == (200, True)
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""  # not the address, whose token is secret
