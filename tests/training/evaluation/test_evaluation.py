"""The evaluation from photographs to its table: small networks, real photographs, the whole error path."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, UserError, WeightsError
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.hole_masks.shapes import ObjectShapes
from inpaint_core.images.tensors import from_network, to_network
from inpaint_core.metrics.names import COLUMNS
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.compositing import hide, hole_fill
from inpaint_core.networks.spec import ContextEncoderSpec, UnetSpec
from inpaint_core.networks.weights.generator_file import load_generator, save_generator
from inpaint_core.training.evaluation.config import EvaluateConfig, check_config, checkpoint_files
from inpaint_core.training.evaluation.fills import Fill, NetworkFill, build_fills
from inpaint_core.training.evaluation.job import run_evaluation
from inpaint_core.training.evaluation.results import SCHEMA
from tests.samples import encoded, photograph

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
COUNT = 6


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six photographs of 128x128; the order of the names is not that of a listing by folders."""
    folder = tmp_path_factory.mktemp("photographs")
    names = ("coffee.png", "astronaut.png", "chelsea.png")
    for number in range(COUNT):
        path = folder / f"{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(photograph((128, 128), names[number % 3], number)))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders `center` and `full`, as `jobs/train.py` leaves them, of small networks without training."""
    folder = tmp_path_factory.mktemp("runs")
    for output in ("center", "full"):
        spec = ContextEncoderSpec(output=output, bottleneck=8, width=4)
        network = build_generator(spec, torch.Generator().manual_seed(0))
        (folder / output).mkdir()
        save_generator(folder / output / "best.safetensors", network, spec, {})
    return folder


def configured(*overrides: str) -> EvaluateConfig:
    config = load_config(EvaluateConfig, None, ["threads=2", "device=cpu", *overrides])
    check_config(config)
    return config


def evaluated(*overrides: str) -> tuple[str, list[str]]:
    """The table, and what was said on the way."""
    lines: list[str] = []
    return run_evaluation(configured(*overrides), lines.append), lines


def table_row(text: str, row: str) -> list[str]:
    return next(
        [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith(f"| {row} |")
    )


def test_networks_and_fills_are_judged_on_the_middle_square(photographs: Path, runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    text, lines = evaluated(
        f"data={photographs}", f"checkpoints=[{runs}/center, {runs}/full]", f"output={output}", "batch=4", "pictures=3"
    )
    assert lines == [
        f"evaluating center, full, mean, telea, navier_stokes on 6 photographs of {photographs}, holes=center"
    ]
    assert (output / "table.md").read_text() == text
    assert "hole_size=64" in text
    assert "center: given the outer 4 pixels of the hole" in text
    table = pq.read_table(output / "per_image.parquet")
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert all(field.metadata[b"doc"] for field in table.schema)
    rows = table.to_pylist()
    assert [row["row"] for row in rows[::COUNT]] == ["center", "full", "mean", "telea", "navier_stokes"]
    assert [row["key"] for row in rows[:COUNT]] == ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]
    assert [row["index"] for row in rows[:COUNT]] == list(range(COUNT))
    telea = [row for row in rows if row["row"] == "telea"]
    assert len(rows) == 5 * COUNT
    cells = table_row(text, "telea")
    assert cells[0] == "6"
    for cell, name in zip(cells[1:], COLUMNS[:9], strict=False):
        digits = 3 if name.endswith("psnr") else 4
        assert cell == f"{np.mean([row[name] for row in telea]):.{digits}f}"
    with Image.open(output / "sheet.png") as picture:
        assert picture.width == 7 * 128 + 6 * 2
        assert picture.height > 3 * 128
        sheet = np.asarray(picture)
    # The first line of the sheet is the first photograph, then its hole, below the labels.
    truth = np.asarray(Image.open(photographs / "a/0.png"))
    top = sheet.shape[0] - (3 * 130 - 2)
    np.testing.assert_array_equal(sheet[top : top + 128, :128], truth)
    np.testing.assert_array_equal(
        sheet[top + 32 : top + 96, 130 + 32 : 130 + 96], np.full((64, 64, 3), (117, 104, 123))
    )


def test_irregular_holes_have_a_table_by_area(photographs: Path, runs: Path, tmp_path: Path) -> None:
    text, _ = evaluated(
        f"data={photographs}", f"checkpoints={runs}/full", "holes=medium", f"output={tmp_path}", "pictures=0"
    )
    assert not (tmp_path / "sheet.png").exists()
    rows = pq.read_table(tmp_path / "per_image.parquet").to_pylist()
    masks = evaluation_holes("medium", range(COUNT), seed=0)
    assert [row["hole_fraction"] for row in rows[:COUNT]] == [mask.mean() for mask in masks]
    assert {row["holes"] for row in rows} == {"medium"}
    _, main, by_area, _ = text.split("\n\n")
    assert "SSIM centred" in main
    assert main.splitlines()[0].count("SSIM") == 2
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in by_area.splitlines()[2:]]
    assert [line[2] for line in lines[:4]] == ["full", "mean", "telea", "navier_stokes"]
    assert sum(int(line[1]) for line in lines if line[2] == "full") == COUNT
    low, high = map(int, lines[0][0].split("-"))
    inside = [row for row in rows[:COUNT] if low <= 100 * row["hole_fraction"] < high]
    assert int(lines[0][1]) == len(inside)
    assert lines[0][3] == f"{np.mean([row['hole_l1'] for row in inside]):.4f}"


