"""The kinds of holes."""

from __future__ import annotations

from typing import Literal

HoleKind = Literal["center", "box", "strokes", "thin", "medium", "thick", "objects"]
