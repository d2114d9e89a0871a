"""The files below `cluster/`, as Ray itself reads them: its launcher's validator, and the options of its commands."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli, start

from tests.cluster.pages import CLUSTER, GUIDES, LAUNCHER, MANIFESTS, PAGES, commands, load

OPTIONS = {option for parameter in start.params for option in parameter.opts}


def launched() -> Any:
    """The launcher's file with Ray's defaults, as `ray up` takes it."""
    config = prepare_config(load(LAUNCHER))
    validate_config(config)
    return config


def start_commands(config: Any) -> list[str]:
    found = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    return [command for command in found if "ray start" in command]


def test_the_launcher_takes_its_file() -> None:
    config = launched()
    head = config["head_node_type"]
    workers = {name: kind for name, kind in config["available_node_types"].items() if name != head}
    assert config["available_node_types"][head]["max_workers"] == 0
    assert config["available_node_types"][head]["resources"] == {"CPU": 0}
    assert [(kind["min_workers"], kind["max_workers"]) for kind in workers.values()] == [(0, config["max_workers"])]
    assert not config["docker"]


def test_the_token_reaches_all_nodes() -> None:
    config = launched()
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert len(start_commands(config)) == 2
    assert all("RAY_AUTH_MODE=token ray start " in command for command in start_commands(config))
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


def test_options_of_ray_start() -> None:
    used = [option for command in start_commands(launched()) for option in re.findall(r" (--[a-z-]+)", command)]
    for manifest in MANIFESTS:
        spec = load(manifest)["spec"]
        cluster = spec.get("rayClusterSpec", spec)
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            used += [f"--{parameter}" for parameter in group["rayStartParams"]]
    assert {"--head", "--address", "--num-cpus", "--object-store-memory"} <= set(used)
    assert set(used) <= OPTIONS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CLUSTER)))
def test_ray_commands_of_the_pages_are_understood(page: Path) -> None:
    found = commands(page, "ray")
    for words in found:
        command: click.Command = cli
        arguments = words[1:]
        while isinstance(command, click.Group):
            _, command, arguments = command.resolve_command(click.Context(command), arguments)
        command.make_context(command.name, arguments)  # reads the options, and runs nothing
    if page in GUIDES:
        assert {"submit", "list", "logs"} <= {words[2] for words in found if words[1] == "job"}
    for words in found:
        assert all((CLUSTER.parent / word).is_file() for word in words if word.startswith("cluster/"))
