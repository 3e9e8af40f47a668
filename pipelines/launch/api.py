"""The Kubeflow Pipelines API: the SDK's client with time-outs, retries, and errors that say what to do.

The SDK's own client waits for ever for a server that does not answer, gives up at the first 5xx, and shows a stack
trace for a wrong token.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import kfp_server_api
import urllib3
from kfp import client
from kfp_server_api.rest import RESTClientObject

ENDPOINT = "KF_PIPELINES_ENDPOINT"
"""Environment variable with the API's URL; the SDK's own."""
TOKEN = "KF_PIPELINES_TOKEN"
"""Environment variable with a bearer token."""

# As long as a restart of the API server's pod commonly takes.
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further attempt."""

T = TypeVar("T")

_URL = re.compile(r"(https?://)?[\w.\-\[\]:]+(/[\w./~%-]*)?")

_TRANSIENT = (429, 500, 502, 503, 504)


class ApiError(RuntimeError):
    """The API could not be reached or refused. The message names the endpoint and says what to do.

    Args:
        message: for the user.
        transient: whether the same request may succeed later.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class Api(client.Client):
    """The SDK's client whose requests end after ``timeout`` seconds; those that only read are repeated.

    Args:
        endpoint: URL of the API; `None` takes `ENDPOINT`, the pod's own cluster or the kubeconfig, as the SDK does.
        token_file: file with a bearer token, read at each request, so that a token that is renewed stays valid; `None`
            takes the environment variable `TOKEN`, if there is one.
        timeout: seconds to connect and to wait for an answer.
        waits: seconds before each further attempt; `None` takes `WAITS`.
        ca: file with CA certificates to trust.

    Raises:
        ApiError: if there is no endpoint, no token in its file, or the API does not answer.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        token_file: Path | None = None,
        timeout: float = 30.0,
        waits: tuple[float, ...] | None = None,
        ca: Path | None = None,
    ) -> None:
        endpoint = endpoint or os.environ.get(ENDPOINT)
        if not endpoint and not _in_cluster_or_configured():
            raise ApiError(
                f"no endpoint of Kubeflow Pipelines; give --endpoint URL or set {ENDPOINT} (with "
                "`kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80` it is http://localhost:8080)"
            )
        if endpoint and not _URL.fullmatch(endpoint):
            raise ApiError(
                f"--endpoint {endpoint} is no URL; expected one such as https://kubeflow.example.org/pipeline"
            )
        if ca and not ca.is_file():
            raise ApiError(f"--ca {ca} is no file; expected CA certificates as PEM")
        self.timeout, self.waits = timeout, WAITS if waits is None else waits
        self._checked = False
        credentials = _TokenFile(token_file) if token_file else None
        # The SDK warns at each start that it needs version 2, and prints where it looks for a cluster.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with spoken(endpoint or "the cluster", timeout):
                super().__init__(
                    host=endpoint,
                    existing_token=None if token_file else os.environ.get(TOKEN) or None,
                    credentials=credentials,
                    ssl_ca_cert=str(ca) if ca else None,
                )
                self.url = self._get_url_prefix() if endpoint else self._existing_config.host
                # The constructor asks for it where no namespace is configured.
                if not self._checked:
                    self.get_kfp_healthz()

    def get_kfp_healthz(self, sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        """The API's state; the first request that the SDK's constructor makes, so that all are patient from then on."""
        api = self._healthz_api.api_client
        if not isinstance(api.rest_client, _PatientRest):
            api.rest_client = _PatientRest(api.configuration, self.timeout, self.waits)
        self._checked = True
        return self._healthz_api.healthz_service_get_healthz()


class _PatientRest(RESTClientObject):
    """The generated client's transport with a time-out for every request, and retries for those that only read."""

    def __init__(self, configuration: kfp_server_api.Configuration, timeout: float, waits: tuple[float, ...]) -> None:
        # urllib3's own retries would follow a redirection to a login page and repeat without pause.
        configuration.retries = False
        super().__init__(configuration)
        self._timeout, self._waits = timeout, waits

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        """Send a request; the parameters are the generated client's."""
        options["_request_timeout"] = options.get("_request_timeout") or (self._timeout, self._timeout)
        for wait in (*self._waits, None) if method.upper() == "GET" else (None,):
            try:
                return super().request(method, url, *arguments, **options)
            except (kfp_server_api.ApiException, urllib3.exceptions.HTTPError) as error:
                if wait is None or not is_transient(error):
                    raise
            pause(wait)
        raise AssertionError("the last attempt returns or raises")


class _TokenFile(client.TokenCredentialsBase):
    """A bearer token in a file that its owner renews, such as a projected service account token."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read()

    def refresh_api_key_hook(self, config: kfp_server_api.Configuration) -> None:
        """Read the token anew."""
        config.api_key["authorization"] = self._read()

    def _read(self) -> str:
        try:
            token = self._path.read_text().strip()
        except OSError as error:
            raise ApiError(f"--token-file {self._path} cannot be read: {error.strerror}") from None
        if not token:
            raise ApiError(f"--token-file {self._path} is empty; expected a bearer token")
        return token


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ApiError):
        return error.transient
    if isinstance(error, kfp_server_api.ApiException):
        return error.status in _TRANSIENT
    # A name that cannot be resolved is a wrong parameter.
    wrong = urllib3.exceptions.NameResolutionError
    return isinstance(error, urllib3.exceptions.HTTPError) and not isinstance(error, wrong)


def repeatedly(action: Callable[[], T], waits: tuple[float, ...]) -> T:
    """Call an action that may be called more than once until it succeeds, fails for good, or all waits are over."""
    for wait in waits:
        try:
            return action()
        except ApiError as error:
            if not error.transient:
                raise
        pause(wait)
    return action()


def pause(seconds: float) -> None:
    """Wait before another attempt, and say so."""
    print(f"Kubeflow Pipelines does not answer; trying again in {seconds:g} s", file=sys.stderr, flush=True)
    time.sleep(seconds)


@contextlib.contextmanager
def spoken(endpoint: str, timeout: float) -> Iterator[None]:
    """Turn the SDK's and urllib3's errors into an `ApiError`."""
    try:
        yield
    except (kfp_server_api.ApiException, urllib3.exceptions.HTTPError) as error:
        message = _refused(error, endpoint) if isinstance(error, kfp_server_api.ApiException) else ""
        raise ApiError(message or _unreached(error, endpoint, timeout), transient=is_transient(error)) from error


def _refused(error: kfp_server_api.ApiException, endpoint: str) -> str:
    """Words for an answer that is not what was asked for."""
    status = error.status or 0
    if status == 0 and "SSL" in str(error.reason):
        detail = str(error.reason).partition("\n")[2]
        return f"the certificate of {endpoint} is not trusted ({detail}); give --ca FILE with the CA that signed it"
    if 300 <= status < 400 or status == 401:
        return (
            f"{endpoint} asks for a login (HTTP {status}): the token is missing, wrong or out of date; give "
            f"--token-file FILE or set {TOKEN}"
        )
    said = _message(error)
    if status == 403:
        return (
            f"{endpoint} refuses this user (HTTP 403{said}); ask for the role kubeflow-edit in the namespace, and "
            "give --namespace if Kubeflow has several users"
        )
    if status == 404:
        return f"{endpoint} has no such API (HTTP 404{said}); expected the URL of Kubeflow Pipelines, without a path"
    if status in _TRANSIENT:
        return f"{endpoint} failed (HTTP {status}{said}) at each attempt; see the log of its pod ml-pipeline"
    return f"{endpoint} refuses the request (HTTP {status}{said})"


def _message(error: kfp_server_api.ApiException) -> str:
    """What the server said, as ``: text``."""
    try:
        body = json.loads(error.body or "")
    except ValueError:
        return ""
    said = body.get("message") or body.get("error") if isinstance(body, dict) else None
    return f": {said}" if said else ""


def _unreached(error: Exception, endpoint: str, timeout: float) -> str:
    """Words for an answer that never came."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return f"{endpoint}: there is no such host; check --endpoint"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return f"nothing listens at {endpoint}; check --endpoint, or whether its port-forward still runs"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return f"{endpoint} did not answer within {timeout:g} s; give a longer --timeout, or see the log of ml-pipeline"
    return f"the connection to {endpoint} broke: {error}"


def _in_cluster_or_configured() -> bool:
    """Whether the SDK finds an API by itself: in a pod, or by a kubeconfig."""
    paths = os.environ.get("KUBECONFIG", str(Path.home() / ".kube" / "config")).split(os.pathsep)
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(path).is_file() for path in paths if path)
