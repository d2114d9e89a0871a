"""Where everything that is not an image lies in the output: one reserved folder, `_removal/`.

_removal/job.json              the settings of the job (no credentials)
_removal/runs/RUN.json         the same of each run that had something to do
_removal/manifest.parquet      the last listing of the input
_removal/claims.parquet        what unfinished runs may have written without a record
_removal/lease/holder.json     who is running a job here
_removal/records/*.parquet     one row per image: the result
_removal/journal/RUN/*.parquet records of a run that has not ended yet
_removal/masks/KEY.png         the filled pixels of every cleaned image
_removal/held/KEY              cleaned versions under whose key something else lies, by a rule of `accept` or a decision
_removal/decisions/*.parquet   what reviewers decided; masks/ID.png: what they drew
_removal/dry_run/              the same of a dry run, and overlays/KEY.png: photographs with their masks tinted
_removal/report.html           inpaint report
_removal/tmp/                  files being written (local folders only)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

RESERVED = "_removal"
TEMPORARY_FOLDER = f"{RESERVED}/tmp"

# S3 allows 1,024 bytes for a whole key and file systems 255 for one component; a mask's key is longer than its image's.
_LONGEST_KEY = 800
_LONGEST_COMPONENT = 250


@dataclass(frozen=True)
class Layout:
    """Keys of what one kind of run (real or dry) keeps."""

    root: str

    @classmethod
    def of(cls, *, dry_run: bool) -> Layout:
        """The layout of a real run, or of a dry one."""
        return cls(f"{RESERVED}/dry_run" if dry_run else RESERVED)

    @property
    def job(self) -> str:
        """Key of the settings of the job."""
        return f"{self.root}/job.json"

    @property
    def manifest(self) -> str:
        """Key of the last listing of the input."""
        return f"{self.root}/manifest.parquet"

    def run(self, run_id: str) -> str:
        """Key of the settings of a run."""
        return f"{self.root}/runs/{run_id}.json"

    @property
    def claims(self) -> str:
        """Key of the claims of unfinished runs."""
        return f"{self.root}/claims.parquet"

    @property
    def probe(self) -> str:
        """Key of an object that is written and deleted to see whether that is allowed."""
        return f"{self.root}/probe"

    @property
    def lease(self) -> str:
        """Key of the lease of the job that is running."""
        return f"{self.root}/lease/holder.json"

    @property
    def lease_probe(self) -> str:
        """Key of an object that is written and deleted to read the store's clock."""
        return f"{self.root}/lease/probe"

    @property
    def records(self) -> str:
        """Prefix of the record files."""
        return f"{self.root}/records"

    @property
    def journal(self) -> str:
        """Prefix of the journals of unfinished runs."""
        return f"{self.root}/journal"

    @property
    def masks(self) -> str:
        """Prefix of the masks."""
        return f"{self.root}/masks"

    def mask(self, key: str) -> str:
        """Key of the mask of an image."""
        return f"{self.masks}/{_png(key)}"

    @property
    def held_folder(self) -> str:
        """Prefix of cleaned versions under whose key something else lies."""
        return f"{self.root}/held"

    def held(self, key: str) -> str:
        """Key of the cleaned version of an image under whose key something else lies."""
        fits = len(key.encode()) <= _LONGEST_KEY
        return f"{self.held_folder}/{key if fits else f'_long_keys/{hashlib.sha256(key.encode()).hexdigest()}'}"

    @property
    def decisions(self) -> str:
        """Prefix of the files of decisions, and of the masks below it."""
        return f"{self.root}/decisions"

    def decision_mask(self, mask_id: str) -> str:
        """Key of a mask that a reviewer drew."""
        return f"{self.decisions}/masks/{mask_id}.png"

    def overlay(self, key: str) -> str:
        """Key of the mask overlay of an image."""
        return f"{self.root}/overlays/{_png(key)}"


def is_reserved(key: str) -> bool:
    """Whether a key lies in the reserved folder, so that no image may have it."""
    return key == RESERVED or key.startswith(f"{RESERVED}/")


def _png(key: str) -> str:
    name = f"{key}.png"
    fits = len(name.encode()) <= _LONGEST_KEY and all(
        len(part.encode()) <= _LONGEST_COMPONENT for part in name.split("/")
    )
    return name if fits else f"_long_keys/{hashlib.sha256(key.encode()).hexdigest()}.png"
