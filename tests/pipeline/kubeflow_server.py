"""A small server with the routes of Kubeflow Pipelines' API (v2beta1) that clients of a pipeline call.

It stands in for a cluster in tests of the real client. Every body is checked against the models that the API's own
description generates (package ``kfp-server-api``) and against the protocol buffers of the pipeline; what does not fit
is refused as the API refuses it.
"""

from __future__ import annotations

import datetime
import json
import re
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import kfp_server_api
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

_PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float), "datetime": str}
_PARAMETERS = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


class Refused(Exception):
    """A request that the API refuses, with its HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_body(value: Any, kind: str, place: str) -> None:
    """Raise `Refused` unless a JSON value is one of the API's model, without any name that the model lacks."""
    if kind == "object":
        return
    if kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]) or (isinstance(value, bool) and kind != "bool"):
            raise Refused(400, f"{place}: {value!r} is not of type {kind}")
        return
    if found := re.fullmatch(r"list\[(.+)\]", kind):
        for number, entry in enumerate(value):
            check_body(entry, found[1], f"{place}[{number}]")
        return
    if found := re.fullmatch(r"dict\(str, (.+)\)", kind):
        for name, entry in value.items():
            check_body(entry, found[1], f"{place}.{name}")
        return
    model = getattr(kfp_server_api, kind)
    if hasattr(model, "allowable_values"):
        if value not in model.allowable_values:
            raise Refused(400, f"{place}: {value!r} is none of {model.allowable_values}")
        return
    names = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    for name, entry in value.items():
        if name not in names:
            raise Refused(400, f"{place}: {kind} has no field {name!r}")
        check_body(entry, names[name], f"{place}.{name}")


def check_run(run: dict[str, Any]) -> None:
    """Raise `Refused` unless a run's pipeline and parameters are what a cluster can execute."""
    check_body(run, "V2beta1Run", "run")
    spec = run.get("pipeline_spec") or {}
    if "pipeline_spec" in spec:
        platform = json_format.ParseDict(spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        executors = json_format.MessageToDict(platform)["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for executor in executors.values():
            json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        spec = spec["pipeline_spec"]
    try:
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise Refused(400, f"pipeline_spec: {error}") from error
    known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    given = (run.get("runtime_config") or {}).get("parameters") or {}
    for name, value in given.items():
        if name not in known:
            raise Refused(400, f"parameter {name} is not found in the pipeline")
        kind = known[name]["parameterType"]
        if not isinstance(value, _PARAMETERS[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
            raise Refused(400, f"parameter {name}={value!r} is not a {kind}")
    for name, parameter in known.items():
        if name not in given and "defaultValue" not in parameter and not parameter.get("isOptional"):
            raise Refused(400, f"parameter {name} is required")


class KubeflowServer:
    """The server, on a free port of this machine, while a ``with`` block lasts.

    Args:
        token: bearer token that every request must have; `None` asks for none.
        multi_user: whether experiments belong to namespaces.
    """

    def __init__(self, token: str | None = None, *, multi_user: bool = False) -> None:
        self.token = token
        self.multi_user = multi_user
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.faults: list[dict[str, Any]] = []
        self.course: list[dict[str, Any]] = [{"state": "SUCCEEDED"}]
        """What a run looks like at each look at it; the last one stays."""
        self._looks = 0

    def __enter__(self) -> Self:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.answer(self, None)

            def do_POST(self) -> None:
                api.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(
        self, method: str, path: str, status: int, *, times: int = 1, after: bool = False, wait: float = 0
    ) -> None:
        """Fail the next requests of a method whose path ends so.

        Args:
            method: GET or POST.
            path: end of the path.
            status: HTTP status of the answer.
            times: how many requests.
            after: whether the request is carried out all the same, as when a proxy's time-out hits.
            wait: seconds before the answer.
        """
        fault = {"method": method, "path": path, "status": status, "times": times, "after": after, "wait": wait}
        self.faults.append(fault)

    def answer(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        """Answer one request."""
        url = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.requests.append((handler.command, url.path))
        try:
            if self.token and handler.headers.get("authorization") != f"Bearer {self.token}":
                raise Refused(401, "Request header error: there is no user identity header")
            fault = self._fault(handler.command, url.path)
            if fault and not fault["after"]:
                time.sleep(fault["wait"])
                raise Refused(fault["status"], "planned by the test")
            found = self._route(handler.command, url.path, query, body)
            if fault:
                time.sleep(fault["wait"])
                raise Refused(fault["status"], "planned by the test")
            _send(handler, 200, found)
        except Refused as refusal:
            said = str(refusal)
            _send(handler, refusal.status, {"error": said, "code": 3, "message": said, "details": []})

    def _fault(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self.faults:
            if fault["times"] > 0 and fault["method"] == method and path.endswith(fault["path"]):
                fault["times"] -= 1
                return fault
        return None

    def _route(self, method: str, path: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        prefix = "/apis/v2beta1/"
        if not path.startswith(prefix):
            raise Refused(404, f"no route {path}")
        match [method, *path.removeprefix(prefix).split("/")]:
            case ["GET", "healthz"]:
                return {"multi_user": self.multi_user}
            case ["GET", "experiments"]:
                self._check_namespace(query.get("namespace"))
                return {"experiments": _filtered(self.experiments, query)}
            case ["POST", "experiments"]:
                return self._make_experiment(body)
            case ["GET", "runs"]:
                return {"runs": _filtered(self.runs, query)}
            case ["POST", "runs"]:
                return self._make_run(body)
            case ["GET", "runs", run_id]:
                return self._look(run_id)
            case _:
                raise Refused(404, f"no route {path}")

    def _check_namespace(self, namespace: str | None) -> None:
        if self.multi_user and not namespace:
            raise Refused(400, "Invalid resource references for experiment. Expect one namespace type")
        if not self.multi_user and namespace:
            raise Refused(400, "In single-user mode, the experiment's namespace must be empty")

    def _make_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        check_body(body, "V2beta1Experiment", "experiment")
        self._check_namespace(body.get("namespace"))
        if any(one["display_name"] == body["display_name"] for one in self.experiments):
            raise Refused(409, f"experiment {body['display_name']} already exists")
        self.experiments.append({**body, "experiment_id": str(uuid.uuid4()), "created_at": _now()})
        return self.experiments[-1]

    def _make_run(self, body: dict[str, Any]) -> dict[str, Any]:
        check_run(body)
        if not any(one["experiment_id"] == body.get("experiment_id") for one in self.experiments):
            raise Refused(404, f"experiment {body.get('experiment_id')} is not found")
        self.runs.append({**body, "run_id": str(uuid.uuid4()), "state": "PENDING", "created_at": _now()})
        return self.runs[-1]

    def _look(self, run_id: str) -> dict[str, Any]:
        run = next((one for one in self.runs if one["run_id"] == run_id), None)
        if run is None:
            raise Refused(404, f"run {run_id} is not found")
        shown = self.course[min(self._looks, len(self.course) - 1)]
        self._looks += 1
        check_body(shown, "V2beta1Run", "course")
        return {**run, **shown}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def _filtered(entries: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    """Entries that all predicates of the query's filter hold for."""
    found = entries
    for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
        if predicate["operation"] not in (1, "EQUALS"):
            raise Refused(400, f"operation {predicate['operation']} is not known")
        found = [entry for entry in found if entry.get(predicate["key"]) == predicate["stringValue"]]
    return found


def _send(handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    try:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
    except (BrokenPipeError, ConnectionResetError):
        # A client whose patience ended is what some tests are about.
        handler.close_connection = True
