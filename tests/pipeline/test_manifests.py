"""The manifests build, fit Kubernetes' own schemas, and keep the pod security standard "restricted" field by field."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.deployment import HUB_KEYS, S3_KEYS, Deployment

OVERLAYS = ("local", "production")
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""Kinds of volumes that the standard allows."""

needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


@functools.cache
def _text(folder: Path) -> str:
    return subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout


def _build(repository: Path, overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(_text(repository / "manifests" / "overlays" / overlay)))


def _one(resources: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in resources if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def _pods(resources: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The pod template of every resource that has one."""
    for resource in resources:
        if resource["kind"] == "Pod":
            yield resource["spec"]
        elif "template" in resource.get("spec", {}):
            yield resource["spec"]["template"]["spec"]


def breaches(pod: dict[str, Any]) -> list[str]:
    """What in a pod the standard "restricted" forbids, after https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    of_pod = pod.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    found += [f"volume {one['name']}" for one in pod.get("volumes", []) if not VOLUMES & set(one)]
    found += ["sysctls"] if of_pod.get("sysctls") else []
    for container in [*pod["containers"], *pod.get("initContainers", []), *pod.get("ephemeralContainers", [])]:
        own = container.get("securityContext", {})
        merged = {**of_pod, **own}
        checks = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities.drop": own.get("capabilities", {}).get("drop") == ["ALL"],
            "capabilities.add": set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": merged.get("runAsNonRoot") is True,
            "runAsUser": merged.get("runAsUser") != 0,
            "seccompProfile": merged.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": own.get("procMount", "Default") == "Default",
            "appArmorProfile": merged.get("appArmorProfile", {}).get("type") != "Unconfined",
            "seLinuxOptions": not {"user", "role"} & set(merged.get("seLinuxOptions", {})),
            "windowsOptions": not merged.get("windowsOptions", {}).get("hostProcess"),
            "hostPort": not [port for port in container.get("ports", []) if port.get("hostPort")],
            "host of a probe": not [
                probe for name, probe in container.items() if name.endswith("Probe") and "host" in str(probe)
            ],
        }
        found += [f"{container['name']}: {name}" for name, holds in checks.items() if not holds]
    return found


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_build_in_one_namespace_and_hold_no_secret(repository: Path, overlay: str) -> None:
    resources = _build(repository, overlay)
    kinds = {resource["kind"] for resource in resources}
    expected = {"Namespace", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "LimitRange", "ConfigMap"}
    assert expected <= kinds
    assert "Secret" not in kinds
    namespace = _one(resources, "Namespace", "wan-r1")
    for mode in ("enforce", "audit", "warn"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
    for resource in resources:
        assert resource["kind"] == "Namespace" or resource["metadata"]["namespace"] == "wan-r1"


@needs_kubectl
@pytest.mark.parametrize("overlay", [*OVERLAYS, "standalone"])
def test_resources_fit_the_schemas_of_kubernetes(repository: Path, overlay: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    version = validate.latest_version()
    for resource in _build(repository, overlay):
        validate.validate(resource, version, strict=True)
    wrong = _one(_build(repository, overlay), "ServiceAccount", "wan-r1-stage")
    wrong["secret"] = []
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, version, strict=True)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_restricted_and_the_store_takes_its_keys_from_a_secret(repository: Path, overlay: str) -> None:
    pods = list(_pods(_build(repository, overlay)))
    assert len(pods) == (1 if overlay == "local" else 0)
    for pod in pods:
        assert breaches(pod) == []
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            for variable in container["env"]:
                assert variable["valueFrom"]["secretKeyRef"]["name"] == "wan-r1-s3"
                assert S3_KEYS[variable["valueFrom"]["secretKeyRef"]["key"]] == variable["name"]


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "volume v"),
        ({"securityContext": {"runAsNonRoot": True}}, "c: seccompProfile"),
        ({"containers": [{"name": "c", "securityContext": {"privileged": True}}]}, "c: privileged"),
        (
            {"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
            "capabilities.add",
        ),
        ({"containers": [{"name": "c", "securityContext": {"runAsUser": 0}}]}, "c: runAsUser"),
    ],
)
def test_the_check_finds_what_the_standard_forbids(change: dict[str, Any], breach: str) -> None:
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": context}],
    }
    assert breaches(pod) == []
    assert any(breach in one for one in breaches({**pod, **change}))


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_account_of_stages_may_do_little(repository: Path, overlay: str) -> None:
    resources = _build(repository, overlay)
    rules = _one(resources, "Role", "wan-r1-stage")["rules"]
    assert "ClusterRole" not in {one["kind"] for one in resources}
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == {
        ("configmaps", "get"),
        ("secrets", "get"),
        ("pods", "get"),
        ("pods", "list"),
        ("pods", "watch"),
        ("workflowtaskresults", "create"),
        ("workflowtaskresults", "patch"),
    }
    named = {rule["resources"][0]: rule.get("resourceNames") for rule in rules}
    assert (named["secrets"], named["configmaps"]) == (["wan-r1-s3"], ["kfp-launcher"])
    binding = _one(resources, "RoleBinding", "wan-r1-stage")
    assert binding["roleRef"]["name"] == "wan-r1-stage"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "wan-r1-stage", "namespace": "wan-r1"}]


@needs_kubectl
def test_kubeflow_pipelines_alone_gets_the_account_and_nothing_else(repository: Path) -> None:
    resources = _build(repository, "standalone")
    assert {one["kind"] for one in resources} == {"ServiceAccount", "Role", "RoleBinding"}
    assert {one["metadata"]["namespace"] for one in resources} == {"kubeflow"}
    assert _one(resources, "RoleBinding", "wan-r1-stage")["subjects"][0]["namespace"] == "kubeflow"


@needs_kubectl
def test_nothing_reaches_stages_and_they_reach_what_they_need(repository: Path) -> None:
    policy = _one(_build(repository, "production"), "NetworkPolicy", "wan-r1")["spec"]
    assert policy["podSelector"] == {}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not policy.get("ingress")
    open_to_all = {port["port"] for rule in policy["egress"] if "to" not in rule for port in rule["ports"]}
    assert open_to_all == {53, 443, 6443}


@needs_kubectl
@pytest.mark.parametrize(("overlay", "endpoint"), [("local", "http://seaweedfs.wan-r1:8333"), ("production", None)])
def test_artifacts_go_to_the_store_of_the_overlay(repository: Path, overlay: str, endpoint: str | None) -> None:
    resources = _build(repository, overlay)
    data = _one(resources, "ConfigMap", "kfp-launcher")["data"]
    assert data["defaultPipelineRoot"].startswith("s3://wan-r1/")
    store = yaml.safe_load(data["providers"])["s3"]["default"]
    assert store["credentials"]["secretRef"] == {
        "secretName": Deployment().s3_secret,
        "accessKeyKey": "access-key",
        "secretKeyKey": "secret-key",
    }
    if endpoint:
        assert store["endpoint"] == endpoint
        service = _one(resources, "Service", "seaweedfs")
        assert [port["port"] for port in service["spec"]["ports"]] == [8333]


def test_templates_of_secrets_name_every_key_and_no_value(repository: Path) -> None:
    text = (repository / "manifests" / "secrets.example.yaml").read_text()
    secrets = {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(text)}
    assert {name: set(keys) for name, keys in secrets.items()} == {
        Deployment().s3_secret: set(S3_KEYS),
        Deployment().hub_secret: set(HUB_KEYS),
    }
    assert not [value for keys in secrets.values() for value in keys.values() if value]
