"""Removal of objects from image collections, and training of the networks that fill the holes.

    remover = inpaint_core.load_remover({"detector.classes": ["person"]})
    cleaned, record = remover(data)

`load_remover` and `Remover` are the Python interface (`inpaint_core.removal.api`); the jobs are the program `inpaint`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inpaint_core.removal.api import Remover, load_remover

__all__ = ["Remover", "__version__", "load_remover"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Remover", "load_remover"):
        from inpaint_core.removal import api  # Pillow and more, which most imports of the package can do without

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
