"""Modal as a place to run: which paths a container sees, what an app is made of, what travels back."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import click
import pytest
from modal.cli.entry_point import entrypoint_cli

from adapters.modal_cloud.modal_messages import Updates
from adapters.modal_cloud.modal_wire import WIRE_VERSION, from_wire
from application.ports import TrainJob
from application.ports.answering import AnswerRequest
from domain.answers import Prompt
from domain.chats import as_chat
from domain.errors import MissingFileError, OutOfMemoryError, UsageError
from entrypoints import modal_app
from entrypoints.backend import Evaluation, Questions, Where
from entrypoints.bootstrap import Application
from entrypoints.cli import COMMANDS
from entrypoints.on_modal import image, worker
from entrypoints.on_modal.checks import FIRST_CONTACT
from entrypoints.on_modal.mounts import Mounts
from entrypoints.on_modal.options import call_options, defined_app
from entrypoints.on_modal.places import shared_tags
from entrypoints.on_modal.serving import EndpointSettings
from entrypoints.settings import DataFiles, Settings, Training, Variable
from tests.modal_world import JobsHere

ROOT = Path(__file__).parents[2]


class AskedError(Exception):
    """Ends a call as soon as it is asked for."""


class Asking:
    """Takes down what the app's functions are asked; nothing is contacted."""

    def __init__(self) -> None:
        self.request = {}

    def run(self, name, request, on_message=None):
        self.request = json.loads(json.dumps(request))
        raise AskedError

    start = attach = follow = run


@pytest.fixture
def asking(monkeypatch):
    jobs = Asking()
    monkeypatch.setattr(Application, "modal_jobs", lambda self, where: jobs)
    return jobs


def modal(**options):
    return Application({}).backend(Where("modal", **options))


def trained(asking, request):
    with pytest.raises(AskedError):
        modal().train(request, None)
    return from_wire(TrainJob, asking.request["job"])


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        (None, "/output/router-head.pt"),  # and so the safetensors file beside it, see the router store
        ("mine.safetensors", "/output/mine.safetensors"),
        ("a/../b/r.pt", "/output/b/r.pt"),
        ("/output/r.safetensors", "/output/r.safetensors"),
        ("/cache/r", "/cache/r"),
    ],
)
def test_a_router_is_written_to_a_volume(asking, asked, there):
    job = trained(asking, Training(router_out=asked and Path(asked), log_dir=Path("logs")))
    assert (str(job.router_out), str(job.log_dir)) == (there, "/output/logs")


@pytest.mark.parametrize(
    ("router", "command"),
    [
        ("/output/router-head.pt", "moe-router download router-head.safetensors"),
        ("/output/b/r.safetensors", "moe-router download b/r.safetensors"),
        ("/cache/r.pt", "moe-router download r.safetensors --volume moe-router-cache"),
    ],
)
def test_the_command_that_fetches_a_router_names_the_file_that_this_software_reads(router, command):
    assert modal().fetch_command(Path(router)) == command


@pytest.mark.parametrize(
    "path", ["/tmp/r.safetensors", "../r.safetensors", "/datasets/r", "/outputs/r", "/output/../r"]
)
def test_what_would_be_gone_with_the_container_is_refused_before_one_starts(asking, path):
    for request in (Training(router_out=Path(path)), Training(log_dir=Path(path))):
        for start in (lambda asked: modal().train(asked, None), modal().start):
            with pytest.raises(UsageError, match="would be lost: a container's own disk is gone when it ends"):
                start(request)
    assert not asking.request


def test_files_of_this_machine_are_refused_as_data_and_as_lora_adapters(asking):
    for data in (DataFiles(Path("datasets/mine")), DataFiles(None, Path("rows.jsonl")), DataFiles(Path("/home/me"))):
        with pytest.raises(UsageError, match=r"the data set (is a path of this machine|lies on no volume)"):
            modal().evaluate(Evaluation(Path("r.safetensors"), data))
    with pytest.raises(UsageError, match="LoRA adapter x lies on no volume"):
        modal().deciding(Questions(Path("r"), loras={"x": Path("/home/x")}))((Prompt(as_chat("hello")),))
    assert not asking.request


