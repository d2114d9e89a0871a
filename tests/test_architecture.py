"""Rules of the code's shape that no type checker holds."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert found
    return found


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def test_ray_is_imported_only_in_on_ray() -> None:
    outside = [path for path in modules("inpaint_core", "jobs") if "on_ray" not in path.parts]
    assert [path for path in outside if "ray" in imported(path)] == []


def test_ultralytics_is_imported_only_by_its_detector() -> None:
    inside = ROOT / "inpaint_core" / "detection" / "checkpoints.py"
    assert [path for path in modules("inpaint_core", "jobs") if "ultralytics" in imported(path)] == [inside]


def test_help_and_config_errors_need_no_heavy_import() -> None:
    imports = "inpaint_core.config, inpaint_core.removal.config, inpaint_core.removal.summary"
    imports += ", inpaint_core.training.config, inpaint_core.training.evaluation.config, inpaint_core.hole_masks.config"
    assert loaded_by(imports, "torch", "ray", "ultralytics", "cv2") == []


def test_the_driver_of_the_removal_job_loads_no_model_library() -> None:
    assert loaded_by("inpaint_core.on_ray.removal", "ray", "torch", "ultralytics", "cv2") == ["ray"]


def test_what_is_wrong_with_a_training_run_is_told_before_torch_is_loaded() -> None:
    assert loaded_by("inpaint_core.on_ray.training, inpaint_core.on_ray.sweep", "ray", "torch", "scipy") == ["ray"]


def test_scipy_is_loaded_where_it_is_used() -> None:
    assert loaded_by("inpaint_core.removal.worker, inpaint_core.training.loop", "torch", "scipy") == ["torch"]


def loaded_by(imports: str, *names: str) -> list[str]:
    """Those of `names` that a fresh Python has loaded after some imports."""
    code = f"import sys, json; import {imports}; print(json.dumps([name for name in {names} if name in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    loaded: list[str] = json.loads(run.stdout)
    return loaded


def test_job_scripts_are_short() -> None:
    assert {
        path.name: len(path.read_text().splitlines())
        for path in modules("jobs")
        if len(path.read_text().splitlines()) > 55
    } == {}
