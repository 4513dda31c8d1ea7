"""publish, datasets and download as users run them: real processes, real modal client, fake Modal."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.datasets.local_dataset_folders import LocalDatasetFolders
from entrypoints.bootstrap import Application
from entrypoints.cli import cli, main
from tests.publishing_world import dataset_files, published, write_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "routing_20251124_143022", dataset_files(with_eval=False))


def moe_router(*arguments, **environment):
    clean = {
        k: v for k, v in os.environ.items() if k not in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
    }
    env = {**clean, "PYTHONPATH": str(ROOT), **environment}
    env = {k: v for k, v in env.items() if v is not None}
    command = [sys.executable, "-m", "entrypoints", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def run(*arguments):
    """Run in this process, for speed."""
    return CliRunner().invoke(cli, list(map(str, arguments)), obj=Application(), catch_exceptions=False)


@pytest.fixture
def ended(capsys):
    """Run in this process, as far as the exit code; processes of their own are for other environments."""

    def run_to_its_end(*arguments):
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code, printed.out, printed.err)

    return run_to_its_end


def test_publish_prints_the_report_of_the_guide(modal_fake, dataset):
    volume = modal_fake.volumes.create("moe-lora-data")
    result = moe_router("publish", dataset)
    assert result.returncode == 0, result.stderr
    rule, name = "=" * 60, "routing_20251124_143022"
    assert result.stdout.splitlines() == [
        rule,
        f"Uploading Dataset: {name}",
        rule,
        f"Local directory:  {dataset}",
        "Modal volume:     moe-lora-data",
        f"Remote path:      datasets/{name}/",
        "Files to upload:  3",
        rule,
        "",
        *(
            line
            for file in ("train.jsonl", "val.jsonl", "metadata.json")
            for line in (f"Uploading {file} -> moe-lora-data:datasets/{name}/{file}", "  ✓ Success", "")
        ),
        rule,
        "✓ Upload complete!",
        f"  Uploaded 3 file(s) to moe-lora-data:datasets/{name}/",
        rule,
    ]
    assert result.stderr == f"Next: moe-router train --backend modal --dataset-dir /datasets/{name}\n"
    assert len(volume.files) == 3


def test_dry_run_needs_no_token_and_never_loads_modal(dataset):
    program = (
        "import sys\n"
        "from entrypoints.cli import main\n"
        f"try: main(['publish', {str(dataset)!r}, '--latest', '--dry-run'])\n"
        "except SystemExit as e: print('MODAL', 'modal' in sys.modules, e.code)\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("MODAL_")} | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert "MODAL False 0" in result.stdout
    assert f"Would upload val.jsonl -> moe-lora-data:datasets/{dataset.name}/val.jsonl" in result.stdout
    assert "moe-lora-data:datasets/routing_latest/metadata.json" in result.stdout
    assert "Dry run: nothing was uploaded" in result.stdout


def test_every_file_is_hashed_once(modal_fake, dataset, monkeypatch):
    modal_fake.volumes.create("moe-lora-data")
    publishable, calls = LocalDatasetFolders.publishable, []
    monkeypatch.setattr(
        LocalDatasetFolders, "publishable", lambda *args, **more: [calls.append(args), publishable(*args, **more)][1]
    )
    assert run("publish", dataset).exit_code == 0
    assert len(calls) == 1


def test_json_reports_tell_files_hashes_and_outcomes(modal_fake, dataset):
    modal_fake.volumes.create("v")
    planned = json.loads(run("publish", dataset, "--dry-run", "--json", "--volume", "v").stdout)
    assert planned["dry_run"]
    assert [file["outcome"] for file in planned["files"]] == ["planned"] * 3
    done = json.loads(run("publish", dataset, "--json", "--volume", "v").stdout)
    again = json.loads(run("publish", dataset, "--json", "--volume", "v").stdout)
    assert [file["outcome"] for file in done["files"]] == ["uploaded"] * 3
    assert [file["outcome"] for file in again["files"]] == ["already there"] * 3
    assert [file["sha256"] for file in done["files"]] == [file["sha256"] for file in planned["files"]]


def test_a_place_where_training_never_looks_is_said_to_be_one(modal_fake, dataset):
    for name in ("v", "moe-lora-data"):
        modal_fake.volumes.create(name)
    note = "note: containers look for data sets in moe-lora-data:datasets/ only"
    for options in (["--volume", "v"], ["--remote-dir", "elsewhere"]):
        told = run("publish", dataset, *options).stderr
        assert note in told
        assert "Next: moe-router train" not in told
    assert "note:" not in run("publish", dataset).stderr
    there = moe_router("publish", dataset, "--force", MOE_ROUTER_MODAL_DATA_VOLUME="v")
    assert (there.returncode, "note:" in there.stderr) == (0, False), there.stderr


def test_publish_list_download(modal_fake, dataset, tmp_path):
    run("publish", dataset, "--latest", "--create-volume")
    listed = run("datasets").stdout.splitlines()
    assert listed[1].split()[:5] == ["*", dataset.name, "12", "6", "0"]
    assert json.loads(run("datasets", "--json").stdout)["datasets"][0]["latest"]
    result = run("download", "routing_latest", tmp_path / "copy")
    assert "verified against the hashes in its metadata.json" in result.stdout
    assert {p.name: p.read_bytes() for p in (tmp_path / "copy").iterdir()} == dataset_files(with_eval=False)


def test_a_router_is_downloaded_when_it_is_sound(modal_fake, tmp_path, ended):
    from adapters.router.safetensors_router_store import to_bytes
    from tests.router_world import router_world

    content = to_bytes(router_world().assembled())
    volume = modal_fake.volumes.create("routing-output")
    volume.files = {"router-head.safetensors": content, "bad.safetensors": content[:-1] + b"?"}
    run("download", "router-head.safetensors", tmp_path / "r.safetensors")
    assert (tmp_path / "r.safetensors").read_bytes() == content
    refused = ended("download", "bad.safetensors", tmp_path / "bad.safetensors")
    assert refused.returncode == 3
    assert not (tmp_path / "bad.safetensors").exists()


def one_line(result, code, *parts):
    assert result.returncode == code, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr
    assert "as-fake" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("token", "message"),
    [(None, "there are no Modal credentials (run `modal setup`"), ("as-expired", "wrong or has expired")],
)
def test_bad_credentials_are_one_line(modal_fake, dataset, token, message):
    environment = {"MODAL_TOKEN_ID": token and "ak-fake", "MODAL_TOKEN_SECRET": token}
    one_line(moe_router("publish", dataset, **environment), 5, message)


def test_an_unreachable_server_is_one_line(modal_fake, dataset):
    one_line(moe_router("publish", dataset, MODAL_SERVER_URL="http://127.0.0.1:1"), 5, "Connection refused")


def test_a_silent_server_is_one_line(modal_fake, dataset):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        one_line(moe_router("publish", dataset, MODAL_SERVER_URL=address), 5, "did not answer")


def test_a_missing_volume_and_a_missing_data_set_are_one_line_each(modal_fake, dataset, tmp_path, ended):
    one_line(ended("datasets", "--volume", "typo"), 5, "typo: no such Modal volume")
    modal_fake.volumes.create("moe-lora-data")
    one_line(ended("download", "nowhere", tmp_path / "x"), 5, "no such data set", "moe-router datasets")
    one_line(ended("publish", tmp_path / "none", "--dry-run"), 2, "no such data set folder")


def test_other_content_is_refused_before_anything_changes(modal_fake, dataset, ended):
    volume = modal_fake.volumes.create("moe-lora-data")
    volume.files = {f"datasets/{dataset.name}/{n}": d for n, d in published(dataset_files("other")).items()}
    one_line(ended("publish", dataset), 1, "other content", "force its replacement (--force)")
    assert volume.history == []


def test_a_data_set_that_was_changed_after_generation_is_refused(dataset, ended):
    (dataset / "val.jsonl").write_bytes(b"{}\n")
    one_line(ended("publish", dataset, "--dry-run"), 3, "val.jsonl disagree with the hashes in metadata.json")


def test_modals_own_commands_see_and_fetch_what_lies_on_the_volumes(modal_fake, dataset, tmp_path):
    modal_fake.volumes.create("routing-output").files = {"router-head.safetensors": b"router"}
    run("publish", dataset, "--create-volume")
    modal = [sys.executable, "-m", "modal", "volume"]
    listed = subprocess.run(
        [*modal, "ls", "moe-lora-data", f"datasets/{dataset.name}", "--json"], capture_output=True, check=True
    )
    names = {Path(each["filename"]).name for each in json.loads(listed.stdout)}
    assert names == {"train.jsonl", "val.jsonl", "metadata.json"}
    target = tmp_path / "router-head.safetensors"
    fetch = [*modal, "get", "routing-output", "router-head.safetensors", str(target)]
    subprocess.run(fetch, capture_output=True, check=True)
    assert target.read_bytes() == b"router"
