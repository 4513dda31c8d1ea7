"""Modal's own command line on this app: a dead or silent network is one line within seconds, not minutes."""

import socket

import pytest

from adapters.modal_cloud import modal_connection
from adapters.modal_cloud.modal_connection import ModalConnection
from domain.errors import RemoteError
from entrypoints.on_modal import first_contact
from tests.modal_fake.server import HANG
from tests.modal_world import run

RUN = ["modal", "run", "-m", "entrypoints.modal_app", "--mode", "eval"]


@pytest.mark.parametrize(
    ("words", "gpu"),
    [
        (["--gpu", "T4", "--gpu=L4"], "L4"),
        (["--gpu=L4", "--gpu", "T4"], "T4"),
        (["--gpus=A10", "--gpu"], None),
    ],
)
def test_the_last_value_of_an_option_counts_as_in_modals_command_line(monkeypatch, words, gpu):
    monkeypatch.setattr(first_contact, "_in_modals_command_line", lambda: True)
    monkeypatch.setattr("sys.argv", [*RUN, *words])
    assert first_contact.modal_run_option("--gpu") == gpu


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


def one_line(result, words):
    assert (result.returncode, result.stdout) == (5, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("moe-router: ")
    assert words in result.stderr


@pytest.mark.parametrize("command", [RUN, ["modal", "serve", "-m", "entrypoints.modal_app::tensorboard"]])
def test_an_unreachable_modal_is_one_line_at_once(modal_fake, nobody, command):
    one_line(run(*command, limit=50, MODAL_SERVER_URL=nobody), "Modal cannot be reached: Connection refused")


def test_any_of_the_clients_servers_will_do_and_credentials_come_before_the_network(modal_fake, monkeypatch, nobody):
    from modal.config import DEFAULT_SERVER_URL, config

    assert "," in DEFAULT_SERVER_URL  # else there is nothing to split
    monkeypatch.setenv("MODAL_SERVER_URL", f"{nobody}, {config['server_url']}")
    assert ModalConnection()._require_reachable() == 1
    monkeypatch.setenv("MODAL_SERVER_URL", f"{nobody},{nobody}")
    with pytest.raises(RemoteError, match=r"^127\.0\.0\.1:\d+: Modal cannot be reached: Connection refused"):
        ModalConnection().open()
    monkeypatch.delenv("MODAL_TOKEN_SECRET")
    with pytest.raises(RemoteError, match=r"there are no Modal credentials .*`modal setup`"):
        ModalConnection().open()


def test_a_proxy_that_cannot_be_used_is_named_as_the_cause(modal_fake, monkeypatch, nobody):
    monkeypatch.setattr(modal_connection, "proxy_bypass", lambda host: host == "modal.example")
    monkeypatch.setattr(modal_connection, "find_spec", lambda name: None if name not in there else name)
    connection, there = ModalConnection({"HTTP_PROXY": nobody}), []
    with pytest.raises(
        RemoteError, match=r"a proxy is set, .* is missing \(pip install 'modal\[api-proxy-support\]'"
    ):
        connection.open()
    there.append("python_socks")
    with pytest.raises(RemoteError, match="the proxy cannot be reached: Connection refused"):
        connection.open()


def test_a_silent_modal_is_one_line_in_seconds(modal_fake):
    with modal_fake.fault(HANG, times=None):
        one_line(run(*RUN, limit=50), "Modal did not answer within 2.5 s")
    assert not modal_fake.requests("AppCreate")


def test_refused_credentials_are_one_line(modal_fake):
    one_line(run(*RUN, limit=50, MODAL_TOKEN_ID="ak-old"), "`modal setup`")


def test_help_needs_no_modal(modal_fake, nobody):
    result = run(*RUN, "--help", limit=50, MODAL_SERVER_URL=nobody)
    assert result.returncode == 0
    assert "--dataset-dir" in result.stdout
