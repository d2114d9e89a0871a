import threading
import time
from dataclasses import dataclass

import pytest

from inpaint_core.removal.io_pool import IoPool


@dataclass
class Job:
    seconds: float
    done: bool = False
    late: bool = False


def late(job: Job) -> None:
    job.late = True


def step(job: Job) -> None:
    time.sleep(job.seconds)
    job.done = True


def test_steps_run_at_the_same_time_and_come_back_in_order() -> None:
    pool: IoPool[Job] = IoPool(4, 10.0, late)
    barrier = threading.Barrier(4, timeout=5)

    def meet(job: Job) -> None:
        barrier.wait()
        job.done = True

    jobs = [Job(0) for _ in range(4)]
    assert pool.wait(pool.submit(meet, jobs)) == jobs
    assert all(job.done for job in jobs)
    pool.close()


def test_steps_that_hang_are_reported_and_the_others_go_on() -> None:
    pool: IoPool[Job] = IoPool(2, 0.3, late)
    jobs = [Job(3), Job(3), Job(0), Job(0), Job(0)]  # more hang than there are threads left for the rest
    start = time.monotonic()
    pool.wait(pool.submit(step, jobs))
    assert time.monotonic() - start < 2
    assert [job.late for job in jobs] == [True, True, False, False, False]
    assert [job.done for job in jobs[2:]] == [True, True, True]
    pool.close()


def test_seconds_of_an_outage_do_not_count() -> None:
    begun = time.monotonic()
    pool: IoPool[Job] = IoPool(
        1, 0.5, late, excused=lambda: min(time.monotonic() - begun, 1.0)
    )  # an outage of a second
    jobs = [Job(1.0), Job(0), Job(5)]
    pool.wait(pool.submit(step, jobs))
    assert [job.late for job in jobs] == [False, False, True]
    assert time.monotonic() - begun < 4
    pool.close()


def test_a_pause_is_not_ended_by_what_has_ended_before() -> None:
    pool: IoPool[Job] = IoPool(2, 5.0, late)
    steps = pool.submit(step, [Job(0), Job(0.9)])
    deadline = time.monotonic() + 5
    while not steps[0].future.done() and time.monotonic() < deadline:
        time.sleep(0.01)
    started = time.monotonic()
    pool.pause(steps)
    assert steps[1].future.done()
    assert time.monotonic() - started > 0.1
    pool.close()


def test_an_error_of_a_step_reaches_whoever_waits() -> None:
    pool: IoPool[Job] = IoPool(1, 5.0, late)

    def fail(job: Job) -> None:
        raise TimeoutError("of the step itself")

    with pytest.raises(TimeoutError, match="of the step itself"):
        pool.wait(pool.submit(fail, [Job(0)]))
    pool.close()
