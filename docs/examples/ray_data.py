"""Removal of objects in a Ray Data pipeline of one's own: `python docs/examples/ray_data.py FOLDER OUTPUT [key.path=value ...]`.

Reads the images of a folder or bucket, removes people, and writes Parquet files with the columns `path`, `image` (encoded
bytes, null where an image failed), `status` and `error`.
"""

from __future__ import annotations

import sys

import pyarrow as pa
import ray

import inpaint_core


class RemoveObjects:
    """What each actor of the pipeline holds: a remover, whose networks are loaded once."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.remover = inpaint_core.load_remover(settings)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Clean a batch of encoded images; an image that fails does not end the pipeline."""
        paths = batch["path"].to_pylist()
        results = [self.remover(data, key=path) for path, data in zip(paths, batch["bytes"].to_pylist(), strict=True)]
        return pa.table(
            {
                "path": paths,
                "image": pa.array([image for image, _ in results], pa.binary()),
                "status": [record.status for _, record in results],
                "error": pa.array([record.error for _, record in results], pa.string()),
            }
        )


def main(folder: str, output: str, *overrides: str) -> None:
    """Run the pipeline.

    Args:
        folder: folder or URI of images.
        output: folder or URI of the Parquet files.
        overrides: settings of the removal, `key.path=value`.
    """
    settings = {"detector.classes": "person"} if not overrides else dict(text.split("=", 1) for text in overrides)
    images = ray.data.read_binary_files(folder, include_paths=True)
    cleaned = images.map_batches(
        RemoveObjects,
        fn_constructor_args=(settings,),
        batch_size=8,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    cleaned.write_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
