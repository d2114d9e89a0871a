"""The program `inpaint`: its commands, `--version`, `--help`, exit codes; from a checkout that is not installed, too."""

import resource
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import inpaint_core
from inpaint_core.cli import COMMANDS, check_extra, main, program
from inpaint_core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"remove", "report", "review", "train", "tune", "evaluate", "shapes", "export", "detector"}
HEAVY = ("torch", "ray", "ultralytics", "optuna", "matplotlib", "tensorboard")


def test_the_commands() -> None:
    assert set(COMMANDS) == NAMES


def test_the_console_script_is_this_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"inpaint": f"{program.__module__}:{program.__name__}"}


def test_one_version_number(capsys: pytest.CaptureFixture[str]) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in pyproject["project"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "inpaint_core.__version__"}
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"inpaint {inpaint_core.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_help_of_a_command_is_quick_and_loads_nothing_heavy(name: str) -> None:
    code = (
        "import sys\nfrom inpaint_core.cli import main\ntry:\n    main(sys.argv[1:])\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, "-c", code, name, "--help"], capture_output=True, text=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (run.returncode, run.stderr) == (0, "[]\n")
    assert run.stdout.startswith(f"usage: inpaint {name} ")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.5  # seconds of CPU time


@pytest.mark.parametrize(("used", "after"), [(False, ["finalised"]), (True, ["shut down"])])
def test_a_process_that_used_ray_ends_with_its_code_and_without_finalisation(used: bool, after: list[str]) -> None:
    code = (
        "import atexit, sys, types\nfrom inpaint_core.cli import program\natexit.register(lambda: print('finalised'))\n"
        f"if {used}:\n    sys.modules['ray'] = types.SimpleNamespace(shutdown=lambda: print('shut down'))\n"
        "program()"
    )
    command = [sys.executable, "-c", code, "shapes", "nonsense"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (run.returncode, run.stdout.splitlines()) == (2, after)
    assert run.stderr.startswith("error: 'nonsense' is not of the form key.path=value")


@pytest.mark.parametrize("name", ["remove", "train", "tune", "evaluate", "shapes", "detector"])
def test_a_wrong_key_ends_with_2_and_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "nonsense=1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.removeprefix("error: ").startswith("nonsense: no such key; ") for line in lines)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--nonsense"]])
def test_what_is_no_command_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)
    assert "COMMAND" in capsys.readouterr().err


def test_a_missing_extra_is_one_line() -> None:
    check_extra("train", "json")
    with pytest.raises(UserError, match=r"^no_such_library: not installed; run: pip install 'inpaint-core\[train\]'$"):
        check_extra("train", "json", "no_such_library")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of jobs and package, without weights, that says that it is the one that was imported."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("jobs", "inpaint_core"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pt", "*.safetensors")
        )
    with (folder / "inpaint_core" / "__init__.py").open("a") as file:
        file.write("\nprint('the copy')\n")
    return folder


@pytest.mark.parametrize("script", ["remove_objects", "train", "tune_losses", "evaluate"])
def test_a_job_script_runs_the_package_of_its_checkout(script: str, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_text("nonsense: 1\n")
    (tmp_path / "inpaint_core").mkdir()  # not what is meant, though it lies in the working directory
    run = subprocess.run(
        [sys.executable, str(checkout / "jobs" / f"{script}.py"), "--config", "given.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (run.returncode, run.stdout) == (2, "the copy\n"), run.stderr
    assert "nonsense: no such key" in run.stderr  # the relative path is the user's
