"""The command line of a pipeline script: ``compile``, ``run`` and ``submit`` with ``name=value`` parameters."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from kfp.dsl.base_component import BaseComponent

from launch import parameters
from launch.api import ENDPOINT, TOKEN, Api, ApiError
from launch.deployment import Deployment, compile_pipeline
from wan_r1.config import ConfigError
from wan_r1.storage import StorageError


def main(pipeline: BaseComponent, script: str, words: list[str] | None = None) -> int:
    """Run a verb on a pipeline.

    Args:
        pipeline: the pipeline.
        script: path of its script; the compiled YAML lies beside it.
        words: the command line; by default the process's own.

    Returns:
        0 if all went well, 1 if a run failed, 2 if a parameter, the storage or Kubeflow refused, 130 after Ctrl-C.
    """
    given = _parse(_parser(pipeline, script), words)
    try:
        if given.verb == "compile":
            path = Path(given.output or Path(script).with_suffix(".yaml"))
            compile_pipeline(pipeline, path, _deployment(given))
            print(f"wrote {path}")
            return 0
        values = parameters.parse(pipeline, given.parameters)
        parameters.check(pipeline, values)
        if given.verb == "submit":
            from launch.submit import Submission, submit

            submission = Submission(
                deployment=_deployment(given),
                experiment=given.experiment,
                namespace=given.namespace,
                service_account=given.service_account,
                pipeline_root=given.pipeline_root,
                cache=not given.no_cache,
                watch=given.watch,
            )
            return submit(lambda: _api(given), pipeline, values, submission)
        from launch.local_run import run

        return run(pipeline, values, folder=Path(given.folder), cache=not given.no_cache)
    except (ConfigError, StorageError, ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted before the first stage", file=sys.stderr)
        return 130


def main_of_many(pipelines: dict[str, BaseComponent], script: str, words: list[str] | None = None) -> int:
    """`main` for a script with several pipelines: the first word names one; ``compile`` alone compiles all of them."""
    words = list(sys.argv[1:] if words is None else words)
    beside = {name: str(Path(script).with_name(f"stage-{name}.py")) for name in pipelines}
    if words == ["compile"]:
        return max(main(pipeline, beside[name], words) for name, pipeline in pipelines.items())
    if words and words[0] in pipelines:
        return main(pipelines[words[0]], beside[words[0]], words[1:])
    print(f"usage: {Path(script).name} compile | {{{','.join(pipelines)}}} ...", file=sys.stderr)
    return 2


def _parse(parser: argparse.ArgumentParser, words: list[str] | None) -> argparse.Namespace:
    """The command line, whose parameters may stand before, between and after the options."""
    given, rest = parser.parse_known_args(words)
    if unknown := [word for word in rest if word.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        given.parameters += rest
    return given


def _api(given: argparse.Namespace) -> Api:
    return Api(given.endpoint, token_file=given.token_file, timeout=given.timeout, ca=given.ca)


def _deployment(given: argparse.Namespace) -> Deployment:
    return Deployment.read(given.deployment) if given.deployment else Deployment()


def _parser(pipeline: BaseComponent, script: str) -> argparse.ArgumentParser:
    inputs = pipeline.component_spec.inputs or {}
    lines = []
    for name, spec in sorted(inputs.items()):
        text = f"{name}={spec.default!r}  {spec.description or ''}"
        lines.append(textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="      "))
    parser = argparse.ArgumentParser(
        prog=Path(script).name,
        description=pipeline.component_spec.description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parameters and their defaults:\n" + "\n".join(lines),
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="compile | run | submit")
    one = verbs.add_parser("compile", help="write the pipeline as YAML for Kubeflow Pipelines")
    one.add_argument("--output", help="the file; by default beside the script")
    deployment = "TOML file with the cluster's images, pods and Secrets, such as pipelines/deployments/gpu.toml"
    one.add_argument("--deployment", type=Path, metavar="FILE", help=deployment)
    one = verbs.add_parser("run", help="run the pipeline on this machine")
    one.add_argument("--folder", default="runs", help="where runs, their cache and their storage lie (default: runs)")
    one.add_argument("--no-cache", action="store_true", help="run every stage, whatever earlier runs left")
    one.add_argument("parameters", nargs="*", metavar="name=value")
    one = verbs.add_parser("submit", help="send the pipeline to Kubeflow Pipelines")
    text = f"URL of Kubeflow Pipelines (default: {ENDPOINT}, the pod's own cluster, or the kubeconfig)"
    one.add_argument("--endpoint", metavar="URL", help=text)
    one.add_argument("--experiment", "-e", default="wan-r1", help="experiment of the run (default: wan-r1)")
    one.add_argument("--deployment", type=Path, metavar="FILE", help=deployment)
    one.add_argument("--namespace", help="your namespace, where Kubeflow has several users")
    one.add_argument("--service-account", help="service account of the run's pods (default: the cluster's)")
    one.add_argument("--pipeline-root", metavar="URI", help="where Kubeflow keeps artifacts (default: the cluster's)")
    one.add_argument("--no-cache", action="store_true", help="run every stage, whatever earlier runs left")
    one.add_argument("--watch", "-w", action="store_true", help="follow the run to its end")
    text = f"file with a bearer token, read anew for each request (default: the variable {TOKEN})"
    one.add_argument("--token-file", type=Path, metavar="FILE", help=text)
    one.add_argument("--ca", type=Path, metavar="FILE", help="CA certificates to trust")
    one.add_argument("--timeout", type=float, default=30.0, help="seconds for each request (default: 30)")
    one.add_argument("parameters", nargs="*", metavar="name=value")
    return parser
