"""What ``modal run -m entrypoints.modal_app`` does on the caller's side: flags in, one call, its outcome printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import modal
from attrs import frozen

from adapters.modal_cloud.modal_connection import redacted
from adapters.modal_cloud.modal_gpu_trainer import train_request
from adapters.modal_cloud.modal_requests import RemoteAnswers, RemoteEvaluation, RemoteQuestions
from adapters.modal_cloud.modal_wire import RemoteBugError, from_wire, raise_remote_error, to_wire
from application.answering.answers import Prompt
from application.ports import TrainReport
from application.training.data_paths import router_path
from application.training.train_router import TrainRouterRequest, resolve_job
from domain.chats import as_chat, routing_text
from domain.early_stopping import EarlyStopPolicy
from domain.errors import MoeRouterError, RemoteError, UsageError
from domain.training import TrainOptions
from entrypoints.cli.answer_report import response_lines
from entrypoints.exit_codes import exit_code
from entrypoints.modal_places import remote_base_model, remote_environment
from entrypoints.version import tool_version


@frozen
class RunOptions:
    """The flags of ``modal run``; None leaves a setting to the environment and the containers' defaults."""

    mode: str
    prompt: str | None
    dataset_dir: str | None
    data_path: str | None
    eval_data_path: str | None
    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    min_delta: float
    eval_steps: int
    lr_factor: float
    max_lr_reductions: int
    min_lr: float
    seed: int
    base_model: str | None
    router_out: str | None
    router: str | None
    lora_dir: str | None
    log_dir: str | None
    encode_shards: int
    gpu: str | None
    hf_secret: str | None


def run_mode(functions: Mapping[str, Any], options: RunOptions) -> None:
    """Run one mode; a user's error is one line on stderr and its exit code."""
    modes: dict[str, Callable[[Mapping[str, Any], RunOptions], None]] = {
        "train": _train,
        "eval": _evaluate,
        "infer": _infer,
    }
    try:
        if options.mode not in modes:
            raise UsageError(f"--mode {options.mode} is none of {', '.join(modes)}")
        modes[options.mode](functions, options)
    except MoeRouterError as error:
        _exit(error)


def _train(functions: Mapping[str, Any], options: RunOptions) -> None:
    request = TrainRouterRequest(
        options=TrainOptions(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            eval_steps=options.eval_steps,
            early_stop=EarlyStopPolicy(
                options.patience, options.min_delta, options.lr_factor, options.max_lr_reductions, options.min_lr
            ),
            seed=options.seed,
        ),
        dataset_dir=_path(options.dataset_dir),
        data_path=_path(options.data_path),
        eval_data_path=_path(options.eval_data_path),
        base_model=options.base_model,
        router_out=_path(options.router_out),
        log_dir=_path(options.log_dir or remote_environment(os.environ)["LOG_DIR"]),
    )
    job = resolve_job(request, remote_environment(os.environ), is_file=lambda _: True)
    result = _call(functions["train"], options, train_request(job, tool_version(), options.encode_shards))
    print(f"✅ Router head saved to {from_wire(TrainReport, result).router_path}")


def _evaluate(functions: Mapping[str, Any], options: RunOptions) -> None:
    request = RemoteEvaluation(
        router=_router(options),
        dataset_dir=_path(options.dataset_dir),
        data_path=_path(options.data_path),
        base_model=remote_base_model(options.base_model, os.environ),
        environment={name: os.environ[name] for name in ("VAL_DATA",) if os.environ.get(name)},
    )
    _call(functions["evaluate"], options, to_wire(request))  # the container prints the figures


def _infer(functions: Mapping[str, Any], options: RunOptions) -> None:
    if not options.prompt:
        raise UsageError("--mode infer needs a --prompt")
    prompt = Prompt(as_chat(options.prompt))
    routing_text(prompt.chat)  # an empty prompt is an error before anything starts
    questions = RemoteQuestions(
        (prompt,),
        _router(options),
        base_model=remote_base_model(options.base_model, os.environ),
        lora_dir=_path(options.lora_dir),
    )
    result = _call(functions["infer"], options, to_wire(questions))
    for answer in from_wire(RemoteAnswers, result).answers:
        print("\n".join(response_lines(answer)))


def _router(options: RunOptions) -> Path:
    return router_path(_path(options.router), remote_environment(os.environ))


def _call(function: Any, options: RunOptions, request: dict[str, Any]) -> dict[str, Any]:
    """Call a function and wait. Spawned, so that with ``modal run --detach`` it outlives this process."""
    if options.gpu:
        function = function.with_options(gpu=options.gpu)
    if options.hf_secret:
        function = function.with_options(secrets=[modal.Secret.from_name(options.hf_secret)])
    try:
        result: dict[str, Any] = function.spawn(request).get()
    except RemoteBugError as error:
        hint = "the lines above have its traceback"
        raise RemoteError(f"the run failed: {redacted(str(error), os.environ)}", hint=hint) from None
    raise_remote_error(result)
    return result


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _exit(error: MoeRouterError) -> NoReturn:
    print(f"moe-router: {error}", file=sys.stderr)
    sys.exit(exit_code(error))
