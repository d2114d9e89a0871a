"""The holes that networks are trained and judged on: boxes, strokes, and the shapes of real objects.

`HoleSampler` gives random holes for training, `evaluation_holes` the fixed holes of an evaluation set. Shapes of real
objects come from a Parquet file that `python -m inpaint_core.holes` makes of any photographs.
"""

from inpaint_core.holes.sampler import HoleSampler, evaluation_holes
from inpaint_core.holes.shape_file import load_object_shapes
from inpaint_core.holes.shapes import ObjectShapes

__all__ = ["HoleSampler", "ObjectShapes", "evaluation_holes", "load_object_shapes"]
