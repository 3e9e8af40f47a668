"""Runs a TrainJob's command as Kubeflow Trainer would: a process for each node's pod, all restarted if one fails."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

_OUTSIDE = dict(os.environ)
"""A pod has nothing of the stage that submitted it."""


class RunningJob:
    """A job whose pods are processes of this machine.

    Args:
        name: the job's name.
        command: the command of its pods, which starts with ``wan-r1``.
        nodes: pods.
        restarts: how often all pods are started again after one has failed (JobSet's ``maxRestarts``).
        environment: variables of the pods.
        folder: receives their logs.
    """

    def __init__(
        self, name: str, command: list[str], nodes: int, restarts: int, environment: dict[str, str], folder: Path
    ) -> None:
        assert command[0] == "wan-r1"
        self.name, self.nodes, self.attempt = name, nodes, 0
        self.outcome: str | None = None
        self._command = [sys.executable, "-m", "wan_r1.cli", *command[1:]]
        self._restarts, self._environment, self._folder = restarts, environment, folder
        self._pods: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._start()
        threading.Thread(target=self._watch, daemon=True).start()

    def pod(self, node: int) -> str:
        """Name of a node's pod; another one after each restart."""
        return f"{self.name}-node-{node}-{self.attempt}"

    def log(self, pod: str) -> Path:
        """What a pod has printed."""
        return self._folder / pod

    def runs(self, pod: str) -> bool:
        """Whether a pod still runs."""
        with self._lock:
            return any(self.pod(node) == pod and one.poll() is None for node, one in enumerate(self._pods))

    def take_away(self, node: int) -> None:
        """End a node's pod without warning, as where its machine is taken away."""
        with self._lock:
            os.killpg(self._pods[node].pid, signal.SIGKILL)

    def stop(self) -> None:
        """End all pods, as where the job is deleted."""
        with self._lock:
            self.outcome = self.outcome or "Failed"
            self._kill()

    def _start(self) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = str(one.getsockname()[1])
        self._pods = []
        for node in range(self.nodes):
            # The variables of the Trainer's torch policy.
            place = {"PET_NNODES": str(self.nodes), "PET_NODE_RANK": str(node), "PET_NPROC_PER_NODE": "auto"}
            place |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
            with self.log(self.pod(node)).open("wb") as output:
                pod = subprocess.Popen(
                    self._command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**_OUTSIDE, **self._environment, **place},
                    start_new_session=True,
                )
            self._pods.append(pod)

    def _watch(self) -> None:
        while self.outcome is None:
            time.sleep(0.1)
            with self._lock:
                codes = [pod.poll() for pod in self._pods]
                if self.outcome is not None or (not any(codes) and None in codes):
                    continue
                if not any(codes):
                    self.outcome = "Complete"
                    continue
                self._kill()
                if self.attempt == self._restarts:
                    self.outcome = "Failed"
                    continue
                self.attempt += 1
                self._start()

    def _kill(self) -> None:
        for pod in self._pods:
            # It may have ended, with all that it started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pod.pid, signal.SIGKILL)
            pod.wait()
