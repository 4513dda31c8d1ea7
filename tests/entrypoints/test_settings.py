"""Flags go before the environment, which goes before the defaults; data files are found one by one."""

from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from application.ports import TrainJob
from domain.errors import MissingFileError, UsageError
from domain.training import TrainOptions
from entrypoints.backend import Where
from entrypoints.bootstrap import BACKENDS, Application
from entrypoints.cli.options import base_model_option, evaluation_data_options, router_option, training_data_options
from entrypoints.settings import HERE, DataFiles, Places, Settings, Training

LATEST = HERE.dataset
ENV = {"TRAIN_DATA": "/env/t.jsonl", "VAL_DATA": "/env/v.jsonl", "BASE_MODEL_ID": "env/base", "ROUTER_OUT": "e.pt"}


def everything(path):
    return True


def parsed(option, words, **environment):
    """Return what a command with this option gets."""
    got = SimpleNamespace()

    @click.command()
    @option
    def command(**values):
        vars(got).update(values)

    done = CliRunner().invoke(command, words, env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return got


@pytest.mark.parametrize(
    ("words", "environment", "train", "val"),
    [
        (["--data-path", "a", "--eval-data-path", "b", "--dataset-dir", "d"], ENV, "a", "b"),
        (["--data-path", "a", "--dataset-dir", "d"], ENV, "a", "d/val.jsonl"),
        (["--dataset-dir", "d"], ENV, "d/train.jsonl", "d/val.jsonl"),
        ([], ENV, "/env/t.jsonl", "/env/v.jsonl"),
        (["--data-path", "a"], ENV, "a", "/env/v.jsonl"),
        ([], {}, str(LATEST / "train.jsonl"), str(LATEST / "val.jsonl")),
        ([], {"TRAIN_DATA": "", "VAL_DATA": ""}, str(LATEST / "train.jsonl"), str(LATEST / "val.jsonl")),
    ],
)
def test_training_reads_flags_then_folder_then_environment_then_defaults(words, environment, train, val):
    data = parsed(training_data_options, words, **environment).data
    assert tuple(map(str, data.training(LATEST, everything))) == (train, val)


def test_evaluation_prefers_the_held_out_file_of_a_folder():
    def scored(*words, is_file=everything, **environment):
        return str(parsed(evaluation_data_options, words, **environment).data.evaluation(LATEST, is_file))

    assert scored("--dataset-dir", "d", **ENV) == "d/eval.jsonl"
    assert scored("--dataset-dir", "d", is_file=lambda path: path.name == "val.jsonl") == "d/val.jsonl"
    assert scored("--data-path", "x", "--dataset-dir", "d", **ENV) == "x"
    assert scored(**ENV) == "/env/v.jsonl"
    assert scored() == str(LATEST / "eval.jsonl")


def test_what_is_missing_is_named_and_nothing_else_is_taken_instead():
    with pytest.raises(MissingFileError, match=r"d/eval\.jsonl or d/val\.jsonl.*--dataset-dir"):
        DataFiles(Path("d")).evaluation(LATEST, lambda path: path.parent == LATEST)
    with pytest.raises(MissingFileError, match=r"^a: no such file"):
        DataFiles(Path("d"), Path("a")).training(LATEST, lambda path: str(path).startswith("d/"))
    with pytest.raises(MissingFileError, match=r"train\.jsonl: no data set is named, .*--dataset-dir"):
        DataFiles().training(LATEST, lambda path: False)
    with pytest.raises(MissingFileError, match=r"val\.jsonl: no such file, .*--eval-data-path"):
        DataFiles(None, Path("a")).training(LATEST, lambda path: str(path) == "a")


def test_the_router_to_read_lies_beside_the_torch_file_of_the_environment_only():
    assert parsed(router_option, [], ROUTER_OUT="e.pt").router == Path("e.safetensors")
    assert parsed(router_option, ["--router", "r.pt"], ROUTER_OUT="e.pt").router == Path("r.pt")
    assert parsed(router_option, []).router is None


def test_a_flag_goes_before_its_variable():
    option = base_model_option("the embedded one")
    assert parsed(option, ["--base-model", "flag"], BASE_MODEL_ID="env").base_model == "flag"
    assert parsed(option, [], BASE_MODEL_ID="env").base_model == "env"
    assert parsed(option, [], BASE_MODEL_ID="").base_model is None


def test_a_job_takes_from_the_places_what_a_request_leaves_open():
    places = Places(Path("/there/r.safetensors"), Path("/there/logs"), "a/base", Path("/there/ds"))
    made = Training().job(places, everything)
    assert made == TrainJob(
        Path("/there/ds/train.jsonl"),
        Path("/there/ds/val.jsonl"),
        "a/base",
        Path("/there/r.safetensors"),
        None,
        TrainOptions(),
    )
    asked = Training(
        DataFiles(Path("d")), TrainOptions(epochs=3), "b", Path("out"), Path("l"), Path("o"), use_cache=False
    )
    assert asked.job(places, everything) == TrainJob(
        Path("d/train.jsonl"),
        Path("d/val.jsonl"),
        "b",
        Path("out"),
        Path("l"),
        TrainOptions(epochs=3),
        Path("o"),
        use_cache=False,
    )


def test_settings_are_read_once_and_nonsense_is_an_error():
    assert Settings.read({}) == Settings(None, "L4", 20.0, 300, 10.0)
    read = Settings.read({"MOE_ROUTER_CACHE": "/c", "MOE_ROUTER_MODAL_GPU": "A10", "MOE_ROUTER_MODAL_TIMEOUT": "3"})
    assert read == Settings(Path("/c"), "A10", 3.0, 300, 10.0)
    for nonsense in ("soon", "-1", "inf", "nan"):
        with pytest.raises(UsageError, match=r"MOE_ROUTER_MODAL_TIMEOUT='.*' is not a number of seconds"):
            Settings.read({"MOE_ROUTER_MODAL_TIMEOUT": nonsense})


def test_every_backend_opens_by_name_and_the_local_one_refuses_the_options_of_others():
    app = Application({})
    for name in BACKENDS:
        assert app.backend(Where(name)).places.router.suffix == ".safetensors"
    with pytest.raises(UsageError, match="--gpu and --encode-shards belong to --backend modal"):
        app.backend(Where(gpu="L4", encode_shards=2))