def tar_of(folder: Path, path: Path) -> None:
    """The photographs of a folder in a tar, last one first."""
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.rglob("*.png"), reverse=True):
            tar.add(file, str(file.relative_to(folder)))


def test_holes_follow_from_the_place_of_a_key_however_images_are_stored(photographs: Path, tmp_path: Path) -> None:
    tar_of(photographs, tmp_path / "set.tar")
    results = {}
    for name, options in {
        "folder": [f"data={photographs}"],
        "tar": [f"data={tmp_path}/set.tar", "batch=2"],
        "limited": [f"data={photographs}", "limit=3"],
        "seeded": [f"data={photographs}", "seed=1"],
    }.items():
        evaluated(*options, "holes=box", "fills=mean", f"output={tmp_path}/{name}")
        rows = pq.read_table(tmp_path / name / "per_image.parquet", columns=["key", "index", *COLUMNS]).to_pylist()
        results[name] = {row["key"]: row for row in rows}
    assert results["tar"] == results["folder"]
    assert list(results["limited"]) == ["a/0.png", "a/4.png", "b/3.png"]
    assert all(results["folder"][key] == row for key, row in results["limited"].items())
    fractions = {name: [row["hole_fraction"] for row in rows.values()] for name, rows in results.items()}
    assert fractions["seeded"] != fractions["folder"]


def test_holes_of_the_shape_of_objects(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disc = cv2.circle(np.zeros((41, 41), np.uint8), (20, 20), 20, 1, -1).astype(bool)
    shapes = ObjectShapes.of([disc])
    monkeypatch.setattr("inpaint_core.training.evaluation.job.load_object_shapes", lambda uri, s3, *, name: shapes)
    evaluated(f"data={photographs}", "holes=objects", "objects=o.parquet", "fills=mean", f"output={tmp_path}/out")
    rows = pq.read_table(tmp_path / "out/per_image.parquet").to_pylist()
    masks = evaluation_holes("objects", range(COUNT), seed=0, objects=shapes)
    assert [row["hole_fraction"] for row in rows] == [mask.mean() for mask in masks]


def test_unreadable_photographs_are_named_and_left_out(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    for number, file in enumerate(sorted(photographs.rglob("*.png"))):
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(file.read_bytes() if number != 1 else file.read_bytes()[:500])
    text, lines = evaluated(f"data={folder}", "fills=[mean, telea]", f"output={tmp_path}/out", "pictures=6")
    assert any(line.startswith("1 of 6 photographs cannot be used and are left out: 1.png: ") for line in lines)
    assert text.startswith("5 photographs of ")
    assert table_row(text, "telea")[0] == "5"
    rows = pq.read_table(tmp_path / "out/per_image.parquet").to_pylist()
    assert [row["index"] for row in rows if row["row"] == "mean"] == [0, 2, 3, 4, 5]


def masks_of(hole_size: int, count: int) -> NDArray[np.bool_]:
    masks = np.zeros((count, 128, 128), dtype=bool)
    begin = (128 - hole_size) // 2
    masks[:, begin : begin + hole_size, begin : begin + hole_size] = True
    return masks


def images_of(folder: Path) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))])


def built(runs: Path, *overrides: str) -> dict[str, Fill]:
    return build_fills(configured("data=unread", f"checkpoints=[{runs}/center, {runs}/full]", *overrides), CPU).by_label


