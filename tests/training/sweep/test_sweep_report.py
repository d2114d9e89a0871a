"""The answer of a sweep, from what its trials left."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inpaint_core.config import load_config
from inpaint_core.errors import WeightsError
from inpaint_core.metrics.names import MEANS
from inpaint_core.storage import open_storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.history import History, picture_grid
from inpaint_core.training.sweep.config import TuneConfig
from inpaint_core.training.sweep.outcomes import Status, known_trials, note_outcome, note_trial, status_of
from inpaint_core.training.sweep.points import Trial, fixed_points, label
from inpaint_core.training.sweep.report import SCHEMA, write_report
from inpaint_core.training.sweep.results import at_epoch, by_point, common_epoch, front, trial_results
from tests.training.small import photographs

# PSNR and sharpness of the last epoch, by share of L1 and seed.
RESULTS = {(0.0, 0): (15.0, 0.5), (0.0, 1): (15.4, 0.7), (0.5, 0): (16.0, 0.4), (0.5, 1): (16.2, 0.2)}
RESULTS |= {(1.0, 0): (15.5, 0.1), (1.0, 1): (15.7, 0.1)}


def config(output: Path, *more: str) -> TuneConfig:
    shares = sorted({share for share, _ in RESULTS})
    given = [f"output={output}", "search.kind=grid", f"search.l1_share={shares}", "seeds=[0, 1]", "training.epochs=2"]
    return load_config(TuneConfig, None, [*given, *more])


def row(epoch: int, psnr: float, sharpness: float) -> dict[str, Any]:
    values = dict.fromkeys(MEANS, 0.1) | {"table_psnr": psnr, "sharpness": sharpness}
    run = {"epoch": epoch, "step": 10 * epoch, "images": 100, "seconds": 1.0, "images_per_second": 100.0, "workers": 1}
    return {**run, **values, "loss_total": 1.0 / epoch}


def told(sweep: TuneConfig, trial: Trial, rows: list[dict[str, Any]], status: Status | None) -> None:
    output = open_storage(sweep.output, sweep.training.s3)
    note_trial(output, trial, None)
    history = History(open_storage(trial.config(sweep).output, sweep.training.s3), epochs=0)
    pictures = photographs(4)
    for one in rows:
        history.add(one, picture_grid([pictures, 255 - pictures, pictures]))
    history.close()
    if status is not None:
        note_outcome(output, trial, status)


@pytest.fixture(scope="module")
def finished_trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of six trials that finished."""
    folder = tmp_path_factory.mktemp("sweep")
    made = config(folder)
    for loss in fixed_points(made):
        for seed in (0, 1):
            psnr, sharpness = RESULTS[loss.l1, seed]
            told(made, Trial(loss, seed), [row(1, psnr - 1, 0.9), row(2, psnr, sharpness)], "finished")
    return folder


@pytest.fixture
def sweep(finished_trials: Path, tmp_path: Path) -> TuneConfig:
    """Six trials that finished, in a copy of the test's own."""
    shutil.copytree(finished_trials, tmp_path, dirs_exist_ok=True)
    return config(tmp_path)


def test_the_best_is_the_best_mean_over_seeds(sweep: TuneConfig) -> None:
    output = open_storage(sweep.output, sweep.training.s3)
    points = by_point(trial_results(sweep, output), "table_psnr")
    assert [point.loss.l1 for point in points] == [0.5, 1.0, 0.0]
    assert points[0].mean("table_psnr") == pytest.approx(16.1)
    assert points[0].spread("table_psnr") == pytest.approx(0.1414, abs=1e-4)
    assert {point.loss.l1 for point in front(points, ("table_psnr", "sharpness"))} == {0.0, 0.5}
    report = write_report(sweep, output)
    assert report.best is not None
    assert report.best.l1 == 0.5
    assert report.line.startswith("best table_psnr 16.1000: bce 0.001, l1 0.5, ssim 0.5; ")
    best = load_config(TrainConfig, Path(sweep.output) / "best.yaml", [])
    assert (best.loss.l1, best.loss.ssim, best.output) == (0.5, 0.5, f"{sweep.output}/best")


def test_the_table_has_a_row_for_each_trial_and_epoch(sweep: TuneConfig) -> None:
    write_report(sweep, open_storage(sweep.output, sweep.training.s3))
    table = pq.read_table(Path(sweep.output) / "trials.parquet")
    assert table.schema.equals(SCHEMA)
    assert len(table) == 12
    assert len(set(table["trial"].to_pylist())) == 6
    assert set(table["status"].to_pylist()) == {"finished"}
    assert sorted(set(table["l1"].to_pylist())) == [0.0, 0.5, 1.0]


def test_the_summary_tells_all_and_its_pictures_are_there(sweep: TuneConfig) -> None:
    first = fixed_points(sweep)[0]
    told(sweep, Trial(first, 2), [row(1, 12.0, 0.1)], "stopped")
    told(sweep, Trial(first, 3), [], "diverged")
    output = open_storage(sweep.output, sweep.training.s3)
    write_report(sweep, output)
    text = (Path(sweep.output) / "summary.md").read_text()
    assert "## After epoch 1" in text
    assert "Trials: 1 diverged, 6 finished, 1 stopped." in text
    assert "| bce 0.001, l1 0.5, ssim 0.5 | 2 of 2 finished | 2/2 |" in text
    assert "16.10 ± 0.14" in text
    assert "| bce 0.001, ssim 1 | 2 of 4 finished | 2/2/1/0 |" in text
    for name in ("metrics.png", "curves.png", "front.png", "pictures.png"):
        assert f"]({name})" in text
        with Image.open(io.BytesIO(output.read(name))) as image:
            assert min(image.size) >= 400
            assert np.asarray(image.convert("L")).std() > 5  # something is drawn


