"""The manifests build, and what they run is as restricted as Kubernetes' strictest standard asks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


def _build(repository: Path, overlay: str) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(repository / "manifests" / "overlays" / overlay)]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


@pytest.mark.parametrize("overlay", ["local", "production"])
def test_overlays_build_and_hold_no_secret(repository: Path, overlay: str) -> None:
    kinds = {resource["kind"] for resource in _build(repository, overlay)}
    assert {"Namespace", "ServiceAccount", "NetworkPolicy"} <= kinds
    assert "Secret" not in kinds


def test_the_object_store_is_restricted(repository: Path) -> None:
    (deployment,) = [one for one in _build(repository, "local") if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        for variable in container["env"]:
            assert "secretKeyRef" in variable["valueFrom"]
