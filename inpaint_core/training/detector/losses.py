"""How far a student's outputs and feature maps are from its teacher's (Hinton et al. 2015; Romero et al., "FitNets", 2015).

Everything is computed in float32. `Answers` are the outputs of a segmentation head in training mode, for A anchors: `scores` (B, classes,
A) logits, `boxes` (B, 64, A) logits of four distances in 16 bins each, `mask_coefficient` (B, 32, A) and `proto`
(B, 32, h, w).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BINS = 16
_ANCHORS_WITH_MASKS = 12

Answers = Mapping[str, Tensor]


def distillation_loss(
    student: Answers,
    teacher: Answers,
    classes: Sequence[int],
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    *,
    features: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of six terms, and each without gradient.

    - `scores`: the cross-entropy to the teacher's confidences, over all anchors and classes. Like those below, it is divided
      by the sum of the weights: of each anchor, the teacher's highest confidence among `classes`.
    - `boxes`: the cross-entropy to the teacher's distribution over the bins, weighted; a mean over the four sides.
    - `coefficients`: the squared distance, weighted, over the variance of the teacher's.
    - `prototypes`: the same of the prototype masks, everywhere alike.
    - `masks`: the cross-entropy to the teacher's mask, over all pixels, of the anchors with the highest weights.
    - `features`: the mean over pairs of maps of the squared distance over the variance of the teacher's; times `features`.

    Args:
        student: its answers; `scores` has one channel for each of `classes`, in their order.
        teacher: its answers, without gradient.
        classes: the teacher's channels of the student's classes.
        student_maps, teacher_maps: pairs of feature maps of equal shapes.
        features: weight of their term.
    """
    wanted = teacher["scores"].float()[:, list(classes)].sigmoid()
    weights = wanted.amax(dim=1)
    total = weights.sum().clamp(min=1.0)
    terms = {
        "scores": F.binary_cross_entropy_with_logits(student["scores"].float(), wanted, reduction="sum") / total,
        "boxes": (weights * _box_distance(student["boxes"].float(), teacher["boxes"].float())).sum() / total,
        "coefficients": _weighted_distance(
            student["mask_coefficient"].float(), teacher["mask_coefficient"].float(), weights, total
        ),
        "prototypes": _distance(student["proto"].float(), teacher["proto"].float()),
        "masks": _mask_distance(student, teacher, weights),
    }
    if features > 0:
        pairs = zip(student_maps, teacher_maps, strict=True)
        distances = [_distance(mine.float(), its.float()) for mine, its in pairs]
        terms["features"] = features * torch.stack(distances).mean()
    parts = {name: term.detach() for name, term in terms.items()}
    return torch.stack(list(terms.values())).sum(), parts


def _distance(mine: Tensor, its: Tensor) -> Tensor:
    return F.mse_loss(mine, its) / its.var().clamp(min=1e-6)


def _weighted_distance(mine: Tensor, its: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    return (weights * (mine - its).square().mean(dim=1)).sum() / total / its.var().clamp(min=1e-6)


def _box_distance(mine: Tensor, its: Tensor) -> Tensor:
    """(B, A): a mean over the four sides."""
    batch, _, anchors = mine.shape
    mine = mine.view(batch, 4, _BINS, anchors).log_softmax(dim=2)
    its = its.view(batch, 4, _BINS, anchors).softmax(dim=2)
    return -(its * mine).sum(dim=2).mean(dim=1)


def _mask_distance(student: Answers, teacher: Answers, weights: Tensor) -> Tensor:
    chosen = weights.topk(min(_ANCHORS_WITH_MASKS, weights.shape[1]), dim=1)
    its = _masks(teacher, chosen.indices).sigmoid()
    distance = F.binary_cross_entropy_with_logits(_masks(student, chosen.indices), its, reduction="none")
    return (chosen.values * distance.mean(dim=(2, 3))).sum() / chosen.values.sum().clamp(min=1.0)


def _masks(answers: Answers, anchors: Tensor) -> Tensor:
    """(B, n, h, w) logits of the masks of some anchors (B, n)."""
    coefficients = answers["mask_coefficient"].float()
    coefficients = coefficients.gather(2, anchors[:, None].expand(-1, coefficients.shape[1], -1))
    return torch.einsum("bcn,bchw->bnhw", coefficients, answers["proto"].float())
