"""What goes wrong around a container is told in words that help, and what was complete is kept."""

# Annotations stay objects: the SDK reads those of a pipeline.

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from docker_client import IMAGE, RESTRICTED, docker
from kfp import compiler, components, dsl

from wan_r1.generate_tasks.component import generate_tasks
from wan_r1.storage.seaweed import SeaweedServer
from wan_r1.validate_tasks.component import validate_tasks

pytestmark = pytest.mark.timeout(1200)

FEW = [f"--{split}-levels=2" for split in ("train", "validation", "prompts", "test", "harder")]


@dsl.pipeline(name="two-stages")
def two_stages(families: list):
    """Data and its check."""
    few = {f"{split}_levels": 2 for split in ("train", "validation", "prompts", "test", "harder")}
    tasks = generate_tasks(families=families, settings=few)
    validate_tasks(dataset=tasks.outputs["dataset"])


def test_a_failing_container_fails_the_run(
    in_containers: Callable[[], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    root = in_containers()
    with pytest.raises(RuntimeError):
        two_stages(families=["no-such-family"])
    assert re.search(r"tasks_families.*no-such-family", capfd.readouterr().out)
    (run,) = root.glob("two-stages-*")
    assert not (run / "validate-tasks").exists()


def test_a_wrong_image_is_named_and_what_was_done_before_is_kept(
    in_containers: Callable[[], Path], tmp_path: Path
) -> None:
    root = in_containers()
    compiler.Compiler().compile(two_stages, str(tmp_path / "two.yaml"))
    before, found, after = (tmp_path / "two.yaml").read_text().partition("exec-validate-tasks:")
    assert found
    text = before + found + after.replace(IMAGE, "wan-r1-cpu:no-such-tag", 1)
    kept = set(root.glob("two-stages-*"))
    with pytest.raises(Exception, match="wan-r1-cpu"):
        components.load_component_from_text(text)(families=["regular"])
    (run,) = set(root.glob("two-stages-*")) - kept
    assert list((run / "generate-tasks" / "dataset").glob("*.parquet"))


@pytest.mark.parametrize(
    ("case", "messages"),
    [
        ("no credentials", ["no credentials were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"]),
        ("no endpoint", ["the endpoint cannot be reached", "check AWS_ENDPOINT_URL and that the server runs"]),
        ("no permission", ["the secret does not belong to the access key", "AWS_SECRET_ACCESS_KEY"]),
        ("no bucket", ["there is no such bucket", "create the bucket or name another one"]),
    ],
)
def test_storage_that_refuses_is_told_in_a_container(
    image: str, seaweed: SeaweedServer, case: str, messages: list[str]
) -> None:
    variables = dict(seaweed.environment)
    if case == "no credentials":
        variables = {"AWS_ENDPOINT_URL": seaweed.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
    elif case == "no endpoint":
        variables["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    elif case == "no permission":
        variables["AWS_SECRET_ACCESS_KEY"] = "marked-not-the-secret"
    place = "s3://no-such-bucket/x" if case == "no bucket" else f"{seaweed.uri}/refused"
    options = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    words = ["wan-r1", "prepare-model", "--preset=tiny", f"--storage-uri={place}", "--model=/tmp/model"]
    ended = docker("run", "--rm", "--network=host", *RESTRICTED, *options, image, *words, check=False)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stderr.startswith("error: cannot write to storage_uri=")
    for message in messages:
        assert message in ended.stderr
    for secret in (variables.get("AWS_SECRET_ACCESS_KEY"), seaweed.environment["AWS_SECRET_ACCESS_KEY"]):
        assert not secret or secret not in ended.stdout + ended.stderr


def test_a_full_disk_is_told_in_a_container(image: str) -> None:
    words = ["wan-r1", "generate-tasks", "--preset=tiny", "--families=regular", *FEW, "--output=/full/dataset"]
    full = "--tmpfs=/full:size=16k,mode=1777"
    ended = docker("run", "--rm", "--network=none", *RESTRICTED, full, image, *words, check=False)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "the disk is full; free space and start again" in ended.stderr