def test_a_lucky_seed_that_went_on_alone_does_not_win(sweep: TuneConfig) -> None:
    output = open_storage(sweep.output, sweep.training.s3)
    lucky = replace(fixed_points(sweep)[0], l1=0.9, ssim=0.1)
    told(sweep, Trial(lucky, 0), [row(1, 15.5, 0.3), row(2, 17.0, 0.3)], "finished")
    told(sweep, Trial(lucky, 1), [row(1, 12.0, 0.3)], "stopped")
    told(sweep, Trial(lucky, 2), [], "diverged")
    trials = trial_results(sweep, output)
    assert [point.loss.l1 for point in by_point(trials, "table_psnr")] == [0.5, 1.0, 0.0, 0.9]
    assert common_epoch(trials) == 1
    level = at_epoch(trials, "table_psnr", 1)
    assert [point.loss.l1 for point in level] == [0.5, 1.0, 0.0, 0.9]
    assert [point.mean("table_psnr") for point in level] == [pytest.approx(mean) for mean in (15.1, 14.6, 14.2, 13.75)]
    assert write_report(sweep, output).line.startswith("best table_psnr 16.1000: bce 0.001, l1 0.5, ssim 0.5; ")
    text = (Path(sweep.output) / "summary.md").read_text()
    assert "## After epoch 1" in text
    assert "| bce 0.001, l1 0.9, ssim 0.1 | 2 of 3 reached it | 2/1/0 |" in text
    assert "13.75 ± 2.47" in text


def test_a_blurred_and_a_noisy_seed_are_not_sharp(sweep: TuneConfig) -> None:
    output = open_storage(sweep.output, sweep.training.s3)
    for share, values in ((0.9, (0.5, 1.5)), (0.8, (0.95, 0.95))):
        loss = replace(fixed_points(sweep)[0], l1=share, ssim=1 - share)
        for seed, value in enumerate(values):
            told(sweep, Trial(loss, seed), [row(1, 15.0, value), row(2, 15.0, value)], "finished")
    points = by_point(trial_results(sweep, output), "sharpness")
    assert points[0].loss.l1 == 0.8
    assert (points[-1].loss.l1, points[-1].mean("sharpness"), points[-1].score("sharpness")) == (0.9, 1.0, -0.5)


def test_an_objective_has_its_column_and_an_abandoned_trial_counts_for_nothing(sweep: TuneConfig) -> None:
    output = open_storage(sweep.output, sweep.training.s3)
    told(sweep, Trial(replace(fixed_points(sweep)[0], l1=0.9, ssim=0.1), 0), [row(1, 19.0, 0.3)], None)
    assert common_epoch(trial_results(sweep, output)) == 2
    write_report(replace(sweep, objectives=("hole_l1", "sharpness")), output)
    assert "| hole_l1 | sharpness | table_l1 |" in (Path(sweep.output) / "summary.md").read_text()


def test_the_weight_of_the_adversary_has_a_plot_where_it_varies(sweep: TuneConfig) -> None:
    output = open_storage(sweep.output, sweep.training.s3)
    assert not (Path(sweep.output) / "adversary.png").exists()
    for weight in (0.01, 0.1):
        loss = replace(fixed_points(sweep)[1], adversarial_weight=weight, reconstruction_weight=1 - weight)
        told(sweep, Trial(loss, 0), [row(1, 15.0, 0.4), row(2, 15.0, 0.5)], "finished")
    write_report(sweep, output)
    with Image.open(io.BytesIO(output.read("adversary.png"))) as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_without_a_finished_trial_there_is_no_best(tmp_path: Path) -> None:
    made = config(tmp_path, "objectives=[table_ssim]")
    told(made, Trial(fixed_points(made)[0], 0), [row(1, 12.0, 0.1)], "stopped")
    told(made, Trial(fixed_points(made)[0], 1), [], "failed")
    note_outcome(open_storage(made.output), Trial(fixed_points(made)[0], 1), "failed", "CUDA out of memory")
    (tmp_path / "best.yaml").write_text("of an earlier start")
    report = write_report(made, open_storage(made.output, made.training.s3))
    assert report.best is None
    assert report.line.startswith("no trial has finished")
    assert not (tmp_path / "best.yaml").exists()
    assert not (tmp_path / "front.png").exists()  # one objective
    text = (tmp_path / "summary.md").read_text()
    assert "1 failed, 1 stopped" in text
    assert "seed 1: CUDA out of memory" in text


def test_outcomes_are_kept_and_failures_are_tried_again(tmp_path: Path) -> None:
    output, trial = (
        open_storage(str(tmp_path), config(tmp_path).training.s3),
        Trial(fixed_points(config(tmp_path))[0], 5),
    )
    note_trial(output, trial, {"l1_share": 0.25})
    assert status_of(output, trial) is None
    note_outcome(output, trial, "failed", "the workers died")
    assert status_of(output, trial) is None
    [known] = known_trials(output)
    assert (known.trial, known.values, known.status, known.error) == (
        trial,
        {"l1_share": 0.25},
        "failed",
        "the workers died",
    )
    note_outcome(output, trial, "stopped")
    assert status_of(output, trial) == "stopped"
    assert label(known.trial.loss) == trial.point
    (tmp_path / "trials" / trial.name / "trial.json").write_text("{half")
    with pytest.raises(WeightsError, match=r"trial\.json is damaged; delete its folder"):
        known_trials(output)
