"""`make results` on a tiny scale: real photographs, networks and trainings of one epoch, and its tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, TrainingError, UserError
from inpaint_core.images.collections.photographs import read_source
from inpaint_core.images.collections.sources import as_sources, list_photographs
from inpaint_core.storage import open_storage
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.data.blocks import ImageBlocks
from inpaint_core.training.loop import TrainingLoop
from inpaint_core.training.run_folder import claim_output
from inpaint_core.training.training_data import TrainingData
from tests.samples import encoded
from tests.training.small import CPU, photographs
from tools.results.__main__ import main, train_by_command
from tools.results.document import check_document, command, with_table
from tools.results.job import Train, plan_lines, prepare, write_results
from tools.results.models import CONFIGS, MODELS, ROOT, SMALL, Request, kind_of

COUNT = 8
TINY = ("network.bottleneck=8", "network.width=4", "discriminator.width=4", "batch=4", "scaling.device=cpu")
TINY += ("validation.images=2", "validation.pictures=1")
TEXT = """# Results
before
<!-- results: begin center -->
| old |
<!-- results: end center -->
between
<!-- results: begin center-56 -->
<!-- results: end center-56 -->
after
"""
OUTSIDE = ("# Results\nbefore\n", "\nbetween\n", "\nafter\n")


def outside(text: str) -> tuple[str, ...]:
    return tuple(re.split(r"<!-- results: begin .*?<!-- results: end [\w-]+ -->", text, flags=re.DOTALL))


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """Two models of two kinds, one epoch each, of eight photographs."""
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(photographs(COUNT)):
            (tmp_path / folder / f"{number}.png").write_bytes(encoded(image))
    (tmp_path / "RESULTS.md").write_text(TEXT)
    return Request(
        data=str(tmp_path / "train"),
        validation=str(tmp_path / "val"),
        document=tmp_path / "RESULTS.md",
        output=str(tmp_path / "results"),
        epochs=1,
        models=("joint_30_70", "paper/base"),
        settings=TINY,
    )


def decoded(uri: str, config: TrainConfig, limit: int | None) -> ImageBlocks:
    storage, found = list_photographs(uri, config.s3, config.reading.extensions, limit)
    [source] = as_sources(storage, found, config.reading.max_pixels, per_block=len(found))
    return ImageBlocks.of(read_source(source, 128).pixels)


class InProcess:
    """Trains as `inpaint train` does, without Ray; what it was called for, and an interruption after an epoch."""

    def __init__(self, interrupt: Callable[[dict[str, Any]], bool] = lambda row: False) -> None:
        self.outputs: list[str] = []
        self.lines: list[str] = []
        self._interrupt = interrupt

    def __call__(self, file: Path, overrides: Sequence[str]) -> None:
        config = load_config(TrainConfig, file, overrides)
        assert config.validation.data is not None
        output = open_storage(config.output)
        claim_output(output, config)
        self.outputs.append(config.output.partition("/results/")[2])
        validation = decoded(config.validation.data, config, config.validation.images)
        data = TrainingData(
            decoded(config.data, config, config.reading.limit),
            np.zeros(0, np.int64),
            validation,
            np.arange(len(validation)),
            None,
        )

        def report(row: dict[str, Any]) -> None:
            if self._interrupt(row):
                raise KeyboardInterrupt

        state = load_state(output, CPU.device)
        TrainingLoop(
            config, CPU, output, data, state, print_line=self.lines.append, report=report, check=lambda: None
        )()


def no_training(file: Path, overrides: Sequence[str]) -> None:
    pytest.fail(f"{file} is trained")


def made(request: Request, train: Train) -> list[str]:
    lines: list[str] = []
    write_results(prepare(request), train, lines.append)
    return lines


def test_the_tables_are_written_and_a_second_call_trains_nothing(request_: Request) -> None:
    train = InProcess()
    made(request_, train)
    assert train.outputs == ["joint_30_70", "paper/base"]

    text = request_.document.read_text()
    assert outside(text) == OUTSIDE
    assert "| old |" not in text
    first, second = re.findall(r"begin [\w-]+ -->\n(.*?)<!-- results: end", text, re.DOTALL)
    assert command(request_) in first
    assert re.search(
        rf"1 epoch per model; .*`network\.width=4`.* {COUNT} training photographs, {COUNT} evaluated\. ", first
    )
    assert re.search(r"Machine: .+ CPUs? of .+, \d+ threads?\. Date: \d{4}-\d\d-\d\d\.", first)

    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {14}
    assert [row[0] for row in rows[2:]] == [
        "joint_30_70",
        "paper/base",
        "mean colour of the rest",
        "OpenCV Telea, radius 3",
        "OpenCV Navier-Stokes, radius 3",
    ]
    assert rows[2][1] == "1"
    assert [rows[2][-1], rows[3][-1]] == ["0.0651, 0.0366, 15.40, 0.7504", "0.0653, 0.0319, 15.77, 0.7385"]
    # The figures are those of the evaluation's own table.
    told = (Path(request_.output) / "evaluation" / "center" / "table.md").read_text()
    [telea] = [line for line in told.splitlines() if line.startswith("| telea")]
    figures = [cell.strip() for cell in telea.split("|")[3:-1]]
    assert rows[5][3:11] == figures[:8]
    assert second.count("\n| ") == 7  # head, line, five rows
    assert "published" not in second

    with Image.open(request_.document.parent / "benchmarks" / "results-center.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width == 7 * 130 - 2  # photograph, hole, two models and three fills

    made(request_, no_training)
    assert request_.document.read_text() == text
    assert any("all is trained" in line for line in plan_lines(prepare(request_)))


def test_minutes_become_epochs_once_and_an_interrupted_run_goes_on(request_: Request) -> None:
    request = replace(request_, epochs=None, minutes=1.0, measured=4)
    planned = plan_lines(prepare(request))
    assert (
        "joint_30_70: as many epochs as fit into 1 minutes; first, 2 epochs of 4 photographs measure its speed"
        in planned[2]
    )
    assert not Path(request.output).exists()

    measured = InProcess(lambda row: row["epoch"] == 2)
    with pytest.raises(KeyboardInterrupt):  # at the end of the first measurement
        made(request, measured)
    assert measured.outputs == ["speed/joint_30_70"]
    plan = json.loads((Path(request.output) / "plan.json").read_text())
    assert plan["speeds"] == plan["epochs"] == {}

    # The speed of the slower kind allows two epochs of a minute.
    path = Path(request.output) / "plan.json"
    plan["speeds"] = {"context_encoder, l1 + ssim": 2.5 * COUNT / 60, "context_encoder, l2": 0.5 * COUNT / 60}
    path.write_text(json.dumps(plan))
    broken = InProcess(lambda row: row["epoch"] == 1)
    with pytest.raises(KeyboardInterrupt):
        made(request, broken)
    assert json.loads(path.read_text())["epochs"] == {"joint_30_70": 2, "paper/base": 1}
    lines = plan_lines(prepare(request))
    assert "joint_30_70: 2 epochs, 1 of them done; about 24 seconds, 0.3 images/s" in lines
    assert request.document.read_text() == TEXT

    train = InProcess()
    made(request, train)
    assert train.outputs == ["joint_30_70", "paper/base"]
    assert train.lines[0] == "resuming from epoch 1, step 0 of the next"
    assert "\n| joint_30_70 | 2 | 0 |" in request.document.read_text()
    made(request, no_training)


def test_a_speed_is_measured_once_for_each_kind(request_: Request) -> None:
    train = InProcess()
    request = replace(request_, epochs=None, minutes=1e-6, measured=4, models=("base", "paper/base", "base:2"))
    made(request, train)
    assert train.outputs == ["speed/base", "base", "paper/base", "base-2"]
    assert not (Path(request.output) / "speed" / "base" / "last.pt").exists()
    plan = json.loads((Path(request.output) / "plan.json").read_text())
    assert list(plan["speeds"]) == ["context_encoder, l2"]
    assert plan["speeds"]["context_encoder, l2"] > 0
    assert plan["epochs"] == {"base": 1, "paper/base": 1, "base:2": 2}  # one at least
    rows = re.findall(
        r"^\| ((?:paper/)?base.*?) \| (\d) \| 0 \|.*\| (.*?) \|$", request.document.read_text(), re.MULTILINE
    )
    published = "0.0653, 0.0319, 15.77, 0.7385"
    assert rows[:3] == [
        ("base", "1", published),
        ("paper/base", "1", published),
        ("base, 2 times the epochs", "2", published),
    ]


def test_more_minutes_than_the_config_has_epochs_are_not_used(request_: Request) -> None:
    request = replace(request_, epochs=None, minutes=60.0, models=("base",), measured=4)
    Path(request.output).mkdir()
    plan = {"minutes": 60.0, "epochs_each": None, "settings": [*SMALL, *TINY], "images": COUNT, "measured": 4}
    (Path(request.output) / "plan.json").write_text(json.dumps({**plan, "speeds": {"context_encoder, l2": 800.0}}))
    assert plan_lines(prepare(request))[2] == "base: 40 epochs; about 0 seconds, 800.0 images/s"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": ""}, r"^--data: the photographs are missing; give --data URI \(make results DATA=URI\)$"),
        ({"data": "/does/not/exist"}, r"/does/not/exist: there is no such folder"),
        ({"validation": "/does/not/exist"}, r"/does/not/exist: there is no such folder"),
        ({"settings": ("batch=64",)}, r"^--data: 8 training photographs are fewer than one batch of 64$"),
        (
            {"settings": ("batch=null", "batch_per_worker=9")},
            r"^--data: 8 training photographs are fewer than one batch of 9$",
        ),
        ({"epochs": None}, r"^--minutes, --epochs: give one of them"),
        ({"epochs": 1, "minutes": 1.0}, r"^--minutes, --epochs: give one of them"),
        ({"epochs": None, "minutes": -1.0}, r"^--minutes: -1 is not positive"),
        ({"epochs": None, "minutes": 1.0, "measured": 3}, r"^--measured: 3 photographs are fewer than one batch of 4$"),
        ({"models": ("base", "bse")}, r"^--models: bse is no model of the table; choose of base, "),
        ({"models": ("base:0",)}, r"^--models: base:0 is no model of the table; .*NAME:2: with twice the epochs"),
        ({"models": ("base:2x",)}, r"^--models: base:2x is no model of the table"),
        ({"settings": ("epochs=3",)}, r"^epochs: give it as --epochs$"),
        ({"settings": ("network.widht=3",)}, r"^network.widht: no such key"),
        ({"document": Path("/does/not/exist.md")}, r"^--document: /does/not/exist.md cannot be read"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    request_: Request, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as told:
        prepare(replace(request_, **{"models": ("base",), **changes}))
    assert "\n" not in str(told.value)
    assert not Path(request_.output).exists()


def test_an_output_among_the_photographs_is_refused(request_: Request) -> None:
    with pytest.raises(ConfigError, match="lies inside --validation"):
        prepare(replace(request_, output=f"{request_.validation}/results", models=("base",)))


def test_another_budget_needs_another_output(request_: Request) -> None:
    request = replace(request_, models=("base",))
    Path(request.output).mkdir()
    plan = {"minutes": None, "epochs_each": 40, "settings": [*SMALL, *TINY], "images": COUNT, "measured": 8}
    (Path(request.output) / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match=r"begun with another budget \(--epochs: 40 there and 1 here\)"):
        prepare(request)
    (Path(request.output) / "plan.json").write_text("{")
    with pytest.raises(ConfigError, match=r"plan.json is damaged, or of another version; give another --output"):
        prepare(request)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("<!-- results: begin center -->\n", ""),
        TEXT.replace("<!-- results: end center -->", ""),
        TEXT + TEXT,
        "<!-- results: end center -->\n<!-- results: begin center -->\n",
    ],
)
def test_markers_that_are_missing_or_repeated_are_told(text: str) -> None:
    with pytest.raises(
        ConfigError, match="needs the lines <!-- results: begin center --> and <!-- results: end center -->"
    ):
        with_table(text, "center", "", Path("RESULTS.md"))


def test_the_projects_document_has_a_place_for_each_table() -> None:
    check_document(ROOT / "RESULTS.md")


def test_every_model_is_a_config_of_the_central_square_and_four_kinds_are_measured() -> None:
    configs = {model: load_config(TrainConfig, CONFIGS / f"{model}.yaml", SMALL) for model in MODELS}
    assert {path.stem for path in (CONFIGS / "paper").iterdir()} == {name.removeprefix("paper/") for name in MODELS[6:]}
    assert {config.holes.kinds for config in configs.values()} == {("center",)}
    assert {kind_of(config) for config in configs.values()} == {
        f"context_encoder, {terms}" for terms in ("l1", "l2", "l1 + ssim", "l1 + ms_ssim")
    }


def test_the_command_plans_and_tells_errors_in_one_line(request_: Request, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--data", request_.data, "--validation", request_.validation, "--output", request_.output]
    places += ["--document", str(request_.document), "--models", "base,ms_ssim_l1"]
    assert main([*places, "--epochs", "40", "--plan", *TINY]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("40 epochs per model; 8 training photographs; ")
    assert told[1] == f"settings: {' '.join((*SMALL, *TINY))}"
    assert told[2:4] == ["base: 40 epochs; time unknown", "ms_ssim_l1: 40 epochs; time unknown"]
    assert not Path(request_.output).exists()
    assert main([*places, "--plan"]) == 2
    assert capsys.readouterr().err == (
        "error: --minutes, --epochs: give one of them (make results MINUTES=60, or EPOCHS=40)\n"
    )


def test_a_training_that_fails_has_told_why_and_ends_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        TrainingError, match=r"base\.yaml: its training ended with exit code 2; the same command goes on"
    ):
        train_by_command(CONFIGS / "base.yaml", ["loss.ssmi=1"])
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: loss.ssmi: no such key; did you mean 'ssim'?")
