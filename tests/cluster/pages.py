"""What the pages below `cluster/` tell a person to type, and what the jobs' manifests run."""

import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHER = CLUSTER / "aws" / "cluster.yaml"
PAGES = sorted(CLUSTER.rglob("*.md"))
GUIDES = [CLUSTER / folder / "README.md" for folder in ("aws", "kubernetes")]
MANIFESTS = sorted((CLUSTER / "kubernetes").glob("*.yaml"))

_SHELL = (">", "<", "|", "&", ";")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[str]:
    """The shell code of a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of each line of a page that calls a program, from the program to the end or to what the shell takes."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    return [words for line in lines if program in line for words in [_from(line, program)] if words]


def entrypoint(manifest: Path) -> list[str]:
    """The words of the command that a RayJob runs, from `python` on."""
    return _from(load(manifest)["spec"]["entrypoint"], "python")


def _from(line: str, program: str) -> list[str]:
    words = shlex.split(line, comments=True)
    starts = [place for place, word in enumerate(words) if word.removeprefix(".venv/bin/") == program]
    return list(takewhile(lambda word: not word.startswith(_SHELL), words[starts[0] :])) if starts else []
