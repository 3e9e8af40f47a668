"""The Docker client, and what the tests of images share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from wan_r1 import __version__

IMAGE = f"wan-r1-cpu:{__version__}"
GPU_IMAGE = f"wan-r1-gpu:{__version__}"
MARK = "marked-in-the-certificates-4d17"
"""Stands in the file of CA certificates that the build is given, and must stand in no layer."""
COMMIT = "0123456789abcdef"
"""The commit that the build is told."""
RESTRICTED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
"""Options under which containers run here, as restricted as the pods of a cluster."""


def client() -> str:
    """The client: Debian's builds with BuildKit, a newer one without its plug-in buildx does not."""
    debians = Path("/usr/bin/docker")
    return str(debians) if debians.exists() else "docker"


def docker(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the Docker client; if it fails, the assertion shows the end of what it printed."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    ended = subprocess.run([client(), *words], capture_output=True, text=True, env=environment, check=False)
    assert not check or ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    return ended
