"""What a sweep tries."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError
from inpaint_core.training.config import LossConfig, TrainConfig
from inpaint_core.training.sweep.config import TuneConfig
from inpaint_core.training.sweep.points import Trial, drawn, fixed_points, l1_share, label, mixture, trials_of

ROOT = Path(__file__).resolve().parents[3]


def sweep(*overrides: str) -> TuneConfig:
    return load_config(TuneConfig, None, list(overrides))


def test_a_grid_is_every_combination_and_its_own_points_once() -> None:
    config = sweep(
        "search.kind=grid",
        "search.l1_share=[0.0, 0.3]",
        "search.structure=[ssim, ms_ssim]",
        "search.adversarial_weight=[0.001, 0.01]",
        "search.points=[{l2: 1.0}, {l1: 0.3, ssim: 0.7}]",
    )
    points = fixed_points(config)
    assert len(points) == 9  # the second point of its own is one of the combinations
    assert LossConfig(l2=1.0) in points
    assert LossConfig(l1=0.3, ms_ssim=0.7, adversarial_weight=0.01, reconstruction_weight=0.99) in points
    for point in points[:8]:
        assert point.l1 + point.ssim + point.ms_ssim == pytest.approx(1)
        assert point.adversarial_weight + point.reconstruction_weight == pytest.approx(1)
        assert min(point.ssim, point.ms_ssim) == 0
    assert points == fixed_points(config)


def test_ms_ssim_with_l1_under_gaussian_windows_is_in_the_default_space() -> None:
    points = fixed_points(sweep("search.kind=random", "search.points=40"))
    kinds = Counter((point.ssim > 0, point.ms_ssim > 0, point.l1_window) for point in points)
    assert kinds.keys() == {(True, False, "none"), (False, True, "gaussian")}
    assert min(kinds.values()) > 10
    zhao = mixture(LossConfig(), 0.16, "ms_ssim_gaussian", "bce", 0.001)
    assert (zhao.l1, zhao.ms_ssim, zhao.ssim, zhao.l1_window) == (0.16, 0.84, 0.0, "gaussian")
    assert label(zhao) == "bce 0.001, l1 0.16, ms_ssim 0.84, gaussian l1"


def test_the_committed_grid_is_the_tables_five_two_without_an_adversary_and_ms_ssim() -> None:
    config = load_config(TuneConfig, ROOT / "configs" / "tune.yaml", [])
    names = ("base", "lsgan_l1", "joint_30_70", "joint_50_50", "joint_005_995", "ms_ssim_l1")
    *table, ms_ssim = [load_config(TrainConfig, ROOT / "configs" / "train" / f"{name}.yaml", []).loss for name in names]
    points = fixed_points(config)
    assert points[:5] == table
    assert points[7:] == [ms_ssim]
    without = points[5:7]
    assert [point.adversarial_weight for point in without] == [0.0, 0.0]
    assert [replace(point, adversarial_weight=0.001, reconstruction_weight=0.999) for point in without] == table[3:]


def test_a_random_search_draws_from_its_space_and_follows_from_its_seed() -> None:
    space = ["search.kind=random", "search.points=60", "search.space.l1_share=[0.2, 0.8]"]
    space += ["search.space.adversarial=[bce, lsgan]", "search.space.adversarial_weight=[0.0001, 0.01]"]
    points = fixed_points(sweep(*space, "search.space.structure=[ssim, ms_ssim]"))
    assert len(points) == 60
    assert points == fixed_points(sweep(*space, "search.space.structure=[ssim, ms_ssim]"))
    assert points != fixed_points(sweep(*space, "search.space.structure=[ssim, ms_ssim]", "search.seed=1"))
    assert all(0.2 <= (l1_share(point) or 0) <= 0.8 for point in points)
    assert all(0.0001 <= point.adversarial_weight <= 0.01 for point in points)
    below = sum(point.adversarial_weight < 0.001 for point in points)
    assert 15 < below < 45  # half of a logarithmic scale
    kinds = Counter((point.adversarial, point.ms_ssim > 0) for point in points)
    assert len(kinds) == 4


def test_the_rest_of_the_loss_is_the_trainings() -> None:
    config = sweep("training.loss.overlap_weight=3", "search.kind=grid", "search.l1_share=[0.4]")
    assert fixed_points(config)[0].overlap_weight == 3
    assert mixture(LossConfig(l2=5), 0.4, "ssim", "bce", 0.1).l2 == 0


def test_trials_go_point_by_point_then_seed_by_seed_and_have_folders_of_their_own() -> None:
    config = sweep("search.kind=grid", "search.l1_share=[0, 1]", "seeds=[7, 8]", "output=s3://b/sweep/")
    trials = trials_of(fixed_points(config), config.seeds)
    assert [trial.seed for trial in trials] == [7, 7, 8, 8]
    assert len({trial.name for trial in trials}) == 4
    assert len({trial.point for trial in trials}) == 2
    first = trials[0].config(config)
    assert first.output == f"s3://b/sweep/trials/{trials[0].name}"
    assert (first.seed, first.loss) == (7, trials[0].loss)
    assert first.data == config.training.data
    assert Trial(trials[0].loss, 7).name == trials[0].name


def test_a_drawn_point_is_the_same_after_json() -> None:
    import json

    values: dict[str, Any] = {"l1_share": 0.123456789012345, "structure": "ssim", "adversarial": "bce"}
    values["adversarial_weight"] = 0.00123456789
    again = json.loads(json.dumps(values))
    assert Trial(drawn(LossConfig(), values), 0).name == Trial(drawn(LossConfig(), again), 0).name


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (LossConfig(l1=0.3, ssim=0.7), "bce 0.001, l1 0.3, ssim 0.7"),
        (LossConfig(adversarial="lsgan", l1=1.0), "lsgan 0.001, l1 1"),
        (LossConfig(adversarial_weight=0.0, l2=1.0), "no adversary, l2 1"),
    ],
)
def test_labels(loss: LossConfig, text: str) -> None:
    assert label(loss) == text
    assert label(replace(loss, overlap_weight=1.0)) == text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["search.kind=grid"], "search: the grid has no points"),
        (
            ["search.kind=random", "search.space.l1_share=[0.8, 0.2]"],
            "search.space.l1_share: 0.8 to 0.2 is an empty range",
        ),
        (
            ["search.kind=random", "search.space.l1_share=[0.5, 0.5]", "search.space.structure=ssim"],
            "search.space: contains a single loss",
        ),
        (["search.kind=genetic"], "search.kind: 'genetic' is not one of 'grid', 'random', 'optuna'"),
        (["search.space.l1_share=[0, 2]"], "search.space.l1_share.1: "),
        (["objectives=[beauty]"], "objectives.0: "),
        (["training.loss.ssmi=1"], "training.loss.ssmi: no such key; did you mean 'ssim'?"),
        (["training.network.kind=transformer"], "training.network.kind: 'transformer' is not one of"),
        (["seeds=[]"], "seeds: "),
    ],
)
def test_what_holds_nothing_or_is_unknown_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        fixed_points(sweep(*given))
    assert str(raised.value).startswith(message)


def test_trials_keep_their_names_when_a_later_version_adds_keys_to_the_loss() -> None:
    # As the version before `normalise_overlap` named them.
    assert Trial(LossConfig(l1=0.3, ssim=0.7), 1).name == "5bf1806d-seed1"
    without = LossConfig(adversarial_weight=0.0, reconstruction_weight=1.0, l2=1.0)
    assert Trial(without, 0).name == "fd7fd72b-seed0"
    other = replace(without, normalise_overlap=True)
    assert Trial(other, 0).name != Trial(without, 0).name
    assert (label(other), label(without)) == ("no adversary, l2 1, overlap normalised", "no adversary, l2 1")