@pytest.mark.parametrize("hole_size", [64, 56])
def test_fills_see_nothing_hidden_and_change_nothing_else(photographs: Path, runs: Path, hole_size: int) -> None:
    images, masks = images_of(photographs), masks_of(hole_size, COUNT)
    # What a `center` network is not shown is the middle 56x56, whatever the hole.
    poisoned = np.where(masks[..., None], 255 - images, images)
    poisoned_middle = np.where(masks_of(56, COUNT)[..., None], 255 - images, images)
    before, masks_before = images.copy(), masks.copy()
    for name, fill in built(runs, f"hole_size={hole_size}").items():
        filled = fill(images, masks)
        assert filled.dtype == np.uint8
        np.testing.assert_array_equal(filled[~masks], images[~masks], err_msg=name)
        assert (filled[masks] != images[masks]).any()
        other = fill(poisoned_middle if name == "center" else poisoned, masks)
        np.testing.assert_array_equal(other[masks], filled[masks], err_msg=name)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(masks, masks_before)


def test_networks_are_run_as_they_were_trained(photographs: Path, runs: Path) -> None:
    images, masks = images_of(photographs), masks_of(64, COUNT)
    fills = built(runs)
    pictures = to_network(images)
    for name, inside in {"center": slice(36, 92), "full": slice(32, 96)}.items():
        network, _ = load_generator((runs / name / "best.safetensors").read_bytes())
        shown = pictures.clone()
        shown[:, :, inside, inside] = hole_fill(shown)
        with torch.no_grad():
            prediction = from_network(network(shown))
        square = prediction if name == "center" else prediction[:, 32:96, 32:96]
        np.testing.assert_array_equal(fills[name](images, masks)[:, 32:96, 32:96], square)
    inner = built(runs, "hole_size=56")["center"](images, masks_of(56, COUNT))
    np.testing.assert_array_equal(inner[:, 36:92, 36:92], fills["center"](images, masks)[:, 36:92, 36:92])


