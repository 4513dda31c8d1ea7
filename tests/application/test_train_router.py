from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from adapters.in_memory.training import RecordingObserver
from application.ports import TrainJob
from application.training.train_router import TrainRouter, TrainRouterRequest
from domain.errors import MissingFileError
from domain.feature_choice import FeatureChoice, deepest_layer, distinct_taps, feature_candidates
from domain.features import Pooling
from domain.training import TrainOptions

LATEST = Path("/datasets/routing_latest")


@define
class Trainer:
    jobs: list[TrainJob] = field(factory=list)

    def train(self, job: TrainJob, observer: Any) -> Any:
        self.jobs.append(job)
        return "report"


def job(request: TrainRouterRequest, environment: dict[str, str] | None = None) -> TrainJob:
    trainer = Trainer()
    use = TrainRouter(trainer, environment or {}, lambda _path: True)
    assert use(request, RecordingObserver()) == "report"
    return trainer.jobs[0]


ENVIRONMENT = {
    "TRAIN_DATA": "/env/train.jsonl",
    "VAL_DATA": "/env/val.jsonl",
    "BASE_MODEL_ID": "env/base",
    "ROUTER_OUT": "/env/out.pt",
}


def test_nothing_given_means_the_defaults() -> None:
    made = job(TrainRouterRequest())
    assert made == TrainJob(
        LATEST / "train.jsonl",
        LATEST / "val.jsonl",
        None,
        Path("router-head.safetensors"),
        None,
        TrainOptions(),
        None,
        True,
    )


def test_explicit_goes_before_the_folder_before_the_environment_before_the_default() -> None:
    folder = TrainRouterRequest(dataset_dir=Path("ds"))
    both = evolve(folder, data_path=Path("a.jsonl"))
    assert [job(r, ENVIRONMENT).train_path for r in (both, folder, TrainRouterRequest())] == [
        Path("a.jsonl"),
        Path("ds/train.jsonl"),
        Path("/env/train.jsonl"),
    ]
    assert [job(r, ENVIRONMENT).val_path for r in (both, folder, TrainRouterRequest())] == [
        Path("ds/val.jsonl"),
        Path("ds/val.jsonl"),
        Path("/env/val.jsonl"),
    ]
    assert job(TrainRouterRequest(), dict.fromkeys(ENVIRONMENT, "")) == job(TrainRouterRequest())


def test_base_model_and_router_out_come_from_flag_then_environment() -> None:
    flags = TrainRouterRequest(base_model="flag/base", router_out=Path("flag.safetensors"))
    assert (job(flags, ENVIRONMENT).base_model, job(flags, ENVIRONMENT).router_out) == (
        "flag/base",
        Path("flag.safetensors"),
    )
    without = job(TrainRouterRequest(), ENVIRONMENT)
    assert (without.base_model, without.router_out) == ("env/base", Path("/env/out.pt"))


def test_everything_else_travels_as_it_was_asked_for() -> None:
    request = TrainRouterRequest(
        options=TrainOptions(epochs=3, layers=(1,)), log_dir=Path("l"), out_of_scope=Path("o"), use_cache=False
    )
    made = job(request)
    assert (made.options, made.log_dir, made.out_of_scope_path, made.use_cache) == (
        request.options,
        Path("l"),
        Path("o"),
        False,
    )


def test_a_missing_file_is_found_before_anything_starts() -> None:
    trainer = Trainer()
    with pytest.raises(MissingFileError, match=r"nowhere/train\.jsonl"):
        TrainRouter(trainer, {})(TrainRouterRequest(dataset_dir=Path("nowhere")), RecordingObserver())
    assert not trainer.jobs


@pytest.mark.parametrize(
    ("n_layers", "layers", "deepest"), [(30, None, 10), (6, None, 6), (36, None, 12), (30, (1, 20), 20)]
)
def test_nothing_above_the_deepest_candidate_is_asked_for(n_layers, layers, deepest):
    assert deepest_layer(n_layers, layers, None) == deepest
    taps = distinct_taps(feature_candidates(n_layers, layers, None))
    assert max(tap.layer for tap in taps) == deepest


@pytest.mark.parametrize("n_layers", [1, 2, 3, 6, 12, 13, 30, 36, 80])
def test_candidates_lie_in_the_model_cheapest_first_and_shallow_in_deep_models(n_layers: int) -> None:
    found = feature_candidates(n_layers, None, None)
    assert len(set(found)) == len(found) >= 2
    assert [c.cost for c in found] == sorted(c.cost for c in found)
    for choice in found:
        assert list(choice.layers) == sorted(set(choice.layers))
        assert choice.layers[0] >= 0
        assert choice.layers[-1] <= (n_layers if n_layers <= 12 else n_layers * 0.4)
    taps = distinct_taps(found)
    assert set(taps) == {tap for choice in found for tap in choice.taps}
    assert len(set(taps)) == len(taps)


def test_the_candidates_of_the_embedded_base_are_those_that_were_measured() -> None:
    assert [str(choice) for choice in feature_candidates(30, None, Pooling.MEAN)] == [
        "layers 7, mean pooling",
        "layers 1+7, mean pooling",
        "layers 10, mean pooling",
        "layers 7+10, mean pooling",
        "layers 1+7+10, mean pooling",
        "layers 1+4+7+10, mean pooling",
    ]


def test_what_the_user_fixed_stays_fixed() -> None:
    assert feature_candidates(30, (2, 5), Pooling.LAST) == (FeatureChoice((2, 5), Pooling.LAST),)
    assert {c.layers for c in feature_candidates(30, (2, 5), None)} == {(2, 5)}
    assert {c.pooling for c in feature_candidates(30, None, Pooling.LAST)} == {Pooling.LAST}
