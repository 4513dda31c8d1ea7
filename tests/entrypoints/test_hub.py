"""Sharing a router on the hub and using it from there, against a hub on this machine."""

import json

import pytest
from huggingface_hub import constants

from domain.errors import RemoteError, UsageError
from entrypoints.bootstrap import Application
from entrypoints.cli import main
from tests.hub_fake import running_hub
from tests.router_world import router_world


@pytest.fixture(scope="module")
def running():
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(running, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", running.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    running.commits.clear()
    running.private.clear()
    return running


@pytest.fixture
def router(tmp_path):
    made = router_world().assembled()
    Application().routers.save(made, tmp_path / "r.safetensors")
    return tmp_path / "r.safetensors"


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_a_router_goes_to_the_hub_and_is_used_from_there(hub, router, capsys):
    code, out, err = run(capsys, "push-to-hub", router, "me/support-router")
    assert code == 0, err
    assert out.startswith(f"✓ hf://me/support-router holds this router now: {hub.url}/me/support-router/commit/")
    assert err.endswith("Next: moe-router describe hf://me/support-router\n")
    assert hub.private == {"me/support-router"}
    first, files = hub.newest("me/support-router")
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]

    described = run(capsys, "describe", "hf://me/support-router")
    assert described[2].startswith("Next: moe-router route --router hf://me/support-router"), "no progress bars"
    described = json.loads(run(capsys, "describe", "hf://me/support-router", "--json")[1])
    assert described["sha256"] == Application().routers.load(router).sha256

    other = router_world().assembled(seed=7)
    Application().routers.save(other, router)
    assert run(capsys, "push-to-hub", router, "hf://me/support-router", "--json")[0] == 0
    assert json.loads(run(capsys, "describe", "hf://me/support-router", "--json")[1])["seed"] == 7
    assert json.loads(run(capsys, "describe", f"hf://me/support-router@{first}", "--json")[1])["seed"] != 7


def test_public_is_only_what_is_asked_for(hub, router, capsys):
    assert run(capsys, "push-to-hub", router, "me/open", "--public")[0] == 0
    assert hub.private == set()


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("hf://me/nothing", RemoteError, "not on the hub, or private"),
        ("hf://me", UsageError, "hf://OWNER/NAME"),
        ("hf://me/empty", FileNotFoundError, "not a router: it has no model.safetensors"),
    ],
)
def test_what_is_not_there_is_said(hub, tmp_path, name, error, says):
    hub.commits["me/empty"] = {}
    hub.commit("me/empty", {"README.md": b"nothing"})
    with pytest.raises(error, match=says):
        Application().routers.load(tmp_path.__class__(name))


def test_without_rights_and_without_a_hub_it_is_one_line(hub, router, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    code, out, err = run(capsys, "push-to-hub", router, "me/mine")
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert "the hub refuses this" in err
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, out, err = run(capsys, "push-to-hub", router, "me/mine")
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert "the hub cannot be reached" in err
    code, _, err = run(capsys, "push-to-hub", router, "mine")
    assert (code, err.count("\n")) == (2, 1)


def test_a_router_is_not_written_to_the_hub_by_its_name_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "train", "--dataset-dir", "d", "--router-out", "hf://me/x")
    assert code == 2
    assert "moe-router push-to-hub" in err or "d/train.jsonl" in err
