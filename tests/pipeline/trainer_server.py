"""A small server with the routes of the Kubernetes API that Kubeflow Trainer's SDK calls for a TrainJob.

It stands in for a cluster in tests of the real SDK. A TrainJob is checked against the models that the Trainer's own
API description generates (package ``kubeflow-trainer-api``): what they do not know is refused. A job has ended when it
is first looked at, with one line of log.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml

GROUP = "/apis/trainer.kubeflow.org/v1alpha1"
_MOMENT = "2026-01-01T00:00:00Z"


class TrainerServer:
    """The server as a context manager.

    Args:
        runtimes: the cluster's ClusterTrainingRuntimes.
        outcome: condition that jobs end with, Complete or Failed.
        forbidden: whether the user may not create jobs.
    """

    def __init__(self, runtimes: list[dict[str, Any]], *, outcome: str = "Complete", forbidden: bool = False) -> None:
        self.runtimes = {one["metadata"]["name"]: one for one in runtimes}
        self.jobs: dict[str, dict[str, Any]] = {}
        self._outcome, self._forbidden = outcome, forbidden
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*server.get(self.path.partition("?")[0]))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(*server.post(self.path.partition("?")[0], json.loads(body)))

            def _answer(self, status: int, content: Any) -> None:
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
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

    def get(self, path: str) -> tuple[int, Any]:
        """Answer a request that reads."""
        *_, kind, name = path.split("/")
        if path == f"{GROUP}/clustertrainingruntimes/{name}" and name in self.runtimes:
            return 200, self.runtimes[name]
        if path == f"{GROUP}/namespaces/wan-r1/trainjobs/{name}" and name in self.jobs:
            condition = {"type": self._outcome, "status": "True", "reason": "x", "message": "x"}
            conditions = [{**condition, "lastTransitionTime": _MOMENT}]
            return 200, {**self.jobs[name], "status": {"conditions": conditions}}
        if path == "/api/v1/namespaces/wan-r1/pods":
            return 200, {"kind": "PodList", "apiVersion": "v1", "items": [self._pod(job) for job in self.jobs]}
        if name == "kubeflow-trainer-public":
            return 200, {"metadata": {"name": name}, "data": {"kubeflow_trainer_version": "v2.1.0"}}
        if kind.endswith("-node-0") and name == "log":
            return 200, "train_grpo:exact_match  step 1/2\n"
        return 404, {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": f"{path} not found"}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a request that makes a TrainJob."""
        from kubeflow_trainer_api import models

        if path != f"{GROUP}/namespaces/wan-r1/trainjobs":
            return 404, {"kind": "Status", "status": "Failure", "message": f"{path} not found"}
        if self._forbidden:
            return 403, {"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "not yours"}
        if models.TrainerV1alpha1TrainJob.from_dict(body).to_dict() != body:
            return 422, {"kind": "Status", "status": "Failure", "reason": "Invalid", "message": "unknown fields"}
        metadata = {**body["metadata"], "namespace": "wan-r1", "creationTimestamp": _MOMENT}
        self.jobs[body["metadata"]["name"]] = {**body, "metadata": metadata}
        return 201, self.jobs[body["metadata"]["name"]]

    def _pod(self, job: str) -> dict[str, Any]:
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": "0",
        }
        return {
            "metadata": {"name": f"{job}-node-0", "labels": labels, "creationTimestamp": _MOMENT},
            "spec": {"containers": [{"name": "node", "image": "x"}]},
            "status": {"phase": "Succeeded"},
        }
