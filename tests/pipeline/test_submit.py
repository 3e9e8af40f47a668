"""Submission with the real client: what is sent, what is checked before, and what happens when the server fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubeflow_server import KubeflowServer, Refused, check_body, check_run

import full
import launch.api
import launch.submit
import stages
from launch.verbs import main

SCRIPT = "pipelines/full.py"


@pytest.fixture
def server() -> Iterator[KubeflowServer]:
    with KubeflowServer() as started:
        yield started


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of this machine's user, and no waiting."""
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES", "KUBE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(launch.api, "WAITS", (0.01, 0.01, 0.01))


def _submit(server: KubeflowServer, *words: str) -> int:
    return main(full.full, SCRIPT, ["submit", "--endpoint", server.url, *words])


def _routes(server: KubeflowServer) -> list[str]:
    return [f"{method} {path.removeprefix('/apis/v2beta1/')}" for method, path in server.requests]


def test_a_run_is_started_in_a_new_experiment(server: KubeflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert _submit(server, "seed=3", "grpo_reward=exact_match", "grpo_clip_range=0.1", "storage_uri=s3://bucket/a") == 0
    (run,), (experiment,) = server.runs, server.experiments
    assert experiment["display_name"] == "wan-r1"
    assert run["experiment_id"] == experiment["experiment_id"]
    parameters = run["runtime_config"]["parameters"]
    assert parameters.pop("started_at").endswith("+00:00")
    assert parameters == {
        "seed": 3,
        "grpo_reward": "exact_match",
        "grpo_settings": {"clip_range": 0.1},
        "storage_uri": "s3://bucket/a",
    }
    sent = run["pipeline_spec"]
    assert sent["pipeline_spec"]["pipelineInfo"]["name"] == "wan-r1"
    assert "exec-train-grpo" in sent["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert capsys.readouterr().out == (
        f"run {run['run_id']} of experiment wan-r1: {server.url}/#/runs/details/{run['run_id']}\n"
    )


def test_an_experiment_that_exists_is_used(server: KubeflowServer) -> None:
    assert _submit(server, "-e", "mine") == 0
    assert _submit(server, "--experiment", "mine") == 0
    assert len(server.experiments) == 1
    assert len({run["display_name"] for run in server.runs}) == 2


def test_options_of_a_run_are_sent() -> None:
    with KubeflowServer(multi_user=True) as server:
        words = ["--namespace", "ana", "--service-account", "wan-r1-stage", "--pipeline-root", "s3://bucket/kfp"]
        assert _submit(server, "seed=1", *words, "--no-cache", "sft_steps=5") == 0
    (run,) = server.runs
    assert server.experiments[0]["namespace"] == "ana"
    assert (run["service_account"], run["runtime_config"]["pipeline_root"]) == ("wan-r1-stage", "s3://bucket/kfp")
    assert (run["runtime_config"]["parameters"]["seed"], run["runtime_config"]["parameters"]["sft_steps"]) == (1, 5)
    tasks = run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"].values()
    assert not [task for task in tasks if task.get("cachingOptions", {}).get("enableCache")]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("grpo_group_sise=4", "did you mean grpo_group_size?"),
        ("sft_steps=1.5", "sft_steps='1.5' is not of the right type; expected a whole number"),
        ("grpo_group_size=1", "grpo_group_size=1 is not allowed; expected at least 2"),
        ("storage_uri=runs/x", "expected s3://bucket/prefix"),
    ],
)
def test_wrong_parameters_are_told_before_anything_is_sent(
    server: KubeflowServer, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    assert _submit(server, word) == 2
    assert message in capsys.readouterr().err
    assert server.requests == []


def test_a_missing_parameter_is_told(server: KubeflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "--endpoint", server.url, "dataset_uri=s3://b/d", "model_uri=s3://b/m"]
    assert main(stages.STAGES["train-grpo"], "stages.py", words) == 2
    assert "certificate_uri is missing" in capsys.readouterr().err
    assert server.requests == []


def test_a_token_is_sent_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with KubeflowServer(token="marked-3f1c") as server:
        assert _submit(server) == 2
        assert f"{server.url} asks for a login (HTTP 401)" in capsys.readouterr().err
        monkeypatch.setenv("KF_PIPELINES_TOKEN", "wrong-77a0")
        assert _submit(server) == 2
        shown = capsys.readouterr()
        assert "the token is missing, wrong or out of date" in shown.err
        assert "wrong-77a0" not in shown.err + shown.out
        file = tmp_path / "token"
        file.write_text("marked-3f1c\n")
        assert _submit(server, "--token-file", str(file)) == 0
        monkeypatch.setenv("KF_PIPELINES_TOKEN", "marked-3f1c")
        assert _submit(server) == 0
        shown = capsys.readouterr()
    assert len(server.runs) == 2
    assert "marked-3f1c" not in shown.err + shown.out + str(server.runs)


def test_a_renewed_token_is_taken_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    with KubeflowServer(token="old") as server:
        server.course = [{"state": "RUNNING"}, {"state": "SUCCEEDED"}]

        def renew(seconds: float) -> None:
            file.write_text("new")
            server.token = "new"

        monkeypatch.setattr(launch.submit.time, "sleep", renew)
        assert _submit(server, "--token-file", str(file), "--watch") == 0


def test_a_login_page_is_no_api(server: KubeflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail("GET", "healthz", 302)
    assert _submit(server) == 2
    assert "asks for a login (HTTP 302)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "healthz"), ("GET", "experiments"), ("POST", "experiments"), ("POST", "runs")]
)
@pytest.mark.parametrize("after", [False, True])
def test_a_failing_server_is_asked_again_and_one_run_is_started(
    server: KubeflowServer, capsys: pytest.CaptureFixture[str], method: str, path: str, after: bool
) -> None:
    server.fail(method, path, 503, times=2, after=after)
    assert _submit(server) == 0
    assert (len(server.experiments), len(server.runs)) == (1, 1)
    assert capsys.readouterr().err.count("trying again") == (1 if after and method == "POST" else 2)


def test_a_server_that_keeps_failing_is_told(server: KubeflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail("POST", "runs", 500, times=99)
    assert _submit(server) == 2
    assert f"{server.url} failed (HTTP 500: planned by the test) at each attempt" in capsys.readouterr().err
    assert _routes(server).count("POST runs") == 4


def test_a_refusal_is_not_repeated(server: KubeflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail("POST", "runs", 403, times=99)
    assert _submit(server) == 2
    assert "refuses this user (HTTP 403: planned by the test)" in capsys.readouterr().err
    assert _routes(server).count("POST runs") == 1


def test_a_silent_server_is_given_up(server: KubeflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail("GET", "healthz", 500, times=99, wait=0.6)
    assert _submit(server, "--timeout", "0.2") == 2
    assert f"{server.url} did not answer within 0.2 s; give a longer --timeout" in capsys.readouterr().err
    assert _routes(server) == ["GET healthz"] * 4


def test_an_answer_that_comes_too_late_starts_no_second_run(server: KubeflowServer) -> None:
    server.fail("POST", "runs", 500, after=True, wait=0.6)
    assert _submit(server, "--timeout", "0.3") == 0
    assert len(server.runs) == 1


def test_a_wrong_endpoint_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert main(full.full, SCRIPT, ["submit", "--endpoint", url]) == 2
    assert f"nothing listens at {url}" in capsys.readouterr().err
    assert main(full.full, SCRIPT, ["submit", "--endpoint", "not an address"]) == 2
    assert "is no URL" in capsys.readouterr().err
    assert main(full.full, SCRIPT, ["submit"]) == 2
    assert "give --endpoint URL or set KF_PIPELINES_ENDPOINT" in capsys.readouterr().err


def test_another_web_server_is_told(server: KubeflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(full.full, SCRIPT, ["submit", "--endpoint", f"{server.url}/elsewhere"]) == 2
    assert "has no such API (HTTP 404" in capsys.readouterr().err


def _task(name: str, state: str, **more: object) -> dict:
    return {"task_id": name, "display_name": name, "state": state, **more}


def test_a_run_is_followed_to_its_end(
    server: KubeflowServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.submit.time, "sleep", lambda seconds: None)
    times = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:01:30Z"}
    server.course = [
        {"state": "PENDING"},
        {"state": "RUNNING", "run_details": {"task_details": [_task("train-sft", "RUNNING")]}},
        {
            "state": "RUNNING",
            "run_details": {
                "task_details": [
                    _task("root", "RUNNING"),
                    _task("train-sft-driver", "SUCCEEDED"),
                    _task("train-sft", "SUCCEEDED", **times),
                    _task("train-grpo", "FAILED", error={"code": 2, "message": "out of memory"}),
                ]
            },
        },
        {"state": "FAILED", "error": {"code": 2, "message": "train-grpo failed"}},
    ]
    server.fail("GET", "runs", 502)
    assert _submit(server, "--watch") == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "train_sft  running",
        "train_sft  succeeded in 90 s",
        "train_grpo  failed: out of memory",
        "the run failed: train-grpo failed",
    ]


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("CANCELED", 1), ("SKIPPED", 1)])
def test_every_end_of_a_run_is_an_end(server: KubeflowServer, state: str, code: int) -> None:
    server.course = [{"state": state}]
    assert _submit(server, "--watch") == code


def test_ctrl_c_leaves_the_run_alone(
    server: KubeflowServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.submit.time, "sleep", interrupt)
    server.course = [{"state": "RUNNING"}]
    assert _submit(server, "--watch") == 130
    assert f"the run goes on: {server.url}/#/runs/details/" in capsys.readouterr().out


def _command(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, check=False)


def test_the_same_by_our_own_command(server: KubeflowServer, repository: Path) -> None:
    words = ["run", "submit", str(repository / SCRIPT), "--endpoint", server.url, "sft_steps=7", "--watch"]
    ended = _command("-m", "wan_r1.cli", *words)
    assert ended.returncode == 0, ended.stderr
    assert server.runs[0]["runtime_config"]["parameters"]["sft_steps"] == 7
    assert ended.stdout.splitlines()[-1] == "the run succeeded"


def test_the_committed_yaml_by_the_unmodified_kfp_command(server: KubeflowServer, repository: Path) -> None:
    package = str(repository / "pipelines" / "full.yaml")
    words = ["--endpoint", server.url, "run", "submit", "-e", "wan-r1", "-f", package, "sft_steps=7", "seed=1"]
    ended = _command("-c", "from kfp.cli.__main__ import main; main()", *words, "ablation_rewards=[]")
    assert ended.returncode == 0, ended.stderr
    parameters = server.runs[0]["runtime_config"]["parameters"]
    assert parameters == {"sft_steps": 7, "seed": 1, "ablation_rewards": []}


def test_the_server_refuses_what_the_models_do_not_know() -> None:
    with pytest.raises(Refused, match="V2beta1Run has no field 'name'"):
        check_run({"name": "x"})
    with pytest.raises(Refused, match=r"experiment\.display_name: 3 is not of type str"):
        check_body({"display_name": 3}, "V2beta1Experiment", "experiment")
    with pytest.raises(Refused, match="is none of"):
        check_body({"state": "DONE"}, "V2beta1Run", "run")
