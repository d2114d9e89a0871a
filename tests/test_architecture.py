"""Rules of the code's shape that no type checker holds."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert found
    return found


def imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported_names(path)}


def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
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


FLOWS = ("removal", "training", "on_ray", "cli")
COMPONENTS = ("detection", "inpainting", "networks", "metrics", "hole_masks")
GROUND = ("images", "storage")


def arrows() -> dict[str, set[str]]:
    """The modules of inpaint_core that each of them imports, in functions and under TYPE_CHECKING too.

    Left out is what `build` of a component's settings imports: the component, which takes those settings.
    """
    paths = {}
    for path in modules("inpaint_core"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        targets = set()
        for node in outside_build(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {target if target in paths else node.module for target in whole}
        found[name] = (targets & paths.keys()) - {name}
    return found


def outside_build(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module, without the bodies of methods named `build`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.FunctionDef) and child.name == "build"):
            yield from outside_build(child)


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
    """How high a module lies; None: one of the loose files, or the root of the package. Command lines are flows."""
    room, *rest = [*name.split(".")[1:], ""]
    if room in FLOWS or "command" in rest:
        return 2
    return 1 if room in COMPONENTS else 0 if room in GROUND else None


def test_a_circle_of_imports_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(arrows()) == []


def test_imports_go_from_flows_to_components_to_images_and_storage() -> None:
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
    imports += ", inpaint_core.training.config, inpaint_core.training.evaluation.config, inpaint_core.hole_masks.config"
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