@pytest.mark.shared
def test_fills_without_training_have_the_figures_of_the_published_baseline(shared_dir: Path, tmp_path: Path) -> None:
    """50 of the 10,000 photographs, every figure by NumPy, OpenCV and scikit-image alone."""
    data = shared_dir / "data/miniplaces/val.tar"
    text, _ = evaluated(f"data={data}", "limit=50", f"output={tmp_path}", "pictures=0")
    with tarfile.open(data) as tar:
        members = sorted((member for member in tar if member.isfile()), key=lambda member: member.name)
        files = [tar.extractfile(member) for member in members[::200]]
        images = [np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")) for file in files if file]
    assert len(images) == 50
    mask = np.zeros((128, 128), np.uint8)
    mask[32:96, 32:96] = 1
    for row in ("mean", "telea", "navier_stokes"):
        figures = []
        for image in images:
            filled = image.copy()
            if row == "mean":
                filled[32:96, 32:96] = image[mask == 0].mean(axis=0).astype(np.uint8)
            else:
                method = cv2.INPAINT_TELEA if row == "telea" else cv2.INPAINT_NS
                filled = np.asarray(cv2.inpaint(image, mask, 3, method))
            figures.append(table_figures(image, filled))
        expected = np.mean(figures, axis=0)
        rounding = np.array([0.51 * 10**-digits for digits in (4, 4, 3, 4, 4, 4, 3, 4)])
        got = np.array([float(cell) for cell in table_row(text, row)[1:9]])
        assert (np.abs(got - expected) <= rounding).all(), (row, got, expected)


def table_figures(image: NDArray[np.uint8], filled: NDArray[np.uint8]) -> list[float]:
    """L1, L2, PSNR, SSIM of protocol `table`, then of `hole`."""
    figures: list[float] = []
    x, y = image / 127.5 - 1, filled / 127.5 - 1
    middle = (slice(32, 96), slice(32, 96))
    for a, b, scale in ((x, y, 1.0), (x[middle], y[middle], 0.5)):
        l1, l2 = np.abs(scale * (a - b)).mean(), ((scale * (a - b)) ** 2).mean()
        ssim = structural_similarity(  # type: ignore[no-untyped-call]
            a, b, data_range=2.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        figures += [l1, l2, -10 * np.log10(max(l2, 1e-12)), ssim]
    return figures


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hole_size=56", "holes=thin"], "hole_size: applies to holes=center only, not to holes=thin; leave it out"),
        (["hole_size=57"], "hole_size: input should be a multiple of 2"),
        (["holes=objects"], "objects: holes=objects needs a file of shapes; make one with"),
        (["names=[a, b]"], "names: 2 labels for 0 checkpoints; give one for each"),
        (
            ["checkpoints=[x/best.safetensors, y/x]"],
            "names: two rows would have the label 'x'; give each checkpoint its own label",
        ),
        (["checkpoints=[x]", "names=[mean]"], "names: two rows would have the label 'mean'"),
        (["checkpoints=[x]", "names=[' ']"], "names: ' ' is not a valid label"),
        (["fills=[]"], "checkpoints: nothing to evaluate; give checkpoints or fills"),
        (["fills=[median]"], "fills.0: input should be 'mean', 'telea', 'navier_stokes' or 'push_pull', not 'median'"),
        (["seed=9223372036854775808"], "seed: input should be less than 9223372036854775808"),
        (["holes=round"], "holes: input should be 'center', 'box'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configured("data=photographs", *overrides)
    assert str(raised.value).startswith(message)


def test_labels_and_files_of_checkpoints() -> None:
    uris = "[runs/base/, s3://b/runs/joint/best.safetensors, runs/base/last.safetensors, w.safetensors]"
    config = configured("data=photographs", f"checkpoints={uris}")
    assert checkpoint_files(config) == [
        ("base", "runs/base/best.safetensors"),
        ("joint", "s3://b/runs/joint/best.safetensors"),
        ("base/last", "runs/base/last.safetensors"),
        ("w", "w.safetensors"),
    ]


def test_wrong_checkpoints_stop_before_anything_is_written(photographs: Path, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    missing, foreign = f"{tmp_path}/nowhere", f"{tmp_path}/text.safetensors"
    for overrides, error, message in (
        ([f"checkpoints={missing}"], WeightsError, f"checkpoints: there is no file {missing}/best.safetensors"),
        (
            [f"checkpoints={foreign}"],
            WeightsError,
            f"checkpoints: {foreign}: The weights are not a complete safetensors",
        ),
        (
            [f"checkpoints={runs}/center", "holes=thin"],
            WeightsError,
            f"checkpoints: {runs}/center/best.safetensors fills the central square only, not holes=thin",
        ),
        (["holes=objects", f"objects={tmp_path}/o.parquet"], ConfigError, "objects: there is no file"),
        ([f"data={tmp_path}"], ConfigError, "data: no photographs under"),
    ):
        with pytest.raises(error) as raised:
            evaluated(f"data={photographs}", *overrides, f"output={tmp_path}/out")
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nan, r"wrong\.safetensors: The checkpoint holds values in encoder\.0\.weight that are not finite"),
        (3e38, r"wrong\.safetensors predicts values that are not finite"),
    ],
)
def test_a_network_that_went_wrong_is_named(value: float, message: str, photographs: Path, tmp_path: Path) -> None:
    spec = ContextEncoderSpec(output="full", bottleneck=8, width=4)
    network = build_generator(spec, torch.Generator().manual_seed(0))
    torch.nn.init.constant_(next(network.parameters()), value)
    save_generator(tmp_path / "wrong.safetensors", network, spec, {})
    with pytest.raises(WeightsError, match=message):
        evaluated(f"data={photographs}", f"checkpoints={tmp_path}/wrong.safetensors", f"output={tmp_path}/out")
    assert not (tmp_path / "out/table.md").exists()


def test_a_unet_is_told_the_holes() -> None:
    network = build_generator(UnetSpec(width=4), torch.Generator().manual_seed(0)).eval()
    images = np.stack([photograph((128, 128), "chelsea.png", seed=seed) for seed in range(2)])
    masks = evaluation_holes("medium", [0, 1], seed=0, objects=None)
    holes = torch.from_numpy(masks)[:, None]
    with torch.no_grad():
        predicted = from_network(network(hide(to_network(images), holes), holes))
    filled = NetworkFill(network, torch.device("cpu"), "unet", UnetSpec(width=4))(images, masks)
    np.testing.assert_array_equal(filled, np.where(masks[..., None], predicted, images))


def test_exact_fills_are_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, image in {
        "black": np.zeros((128, 128, 3), np.uint8),
        "cat": photograph((128, 128), "chelsea.png"),
    }.items():
        (tmp_path / f"data/{name}.png").write_bytes(encoded(image))
    text, _ = evaluated(f"data={tmp_path}/data", "fills=[mean, telea]", f"output={tmp_path}/out")
    assert "Fills that equal their photograph (each counts as 120 dB in the mean PSNR): mean 1, telea 1." in text
    rows = pq.read_table(tmp_path / "out/per_image.parquet").to_pylist()
    assert [row["table_psnr"] for row in rows if row["key"] == "black.png"] == [np.inf, np.inf]


def test_nothing_readable_is_an_error_and_takes_an_old_table_away(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jpg").write_bytes(b"no photograph")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/table.md").write_text("old")
    with pytest.raises(ConfigError, match=r"^data: 1 of 1 photographs cannot be used .* a\.jpg: .*nothing is left"):
        evaluated(f"data={tmp_path}/data", f"output={tmp_path}/out")
    assert not (tmp_path / "out/table.md").exists()


def test_an_output_that_cannot_be_written_shows_before_the_work(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        evaluated(f"data={photographs}", f"output={tmp_path}/file/out")


def test_the_number_of_torch_threads_is_put_back(photographs: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    evaluated(f"data={photographs}", "fills=mean", "limit=1", f"output={tmp_path}")
    assert torch.get_num_threads() == before


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/evaluate.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_job_prints_its_table(photographs: Path, runs: Path, tmp_path: Path) -> None:
    run = run_job(f"data={photographs}", f"checkpoints={runs}/full", f"output={tmp_path}", "limit=2", "device=cpu")
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("\n" + (tmp_path / "table.md").read_text())
    assert (tmp_path / "evaluate.yaml").exists()


def test_the_job_refuses_with_one_line_and_loads_nothing_heavy_for_it() -> None:
    run = run_job("--print-config", "data=photographs", "holes=box")
    assert (run.returncode, run.stderr) == (0, "")
    assert "holes: box" in run.stdout
    run = run_job("data=photographs", "fills=[]")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: checkpoints: nothing to evaluate; give checkpoints or fills\n"
    code = "import sys, inpaint_core.training.evaluation.config; print({'torch', 'cv2', 'ray'} & set(sys.modules))"
    light = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert light.stdout == "set()\n"


def test_the_shipped_config_has_every_key() -> None:
    shipped = load_config(EvaluateConfig, ROOT / "configs/evaluate.yaml", [])
    assert shipped == EvaluateConfig(data=shipped.data)
    text = (ROOT / "configs/evaluate.yaml").read_text()
    assert all(f"\n{name}:" in text for name in EvaluateConfig.__dataclass_fields__)


def sized(folder: Path, size: int, *, unet: bool) -> Path:
    """A network without training; the file is named by its size."""
    spec = UnetSpec(size=size, width=2) if unet else ContextEncoderSpec(size=size, bottleneck=8, width=2)
    path = folder / f"{'unet' if unet else 'center'}{size}.safetensors"
    save_generator(path, build_generator(spec, torch.Generator().manual_seed(0)), spec, {})
    return path


def test_a_larger_network_is_judged_at_its_size(photographs: Path, tmp_path: Path) -> None:
    path = sized(tmp_path, 256, unet=False)
    options = ["fills=mean", "limit=2", "pictures=1", f"output={tmp_path}/out"]
    text, lines = evaluated(f"data={photographs}", f"checkpoints={path}", "names=large", *options)
    assert "2 photographs have fewer than 256 pixels on a side and were enlarged" in lines
    assert text.splitlines()[0].endswith("; 256x256 pixels, holes=center, hole_size=64.")
    assert "large: given the outer 8 pixels of the hole" in text
    with Image.open(tmp_path / "out/sheet.png") as picture:
        assert picture.width == 4 * 256 + 3 * 2
    rows = pq.read_table(tmp_path / "out/per_image.parquet").to_pylist()
    assert {row["hole_fraction"] for row in rows} == {0.25}
    text, _ = evaluated(f"data={photographs}", f"checkpoints={path}", "names=large", "hole_size=56", *options)
    assert "given the outer" not in text
    rows = pq.read_table(tmp_path / "out/per_image.parquet").to_pylist()
    assert {row["hole_fraction"] for row in rows} == {0.25 * (56 / 64) ** 2}


def test_networks_of_several_sizes_share_one_that_all_fill(photographs: Path, tmp_path: Path) -> None:
    small, large = sized(tmp_path, 128, unet=True), sized(tmp_path, 256, unet=True)
    center = sized(tmp_path, 128, unet=False)
    options = [f"data={photographs}", "fills=mean", "limit=1", "pictures=0", f"output={tmp_path}/out"]
    both = f"checkpoints=[{small}, {large}]"
    with pytest.raises(WeightsError, match=r"different sizes \(.*unet128: 128, .*unet256: 256\); set size"):
        evaluated(both, *options)
    text, _ = evaluated(both, "names=[a, b]", "size=256", *options)
    assert table_row(text, "a") == table_row(text, "b")  # the same weights
    with pytest.raises(WeightsError, match=r"center128\.safetensors fills images of 128 pixels only, not size=256"):
        evaluated(f"checkpoints={center}", "size=256", *options)