def test_relative_routers_and_lora_folders_lie_on_their_volumes(asking):
    asked = Questions(
        Path("r.safetensors"), (Prompt(as_chat("hello")),), lora_dir=Path("mine"), loras={"x": Path("x")}
    )
    with pytest.raises(AskedError):
        modal(max_batch=3).deciding(asked)(asked.prompts)
    sent = from_wire(Questions, asking.request)
    assert (sent.router, sent.lora_dir) == (Path("/output/r.safetensors"), Path("/checkpoints/mine"))
    assert sent.loras == {"x": Path("/checkpoints/x")}
    assert asking.request["max_batch"] == 3


@pytest.mark.parametrize(
    ("options", "asked", "shares"),
    [
        ({}, {}, {"router", "loras"}),
        ({}, {"loras": {"x": Path("x")}}, None),
        ({}, {"count": 65}, None),
        ({"gpu": "L4"}, {}, None),
        ({"hours": 1.0}, {}, None),
        ({"max_batch": 3}, {}, None),
        ({"shards": 2}, {}, None),
        ({"redeploy": True}, {}, None),
    ],
)
def test_few_prompts_without_wishes_for_their_container_go_to_the_endpoint_that_has_loaded_the_same(
    asking, options, asked, shares
):
    prompts = (Prompt(as_chat("hello")),) * asked.get("count", 1)
    questions = Questions(Path("r.safetensors"), prompts, loras=asked.get("loras", {}))
    with pytest.raises(AskedError):
        list(modal(**options).answering(questions).stream(AnswerRequest(prompts)))
    found = asking.request["shared"]
    assert shares == (None if found is None else set(found))
    if shares:
        served = shared_tags(EndpointSettings.read({"ROUTER_OUT": "r.pt"}).router, None, None)
        assert found == served
        assert found != shared_tags(Path("/output/r.safetensors"), "a/base", None)


def test_a_kind_of_gpu_that_modal_does_not_have_is_known_at_once_and_a_list_is_a_choice():
    for wrong, named in (("L4,L5", "L5"), (",", ",")):
        with pytest.raises(UsageError, match=f"Modal has no GPU '{named}'"):
            call_options(Where("modal", gpu=wrong))
    several = call_options(Where("modal", gpu="L4, A10:2 ,L40S"))  # which modal takes for an app, not for a call
    assert (several.gpu, several.choice) == (None, "L4,A10:2,L40S")
    assert {call_options(Where("modal", gpu=one)).gpu for one in ("L4", "L4,")} == {"L4"}
    from adapters.modal_cloud.call_options import gpu_choice

    assert (gpu_choice("L4, A10:2 ,L40S"), gpu_choice("H100")) == (["L4", "A10:2", "L40S"], "H100")


@pytest.mark.parametrize(
    "options", [{"hours": 25.0}, {"hours": 0.0}, {"encode_batch": 0}, {"max_batch": -1}, {"shards": 0}]
)
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options)).replace("_", "-")):
        Where("modal", **options)


def test_what_waits_for_a_call_starts_none(monkeypatch):
    from click.testing import CliRunner

    from entrypoints.cli import cli

    class Waiting:
        def attach(self, name, call_id):
            waited_for.append((name, call_id))
            raise MissingFileError("enough")

    waited_for = []
    monkeypatch.setattr(Application, "modal_jobs", lambda self, where: Waiting())
    commands = {
        "train": [], "evaluate": [], "infer": ["--prompt", "x"], "compare": ["--dataset-dir", "/datasets/x"]
    }  # fmt: skip
    for name, words in commands.items():
        asked = [name, "--backend", "modal", "--attach", "fc-1", *words]
        done = CliRunner().invoke(cli, asked, obj=Application({}))
        assert isinstance(done.exception, MissingFileError), done.output
    assert waited_for == [(name, "fc-1") for name in commands]
    for words, problem in (
        (["train", "--backend", "modal", "--attach", "ap-1"], "--attach ap-1 is not the id of a call"),
        (["train", "--backend", "modal", "--attach", "fc-1", "--detach"], "--attach waits for one"),
        (["evaluate", "--attach", "fc-1"], "--attach belongs to --backend modal"),
    ):
        done = CliRunner().invoke(cli, words, obj=Application({}))
        assert problem in str(done.exception), done.output


# What a container answers


def answered(name, request, monkeypatch, error):
    def fail(*_args, **_more):
        raise error

    monkeypatch.setattr(worker.ContainerBackend, "evaluate", fail)
    return worker.Worker(JobsHere(), worker.Volumes(())).evaluate(request)


