"""Holes for training and evaluation: boxes, strokes, and the shapes of real objects.

`sampler.HoleSampler` gives random holes for training, `sampler.evaluation_holes` the fixed holes of an evaluation set.
Shapes of real objects (`shapes.ObjectShapes`) come from a Parquet file that `inpaint shapes` makes of any
photographs (`shape_file`). Nothing is imported here: configs are read without OpenCV.
"""
