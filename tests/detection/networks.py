"""Networks of ultralytics with random weights that nevertheless find things: built from its architecture files, no downloads."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def random_network(architecture: str, classes: Sequence[str], *, end2end: bool = False) -> Any:
    """A network of one of ultralytics' families, in eval mode, whose outputs are spread like those of a trained one.

    Random weights give next to the same answer everywhere. So the running means and variances of the batch
    normalisations are measured on noise, and the last convolutions of the head are scaled: logits of classes about -2, boxes
    of some strides, coefficients of masks about 0.

    Args:
        architecture: such as `yolo11n-seg.yaml`.
        classes: names of the classes; an open-vocabulary network gets random embeddings of them.
        end2end: use the head without non-maximum suppression, where there is one.
    """
    from ultralytics.nn import tasks

    known = tasks.SegmentationModel if "-seg" in architecture else tasks.DetectionModel
    if "yoloe" in architecture:
        known = tasks.YOLOESegModel
    elif "world" in architecture:
        known = tasks.WorldModel
    torch.manual_seed(0)
    network = known(tasks.yaml_model_load(architecture) | {"nc": len(classes)}, nc=len(classes), verbose=False)
    network.names = dict(enumerate(classes))
    if isinstance(network, tasks.YOLOEModel):
        network.eval().set_classes(list(classes), nn.functional.normalize(torch.randn(1, len(classes), 512), dim=-1))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean of all that comes
    noise = torch.rand(4, 3, 160, 160)
    with torch.no_grad():
        network.train()(noise)
        network.eval()
        _scale_head(network, noise)
    if end2end:
        network.end2end = True
    return network


def stored(network: Any) -> bytes:
    """The content of a checkpoint of the network, float32."""
    from ultralytics.nn.tasks import guess_model_task

    buffer = io.BytesIO()
    torch.save({"model": network, "train_args": {"task": guess_model_task(network)}}, buffer)
    return buffer.getvalue()


def _scale_head(network: Any, images: Tensor) -> None:
    head = network.model[-1]
    for name, convolution in head.named_modules():
        branch = name.removeprefix("one2one_").partition(".")[0]
        if branch in ("cv2", "cv3", "cv4", "cv5") and type(convolution) is nn.Conv2d and convolution.bias is not None:
            convolution.register_forward_hook(_scaled(branch, head.reg_max))
        elif branch == "cv4" and hasattr(convolution, "logit_scale"):
            convolution.bias.data.fill_(-1)
    network(images)
    for module in head.modules():
        module._forward_hooks.clear()
    if hasattr(head, "one2one_cv2"):
        for name in [name for name in head._modules if name.startswith("one2one_")]:
            head._modules[name].load_state_dict(head._modules[name[8:]].state_dict())
            # The other head is told from this one by what it finds.
            if name == "one2one_cv3":
                for level in head._modules[name]:
                    level[-1].bias.data -= 0.5


def _scaled(branch: str, bins: int) -> Any:
    """A hook that scales a convolution's weights so that its output has a standard deviation and mean of its branch."""

    def scale(convolution: nn.Conv2d, given: Any, output: Tensor) -> None:
        ratio = (1.5 if branch == "cv3" else 0.7) / output.std()
        convolution.weight.data *= ratio
        assert convolution.bias is not None
        convolution.bias.data.fill_(-float(output.mean() - convolution.bias.data.mean()) * float(ratio))
        if branch == "cv2":
            convolution.bias.data += 2.0 if bins == 1 else (-0.5 * torch.arange(bins)).repeat(4)
        elif branch == "cv3":
            convolution.bias.data -= 2.0

    return scale
