"""Rules of the code's shape that no type checker holds."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from inpaint_core.images.media_types import IMAGE_TYPES

ROOT = Path(__file__).resolve().parents[1]


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert found
    return found


def imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported_names(path)}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_ray_is_imported_only_in_on_ray() -> None:
    outside = [path for path in modules("inpaint_core", "jobs") if "on_ray" not in path.parts]
    assert [path for path in outside if "ray" in imported(path)] == []


def test_tests_without_ray_do_not_import_it() -> None:
    """Neither themselves nor through what is in a folder `on_ray`: that is the tier of tests/on_ray."""
    outside = [path for path in modules("tests") if "on_ray" not in path.parts]
    assert [path for path in outside if "ray" in imported(path)] == []
    assert [path for path in outside if any("on_ray" in name.split(".") for name in imported_names(path))] == []


def test_ultralytics_is_imported_only_by_its_detector() -> None:
    inside = ROOT / "inpaint_core" / "detection" / "checkpoints.py"
    assert [path for path in modules("inpaint_core", "jobs") if "ultralytics" in imported(path)] == [inside]


LAYERS = (
    ("images", "storage"),
    ("detection", "inpainting", "networks", "metrics", "hole_masks"),
    ("removal", "training", "cli"),
    ("on_ray",),
)
"""Of docs/architecture.md, from the lowest: none imports one above it."""


@functools.cache
def arrows() -> dict[str, set[str]]:
    """The modules of inpaint_core that each of them imports, in functions and under TYPE_CHECKING too.

    Left out is what `build` of a component's settings imports of that component, which takes those settings.
    """
    paths = {}
    for path in modules("inpaint_core"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        tree = parsed(path)
        component = ".".join(name.split(".")[:2])
        targets = set()
        for node in outside_build(tree, component) if name.endswith("config") else ast.walk(tree):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {target if target in paths else node.module for target in whole}
        found[name] = (targets & paths.keys()) - {name}
    formats = {f"inpaint_core.images.formats.{name.lower()}" for name in IMAGE_TYPES}
    assert formats <= paths.keys()
    found["inpaint_core.images.formats.all"] |= formats  # imported by name
    return found


def outside_build(node: ast.AST, component: str, *, in_build: bool = False) -> Iterator[ast.AST]:
    """The nodes of a module, without what methods named `build` import of their component."""
    if in_build and isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{component}."):
        return
    yield node
    in_build |= isinstance(node, ast.FunctionDef) and node.name == "build"
    for child in ast.iter_child_nodes(node):
        yield from outside_build(child, component, in_build=in_build)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; empty where there is no such circle."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name not in done:
            for target in sorted(graph[name]):
                if found := visit(target, [*way, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def layer(name: str) -> int | None:
    """How high a module lies; None: one of the loose files, or the root of the package."""
    room = [*name.split("."), ""][1]
    return next((height for height, rooms in enumerate(LAYERS) if room in rooms), None)


def test_a_circle_of_imports_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_only_settings_import_their_component_in_build() -> None:
    source = "class Settings:\n def build(self):\n  from a.detection.net import Net\n  from a.training.step import Step"
    found = [
        node.module for node in outside_build(ast.parse(source), "a.detection") if isinstance(node, ast.ImportFrom)
    ]
    assert found == ["a.training.step"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(arrows()) == []


def test_imports_go_from_ray_to_flows_to_components_to_images_and_storage() -> None:
    upwards = [
        f"{name} -> {target}"
        for name, targets in arrows().items()
        for target in sorted(targets)
        if (below := layer(name)) is not None and (above := layer(target)) is not None and above > below
    ]
    assert upwards == []


def test_loose_files_stand_below_all_rooms_but_the_command_line() -> None:
    doors = {"inpaint_core", "inpaint_core.__main__"}  # of the Python interface and of the command line
    loose = {name: targets for name, targets in arrows().items() if layer(name) is None and name not in doors}
    assert {"inpaint_core.errors", "inpaint_core.config", "inpaint_core.prefetch"} <= loose.keys()
    assert {name: targets for name, targets in loose.items() if any(layer(t) is not None for t in targets)} == {}


def test_help_and_config_errors_need_no_heavy_import() -> None:
    imports = "inpaint_core.config, inpaint_core.removal.config, inpaint_core.removal.summary"
    imports += ", inpaint_core.training.config, inpaint_core.training.evaluation.config, inpaint_core.training.object_shapes.config"
    assert loaded_by(imports, "torch", "ray", "ultralytics", "cv2", "onnxruntime", "urllib.request") == []


def test_the_driver_of_the_removal_job_loads_no_model_library() -> None:
    assert loaded_by("inpaint_core.on_ray.removal", "ray", "torch", "ultralytics", "cv2", "onnxruntime") == ["ray"]


def test_what_is_wrong_with_a_training_run_is_told_before_torch_is_loaded() -> None:
    assert loaded_by("inpaint_core.on_ray.training, inpaint_core.on_ray.sweep", "ray", "torch", "scipy") == ["ray"]


def test_actors_beside_the_driver_load_nothing_besides_their_module() -> None:
    actors = ("attempts", "block_progress", "mailbox", "trial_registry")
    heavy = ("ray", "pyarrow", "pydantic", "numpy", "torch")
    assert loaded_by(", ".join(f"inpaint_core.on_ray.{name}" for name in actors), *heavy) == []


def test_scipy_is_loaded_where_it_is_used() -> None:
    assert loaded_by("inpaint_core.removal.worker, inpaint_core.training.loop", "torch", "scipy") == ["torch"]


def loaded_by(imports: str, *names: str) -> list[str]:
    """Those of `names` that a fresh Python has loaded after some imports."""
    code = f"import sys, json; import {imports}; print(json.dumps([name for name in {names} if name in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    loaded: list[str] = json.loads(run.stdout)
    return loaded


def test_job_scripts_only_start_a_command() -> None:
    scripts = [path for path in modules("jobs") if path.name != "_checkout.py"]
    assert {path.name for path in scripts} == {"evaluate.py", "remove_objects.py", "train.py", "tune_losses.py"}
    for path in scripts:
        doc, imports, start = ast.parse(path.read_text()).body
        assert isinstance(doc, ast.Expr)
        assert ast.unparse(imports) == "from _checkout import start"
        assert re.fullmatch(r"start\('(evaluate|remove|train|tune)'\)", ast.unparse(start))
