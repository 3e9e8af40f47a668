"""The one error of storage and the words that name a cause and its remedy."""

from __future__ import annotations

import os

import botocore.exceptions


class StorageError(RuntimeError):
    """A place cannot be read or written. The message names the parameter, the place, the cause and the remedy."""


_CAUSES = {
    "InvalidAccessKeyId": ("the access key is unknown there", "set AWS_ACCESS_KEY_ID to a key of this endpoint"),
    "SignatureDoesNotMatch": (
        "the secret does not belong to the access key",
        "set AWS_SECRET_ACCESS_KEY to the secret of AWS_ACCESS_KEY_ID",
    ),
    "ExpiredToken": ("the session token has expired", "renew AWS_SESSION_TOKEN"),
    "InvalidToken": ("the session token is wrong", "renew AWS_SESSION_TOKEN"),
    "AccessDenied": (
        "the credentials may not do this",
        "grant s3:GetObject, s3:PutObject and s3:ListBucket on the bucket, or use other credentials",
    ),
    "403": ("the credentials may not do this", "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their rights"),
    "NoSuchBucket": ("there is no such bucket", "create the bucket or name another one"),
    "NoSuchKey": ("there is no such object", "check the path; an earlier stage may not have written it"),
    "404": ("there is no such bucket or object", "check the bucket and the path"),
    "InvalidBucketName": (
        "the bucket's name is not valid",
        "use 3 to 63 lower-case letters, digits, hyphens and dots",
    ),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock"),
    "PermanentRedirect": ("the bucket is in another region", "set AWS_REGION or AWS_ENDPOINT_URL to that region"),
    "SlowDown": ("the endpoint asks for fewer requests", "try again later"),
    "InsufficientStorage": ("the store is full", "free space there"),
}

_WORDS: tuple[tuple[type[Exception], str, str], ...] = (
    (
        botocore.exceptions.NoCredentialsError,
        "no credentials were found",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE) or a service account's role",
    ),
    (
        botocore.exceptions.PartialCredentialsError,
        "the credentials are incomplete",
        "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (botocore.exceptions.ProfileNotFound, "the profile of AWS_PROFILE does not exist", "name another AWS_PROFILE"),
    (
        botocore.exceptions.ParamValidationError,
        "the bucket or key is not valid",
        "use s3://bucket/prefix with 3 to 63 lower-case letters, digits, hyphens and dots in the bucket",
    ),
    (
        botocore.exceptions.ConnectTimeoutError,
        "the endpoint did not answer in time",
        "check AWS_ENDPOINT_URL and the network",
    ),
    (
        botocore.exceptions.ReadTimeoutError,
        "the endpoint did not answer in time",
        "check AWS_ENDPOINT_URL and the network",
    ),
    (botocore.exceptions.SSLError, "the endpoint's TLS certificate is not trusted", "set AWS_CA_BUNDLE"),
    (
        botocore.exceptions.EndpointConnectionError,
        "the endpoint cannot be reached",
        "check AWS_ENDPOINT_URL and that the server runs",
    ),
    (
        botocore.exceptions.HTTPClientError,
        "the endpoint cannot be reached",
        "check AWS_ENDPOINT_URL and that the server runs",
    ),
)


def endpoint_name() -> str:
    """The endpoint as users set it, without any user name or password in it."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        return "AWS S3"
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if found else url.rpartition("@")[2]


def error_code(error: Exception) -> str:
    """The S3 error code of a client error, such as ``NoSuchKey``; empty for other errors."""
    if isinstance(error, botocore.exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def explain(error: Exception, *, action: str, uri: str, parameter: str | None = None) -> StorageError:
    """A `StorageError` in plain words for a boto3 or operating-system error.

    Args:
        error: what was raised; its text is used only where no known cause fits, and holds no secret.
        action: what was being done, such as ``write``.
        uri: the place.
        parameter: name of the parameter that holds the place, if the caller knows it.
    """
    place = f"{parameter}={uri}" if parameter else uri
    if "://" in uri and uri.startswith("s3://"):
        bucket = uri.removeprefix("s3://").partition("/")[0]
        place = f"{place} (bucket {bucket!r}, endpoint {endpoint_name()})"
    cause, remedy = _cause(error)
    return StorageError(f"cannot {action} {place}: {cause}; {remedy}")


def _cause(error: Exception) -> tuple[str, str]:
    code = error_code(error)
    if code:
        return _CAUSES.get(code, (f"the endpoint answered {code}", "see the endpoint's own log for the reason"))
    for kind, cause, remedy in _WORDS:
        if isinstance(error, kind):
            return cause, remedy
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder", "check the path; an earlier stage may not have written it"
    if isinstance(error, PermissionError):
        return "this user may not do that there", "choose a place that this user may write to"
    if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
        return "a file is where a folder should be, or the other way round", "choose another place"
    if isinstance(error, OSError) and error.errno == 28:
        return "the disk is full", "free space and start again; what is complete is kept"
    return f"{type(error).__name__}: {error}", "see the message for the reason"
