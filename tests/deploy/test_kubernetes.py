"""The manifests of deploy/kubernetes: valid for Kubernetes, and in agreement with the program and the image."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from headrace.brokers import LocalBus
from headrace.cli.unknown_settings import unknown_settings
from headrace.dsl.load import load
from headrace.nodes import registry
from headrace.settings import Settings
from headrace.telemetry.scrubbing import Scrubber
from headrace.telemetry.setup import Telemetry
from tests.cli.parsing import parse_command_line
from tests.deploy.image import stages

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OLDEST = "1.30"  # that the README names: preStop hooks that sleep

KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / name).read_text())
]
DEPLOYMENTS = [document for document in MANIFESTS if document["kind"] == "Deployment"]


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in MANIFESTS if document["kind"] == kind}


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
def test_kubernetes_accepts_each_manifest(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_with_a_mistake_is_not_accepted() -> None:
    wrong = yaml.safe_load((FOLDER / "settings.yaml").read_text()) | {"date": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_every_file_of_the_folder_is_used() -> None:
    flows = [Path(name) for generator in KUSTOMIZATION["configMapGenerator"] for name in generator["files"]]
    used = {*map(Path, KUSTOMIZATION["resources"]), *flows, Path("kustomization.yaml"), Path("README.md")}
    assert {path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file()} == used
    for flow in flows:
        assert load((FOLDER / flow).read_text(), registry(), str(flow)).name


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda item: item["metadata"]["name"])
def test_each_pod_runs_the_program_as_the_image_has_it(deployment: dict[str, Any]) -> None:
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] in {image["name"] for image in KUSTOMIZATION["images"]}
    parse_command_line(("headrace", *container["args"]))
    image = stages()[-1]
    assert image.the("USER") == f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
    assert {str(port["containerPort"]) for port in container["ports"]} == {image.the("EXPOSE")}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {image.environment["HEADRACE_DATA"], "/tmp"} <= mounted  # the rest is read-only
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda item: item["metadata"]["name"])
def test_a_pod_has_time_to_drain(deployment: dict[str, Any]) -> None:
    spec = deployment["spec"]["template"]["spec"]
    before = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = float(named("ConfigMap")["headrace"]["data"]["HEADRACE_DRAIN_SECONDS"])
    assert before + drain < spec["terminationGracePeriodSeconds"]


def test_the_settings_are_settings() -> None:
    data: dict[str, str] = named("ConfigMap")["headrace"]["data"]
    secret = re.findall(r"--from-literal=(\w+)=", (FOLDER / "README.md").read_text())
    assert unknown_settings([*data, *secret]) == {}
    Settings.model_validate({name.removeprefix("HEADRACE_").lower(): value for name, value in data.items()})


def test_what_refers_to_another_manifest_finds_it() -> None:
    labels = [cast("dict[str, str]", item["spec"]["template"]["metadata"]["labels"]) for item in DEPLOYMENTS]
    selectors = [item["spec"]["selector"]["matchLabels"] for item in named("PodDisruptionBudget").values()]
    selectors += [item["spec"]["selector"] for item in named("Service").values()]
    assert len(selectors) > len(DEPLOYMENTS)  # the disruption budgets, and the service
    for selector in selectors:
        assert sum(selector.items() <= own.items() for own in labels) == 1
    for scaler in named("HorizontalPodAutoscaler").values():
        assert scaler["spec"]["scaleTargetRef"]["name"] in named("Deployment")


def test_the_autoscalers_take_a_metric_that_every_pod_serves() -> None:
    telemetry = Telemetry(Settings(), {}, Scrubber())
    assert telemetry.metrics is not None
    service: Any = SimpleNamespace(environment=SimpleNamespace(bus=LocalBus()))
    telemetry.observe_service(service)
    gauges = {name for name, _, _ in telemetry.metrics.gauges}
    scaled = [metric for scaler in named("HorizontalPodAutoscaler").values() for metric in scaler["spec"]["metrics"]]
    names = {metric["external"]["metric"]["name"] for metric in scaled if metric["type"] == "External"}
    assert names
    assert names <= gauges
    assert all(name in (FOLDER / "README.md").read_text() for name in names)
