"""A small server with the routes of the Kubernetes API that Kubeflow Trainer's SDK calls for a TrainJob.

It stands in for a cluster in tests of the real SDK. A TrainJob is checked against the models that the Trainer's own
API description generates (package ``kubeflow-trainer-api``): what they do not know is refused. A job has ended when it
is first looked at, with one line of log, unless the server is to run jobs: then their commands run here.
"""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import yaml
from job_runner import RunningJob

GROUP = "/apis/trainer.kubeflow.org/v1alpha1"
JOBS = f"{GROUP}/namespaces/wan-r1/trainjobs"
_MOMENT = "2026-01-01T00:00:00Z"


class TrainerServer:
    """The server as a context manager.

    Args:
        runtimes: the cluster's ClusterTrainingRuntimes.
        outcome: condition that jobs end with, Complete or Failed, where they are not run.
        forbidden: whether the user may not create jobs.
        folder: for the logs of jobs that are run here; `None` runs none.
        environment: variables of their pods.
    """

    def __init__(
        self,
        runtimes: list[dict[str, Any]],
        *,
        outcome: str = "Complete",
        forbidden: bool = False,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.runtimes = {one["metadata"]["name"]: one for one in runtimes}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.running: dict[str, RunningJob] = {}
        self._outcome, self._forbidden = outcome, forbidden
        self._folder, self._environment = folder, environment or {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if path.endswith("/log") and server.running:
                    self._stream(path.split("/")[-2])
                else:
                    self._answer(*server.get(path, unquote(query)))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(*server.post(self.path.partition("?")[0], json.loads(body)))

            def do_DELETE(self) -> None:
                self._answer(*server.delete(self.path.partition("?")[0]))

            def _answer(self, status: int, content: Any) -> None:
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, pod: str) -> None:
                """A pod's log as it is written, until the pod has ended."""
                (job,) = [one for one in server.running.values() if pod.startswith(f"{one.name}-node-")]
                self.send_response(200)
                self.end_headers()
                with job.log(pod).open("rb") as log:
                    while True:
                        runs = job.runs(pod)
                        self.wfile.write(log.read())
                        if not runs:
                            return
                        time.sleep(0.1)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.running.values():
            job.stop()
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, folder: Path) -> Path:
        """A file by which the SDK reaches this server."""
        path = folder / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "wan-r1"}}
        content = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster]}
        path.write_text(yaml.safe_dump({**content, "contexts": [context], "users": [{"name": "u", "user": {}}]}))
        return path

    def get(self, path: str, query: str) -> tuple[int, Any]:
        """Answer a request that reads."""
        *_, kind, name = path.split("/")
        if path == f"{GROUP}/clustertrainingruntimes/{name}" and name in self.runtimes:
            return 200, self.runtimes[name]
        if path == f"{JOBS}/{name}" and name in self.jobs:
            outcome = self.running[name].outcome if name in self.running else self._outcome
            condition = {"type": outcome, "status": "True", "reason": "x", "message": "x"}
            conditions = [{**condition, "lastTransitionTime": _MOMENT}] if outcome else []
            return 200, {**self.jobs[name], "status": {"conditions": conditions}}
        if path == "/api/v1/namespaces/wan-r1/pods":
            (job,) = re.findall(r"jobset-name=([a-z0-9-]+)", query)
            pods = self._pods(job) if job in self.jobs else []
            return 200, {"kind": "PodList", "apiVersion": "v1", "items": pods}
        if name == "kubeflow-trainer-public":
            return 200, {"metadata": {"name": name}, "data": {"kubeflow_trainer_version": "v2.1.0"}}
        if kind.endswith("-node-0") and name == "log":
            return 200, "train_grpo:exact_match  step 1/2\n"
        return 404, {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": f"{path} not found"}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a request that makes a TrainJob."""
        from kubeflow_trainer_api import models

        if path != JOBS:
            return 404, {"kind": "Status", "status": "Failure", "message": f"{path} not found"}
        if self._forbidden:
            return 403, {"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "not yours"}
        if models.TrainerV1alpha1TrainJob.from_dict(body).to_dict() != body:
            return 422, {"kind": "Status", "status": "Failure", "reason": "Invalid", "message": "unknown fields"}
        name, spec = body["metadata"]["name"], body["spec"]
        metadata = {**body["metadata"], "namespace": "wan-r1", "creationTimestamp": _MOMENT}
        self.jobs[name] = {**body, "metadata": metadata}
        if self._folder is not None:
            runtime = self.runtimes[spec["runtimeRef"]["name"]]["spec"]["template"]["spec"]
            restarts = runtime["failurePolicy"]["maxRestarts"]
            trainer = spec["trainer"]
            self.running[name] = RunningJob(
                name, trainer["command"], trainer["numNodes"], restarts, self._environment, self._folder
            )
        return 201, self.jobs[name]

    def delete(self, path: str) -> tuple[int, Any]:
        """Answer a request that deletes a TrainJob."""
        name = path.rpartition("/")[2]
        if path != f"{JOBS}/{name}" or name not in self.jobs:
            return 404, {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": f"{path} not found"}
        if name in self.running:
            self.running.pop(name).stop()
        return 200, {"kind": "Status", "status": "Success", "metadata": self.jobs.pop(name)["metadata"]}

    def _pods(self, job: str) -> list[dict[str, Any]]:
        running = self.running.get(job)
        if running is None:
            return [_pod(job, f"{job}-node-0", 0, "Succeeded")]
        ended = {"Complete": "Succeeded", "Failed": "Failed"}
        phase = ended.get(running.outcome or "", "Running")
        return [_pod(job, running.pod(node), node, phase) for node in range(running.nodes)]


def _pod(job: str, name: str, node: int, phase: str) -> dict[str, Any]:
    labels = {
        "jobset.sigs.k8s.io/jobset-name": job,
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": str(node),
    }
    return {
        "metadata": {"name": name, "labels": labels, "creationTimestamp": _MOMENT},
        "spec": {"containers": [{"name": "node", "image": "x"}]},
        "status": {"phase": phase},
    }
