"""The distance between a student's answers and its teacher's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inpaint_core.training.detector.losses import distillation_loss

ANCHORS = 20


def answers(classes: int, seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "scores": torch.randn(2, classes, ANCHORS, generator=random),
        "boxes": torch.randn(2, 64, ANCHORS, generator=random),
        "mask_coefficient": torch.randn(2, 32, ANCHORS, generator=random),
        "proto": torch.randn(2, 32, 8, 8, generator=random),
    }


def of_classes(teacher: dict[str, Tensor], classes: list[int]) -> dict[str, Tensor]:
    return teacher | {"scores": teacher["scores"][:, classes]}


def test_the_teachers_own_answers_are_the_least() -> None:
    teacher = answers(8)
    maps = [torch.randn(2, 4, 5, 5)]
    same = {name: value.clone().requires_grad_() for name, value in of_classes(teacher, [5, 2]).items()}
    total, parts = distillation_loss(same, teacher, [5, 2], maps, maps, features=1.0)
    for name in ("coefficients", "prototypes", "features"):
        assert parts[name] == 0
    total.backward()  # type: ignore[no-untyped-call]
    for value in same.values():  # at a minimum: no way down
        assert value.grad is not None
        assert value.grad.abs().max() < 1e-6
    assert float(total.detach()) == pytest.approx(float(sum(parts.values())))
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize("name", ["scores", "boxes", "mask_coefficient", "proto"])
def test_any_other_answer_costs_and_learns(name: str) -> None:
    teacher = answers(8)
    least, _ = distillation_loss(of_classes(teacher, [0, 1]), teacher, [0, 1], [], [], features=0.0)
    other = of_classes(teacher, [0, 1])
    other[name] = (other[name] + 0.3 * torch.randn(other[name].shape)).requires_grad_()
    total, _ = distillation_loss(other, teacher, [0, 1], [], [], features=0.0)
    assert total > least
    total.backward()  # type: ignore[no-untyped-call]
    assert other[name].grad is not None
    assert other[name].grad.abs().sum() > 0


def test_scores_by_hand() -> None:
    teacher, student = answers(3), of_classes(answers(3, seed=1), [2])
    teacher["scores"] = torch.full((1, 3, 2), -100.0)
    teacher["scores"][0, 2, 0] = 100.0  # one anchor is certain of class 2
    for name in ("boxes", "mask_coefficient"):
        teacher[name], student[name] = teacher[name][:1, :, :2], student[name][:1, :, :2]
    teacher["proto"], student["proto"] = teacher["proto"][:1], student["proto"][:1]
    student["scores"] = torch.tensor([[[1.0, -2.0]]])
    _, parts = distillation_loss(student, teacher, [2], [], [], features=0.0)
    expected = math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(-2.0))
    assert float(parts["scores"]) == pytest.approx(expected, rel=1e-5)


def test_where_the_teacher_sees_nothing_boxes_and_masks_do_not_count() -> None:
    teacher = answers(3)
    teacher["scores"] = torch.full((2, 3, ANCHORS), -100.0)
    one, other = of_classes(teacher, [0]), of_classes(teacher, [0])
    other["boxes"], other["mask_coefficient"] = torch.randn(2, 64, ANCHORS), torch.randn(2, 32, ANCHORS)
    first, _ = distillation_loss(one, teacher, [0], [], [], features=0.0)
    second, _ = distillation_loss(other, teacher, [0], [], [], features=0.0)
    assert float(second) == pytest.approx(float(first), abs=1e-6)


def test_features_count_by_their_weight_and_relative_to_the_teachers_spread() -> None:
    teacher, its = answers(3), torch.randn(2, 4, 6, 6)
    mine = its + 0.5
    results = []
    for scale, weight in ((1.0, 1.0), (10.0, 1.0), (1.0, 3.0)):
        _, parts = distillation_loss(
            of_classes(teacher, [0]), teacher, [0], [scale * mine], [scale * its], features=weight
        )
        results.append(float(parts["features"]))
    assert results[0] == pytest.approx(0.25 / float(its.var()), rel=1e-5)
    assert results[1] == pytest.approx(results[0], rel=1e-4)
    assert results[2] == pytest.approx(3 * results[0], rel=1e-5)