def test_bugs_and_full_memory_travel_as_values_since_modal_repeats_what_is_raised(monkeypatch, capsys):
    request = {"version": WIRE_VERSION, "value": {"router": "/output/r"}}
    bug = answered("evaluate", request, monkeypatch, ZeroDivisionError("by zero"))
    assert (bug["error"], bug["what"]) == ("bug", "ZeroDivisionError: by zero")
    assert "Traceback" in capsys.readouterr().err
    full = answered("evaluate", request, monkeypatch, OutOfMemoryError("full", hint="a larger GPU"))
    assert (full["error"], full["hint"]) == ("OutOfMemoryError", "a larger GPU")
    import torch

    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):  # wherever else it happens
        full = answered("evaluate", request, monkeypatch, error)
        assert full["error"] == "OutOfMemoryError"
        assert re.search("--encode-batch.*--max-batch.*--gpu", full["hint"])


def test_a_data_set_that_is_not_there_is_told_with_those_that_are(tmp_path):
    for name in ("routing_2", "routing_1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text("")
    error = MissingFileError("no such file", where=tmp_path / "none" / "train.jsonl")
    assert worker._with_data_sets(error, tmp_path).hint == "data sets there: routing_1, routing_2"
    there = MissingFileError("no answers", where=tmp_path / "routing_1", hint="as it was")
    assert worker._with_data_sets(there, tmp_path).hint == "as it was"
    other = MissingFileError("no such file", where="/output/r", hint="as it was")
    assert worker._with_data_sets(other, tmp_path).hint == "as it was"


def test_messages_that_nobody_takes_never_hold_up_a_run():
    class Full:
        def put_many(self, messages, timeout=None):
            limits.append(timeout)
            raise TimeoutError

    limits = []
    Updates(Full()).send({"kind": "started"}, now=True)
    assert limits == [5.0]  # an assertion in there would be swallowed like every other error


# What the app is made of


def test_the_image_holds_what_was_tested_whatever_is_installed_here(monkeypatch, tmp_path):
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    monkeypatch.setattr(image, "_ROOT", tmp_path)  # as in an installed package: no pyproject.toml beside the layers
    needs = {"moe-lora-router": ["torch>=2", "tensorboard>=2", 'ruff; extra == "dev"', 'h11; extra == "serve"']}
    monkeypatch.setattr(image, "requires", lambda name: needs.get(name, []))  # nothing else is installed here
    found = image.pinned(image.dependencies())
    assert {f"torch=={pins['torch'].split('+')[0]}", f"Jinja2=={pins['Jinja2']}".lower()} <= set(found)
    assert not [pin for pin in found if pin.startswith(("ruff", "h11"))]
    assert f"h11=={pins['h11']}" in image.pinned(image.dependencies("serve"))
    assert image._CONSTRAINTS.is_relative_to(ROOT / "entrypoints")  # it is package data
    assert image._CONSTRAINTS.read_text() == (ROOT / "constraints.txt").read_text()


def test_what_packages_need_is_written_down_as_it_is_here():
    constraints = image._constraints()
    written = image._NEEDS.read_text("utf8").splitlines()
    assert set(image.needs_here(constraints).splitlines()) <= set(written)  # what is not installed here may be more
    known = {line.partition(":")[0] for line in written[1:]}
    assert known <= set(constraints)


def test_every_transitive_dependency_is_pinned_and_the_slim_image_has_no_torch():
    whole = image.pinned(image.dependencies())
    assert {"aiohttp", "jinja2", "tokenizers"} <= {pin.split("==")[0] for pin in whole}
    assert not [pin for pin in whole if pin.startswith(("pytest", "ruff", "mypy", "datasets"))]
    slim = image.pinned(("attrs", "click", "tensorboard"))
    assert len(slim) < len(whole) / 3
    assert not [pin for pin in slim if pin.startswith(("torch", "transformers"))]


def test_settings_and_code_name_a_deployed_app(monkeypatch, tmp_path):
    assert set(modal_app.tags) == {"code", "gpu", "settings"}
    made, other = image.app_tags("L4", "60"), image.app_tags("A10", "60")
    assert (made["gpu"] != other["gpu"], made["settings"] == other["settings"]) == (True, True)
    assert made["settings"] != image.app_tags("L4", "90")["settings"]
    before = image.app_tags("L4")["code"]
    assert re.fullmatch("[0-9a-f]{12}", before)
    monkeypatch.setattr(image, "LAYERS", ("domain",))
    assert image.app_tags("L4")["code"] != before


def test_a_choice_of_gpus_is_for_one_call_however_it_is_written(monkeypatch):
    defined = defined_app("t4, L4")
    assert (defined.GPU, defined.tags["gpu"]) == ("T4,L4", defined_app("T4,L4").tags["gpu"])
    assert call_options(Where("modal", gpu="t4, l4:2")).choice == "T4,L4:2"
    assert defined_app(None).GPU == "L4"
    monkeypatch.setenv(Variable.MODAL_GPU, "a10")
    assert defined_app(None).GPU == "A10"
    monkeypatch.delenv(Variable.MODAL_GPU)
    assert defined_app(None).GPU == "L4"


def test_the_volume_with_data_sets_is_named_in_one_place(monkeypatch):
    assert Settings.read({"MOE_ROUTER_MODAL_DATA_VOLUME": "mine"}).data_volume == "mine"
    assert Mounts.of("mine").at["/datasets"].name == "mine"
    assert modal_app.MOUNTS.at["/datasets"].name == "moe-lora-data"


# Lines of the documentation


def options_of(line):
    """Return the options of a command line of Modal's or ours; whatever it names must be there."""
    program, name, *words = line.split()
    if program == "moe-router":
        return {
            flag
            for each in import_module(f"entrypoints.cli.{COMMANDS[name][0]}").command.params
            for flag in each.opts
        }
    assert program == "modal"
    if "-m" in words:
        module, _, attribute = words[words.index("-m") + 1].partition("::")
        assert hasattr(import_module(module), attribute or "app")
    if name == "run":
        parameters = inspect.signature(modal_app.main.info.raw_f).parameters
        return {"-m", "--detach", *(f"--{each.replace('_', '-')}" for each in parameters)}
    command, context = entrypoint_cli, click.Context(entrypoint_cli)
    for word in (name, *words):
        if not isinstance(command, click.Group):
            break
        command = command.get_command(context, word)
        assert command, line
    return {flag for each in command.params for flag in each.opts}


def flags(text):
    return set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", text))


def lines_of_the_guide():
    """Return the rows of the table: the guide's line, and today's."""
    table = (ROOT / "docs" / "modal.md").read_text("utf8").split("| then | now |")[1].split("\n\n")[0]
    return [tuple(row.strip("| ").split(" | ")) for row in table.splitlines()[2:]]


@pytest.mark.parametrize(("then", "now"), lines_of_the_guide())
def test_todays_line_for_a_line_of_the_guide_is_a_command_with_its_options(then, now):
    command = r"`((?:moe-router|modal) [^`]*)`"
    same = [each.replace("modal/router_train.py", "-m entrypoints.modal_app") for each in re.findall(command, then)]
    lines = re.findall(command, now) or same
    variables = re.findall(r"\b[A-Z_]+(?==)", then)
    assert lines or (variables and now == "the same")
    for line in lines:
        assert flags(line) <= options_of(line), line
    if "same flags" in now:
        assert flags(then) <= options_of(lines[0])
    assert set(variables) <= set(Variable)


def test_every_line_of_the_first_contact_is_a_command_with_its_options_and_in_the_documentation():
    written = (ROOT / "docs" / "modal.md").read_text("utf8")
    for line, look in FIRST_CONTACT:
        assert f"| `{line}` | {look} |" in written
        assert flags(line) <= options_of(line), line


def test_modal_check_finds_what_is_wrong_and_contacts_nothing(monkeypatch):
    from click.testing import CliRunner

    from entrypoints.cli import cli

    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
    done = CliRunner().invoke(cli, ["modal-check", "--json"], obj=Application({}))
    found = {each["what"]: each["problem"] for each in json.loads(done.stdout)["checks"]}
    assert done.exit_code == 0
    assert not {what: problem for what, problem in found.items() if problem and what != "credentials"}
    bad = CliRunner().invoke(cli, ["modal-check"], obj=Application({"MOE_ROUTER_MODAL_TIMEOUT": "soon"}))
    assert bad.exit_code == 1
    assert "✗ settings: MOE_ROUTER_MODAL_TIMEOUT='soon'" in bad.stdout
