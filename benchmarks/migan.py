"""MI-GAN as its authors publish it (`migan_pipeline_v2.onnx`, see docs/remove.md), for the benchmarks that compare with it."""

from inpaint_core.inpainting.external_config import OnnxConfig

MIGAN = OnnxConfig(value_range="0..255", mask_range="255..0", masked_pixels="smooth")
