"""Which objects of the input are images to process, and what becomes of the others: counted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

from wcmatch import glob

from inpaint_core.images.media_types import IMAGE_TYPES, install_hint, installed
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.layout import is_reserved

_GLOB_FLAGS = glob.GLOBSTAR | glob.DOTGLOB | glob.BRACE | glob.FORCEUNIX
_EVERYTHING_BELOW = "/**"
_KINDS_NAMED = 8
_FOLDERS_NAMED = 3
_LONGEST_EXTENSION = 12

# What people take for photographs and this job cannot read.
_NOT_SUPPORTED = {
    "RAW": ("dng", "cr2", "cr3", "nef", "nrw", "arw", "sr2", "srw", "orf", "rw2", "raf", "pef", "3fr", "iiq", "x3f"),
    "JPEG XL": ("jxl",),
    "JPEG 2000": ("jp2", "j2k", "jpf", "jpx"),
    "PSD": ("psd", "psb"),
    "SVG": ("svg",),
}
_FORMAT_OF = {extension: name for name, extensions in _NOT_SUPPORTED.items() for extension in extensions}


@dataclass
class LeftOut:
    """What of the input is not processed: number of objects by kind, and the folders that cannot be listed."""

    kinds: Counter[str] = field(default_factory=Counter)
    folders: dict[str, str] = field(default_factory=dict)
    """Folder to reason."""

    @property
    def objects(self) -> int:
        """Number of objects."""
        return self.kinds.total()

    def lines(self) -> list[str]:
        """Lines that name the kinds, the most frequent first, and the folders; none where there is nothing to tell."""
        lines = []
        if self.kinds:
            named = [f"{count:,} {kind}" for kind, count in self.kinds.most_common(_KINDS_NAMED)]
            if more := len(self.kinds) - _KINDS_NAMED:
                rest = sum(count for _, count in self.kinds.most_common()[_KINDS_NAMED:])
                named += [f"{rest:,} of {more:,} other kinds"] if more > 0 else []
            lines.append(f"left out: {', '.join(named)}")
        if self.folders:
            named = [f"{folder} ({reason})" for folder, reason in list(self.folders.items())[:_FOLDERS_NAMED]]
            more = len(self.folders) - len(named)
            lines.append(
                f"warning: {len(self.folders):,} folder{'s' * (len(self.folders) > 1)} cannot be listed, so that the "
                f"images inside are left out: {', '.join(named)}{f' and {more:,} more' if more else ''}; "
                "change the permissions, or name them in listing.exclude"
            )
        return lines


class Selection:
    """The settings of a listing, ready to judge keys.

    Args:
        options: the settings.
        output: prefix of the output's keys in the input; None: the output lies elsewhere.
    """

    def __init__(self, options: ListingConfig, output: str | None) -> None:
        self._not_installed = {
            extension: f".{extension} (not read; {install_hint(entry.name)})"
            for entry in IMAGE_TYPES.values()
            if not installed(entry.name)
            for extension in entry.extensions
        }
        extensions = {extension.lower().lstrip(".") for extension in options.extensions}
        self._extensions = extensions - self._not_installed.keys()
        self._without_extension = options.without_extension
        self._include, self._exclude = _matcher(options.include), _matcher(options.exclude)
        exclude = options.exclude or ""
        whole = exclude.endswith(_EVERYTHING_BELOW)
        self._excluded_folder = _matcher(exclude.removesuffix(_EVERYTHING_BELOW) if whole else None)
        self._output = output
        ignored = tuple(pattern.lower() for pattern in options.ignore)
        self._is_ignored = lru_cache(maxsize=4096)(
            lambda name: any(fnmatchcase(name.lower(), pattern) for pattern in ignored)
        )

    def why_not(self, key: str) -> str | None:
        """Kind of the objects that are left out to which a key belongs; None: it is an image to process."""
        path = key.removeprefix("./")  # of file names that are not valid UTF-8 (see `LocalStorage.list`)
        *folders, name = path.split("/")
        if is_reserved(key) or (self._output is not None and key.startswith(self._output)):
            return "in the output"
        if any(map(self._is_ignored, folders)) or self._is_ignored(name):
            return "in listing.ignore (system files)"
        stem, dot, ending = name.rpartition(".")
        ending = ending.lower()
        extension = ending if dot and (stem or ending in self._extensions) else ""
        if extension not in self._extensions and (extension or not self._without_extension):
            return self._not_installed.get(extension) or _kind_of(extension)
        if self._include is not None and not self._include(path):
            return "not in listing.include"
        if self._exclude is not None and self._exclude(path):
            return "in listing.exclude"
        return None

    def skips_folder(self, folder: str) -> bool:
        """Whether no key below a folder (without `/` at its end) can be an image to process, so that it need not be listed."""
        path = folder.removeprefix("./")
        return (
            is_reserved(f"{folder}/")
            or (self._output is not None and f"{folder}/".startswith(self._output))
            or self._is_ignored(path.rpartition("/")[2])
            or (self._excluded_folder is not None and self._excluded_folder(path))
        )


def _kind_of(extension: str) -> str:
    if not extension.isalnum() or len(extension) > _LONGEST_EXTENSION:
        return "without a file name extension"
    return f".{extension}" + (f" ({_FORMAT_OF[extension]} is not supported)" if extension in _FORMAT_OF else "")


def _matcher(pattern: str | None) -> Callable[[str], bool] | None:
    if pattern is None:
        return None
    compiled = glob.compile(pattern, flags=_GLOB_FLAGS, limit=0)
    return lambda key: bool(compiled.match(key))
