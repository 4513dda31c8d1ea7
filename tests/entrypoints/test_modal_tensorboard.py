"""TensorBoard on Modal: opened in a browser by a key, and following the volume; or served here."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from adapters.in_memory.publishing import InMemoryRemoteDatasetStore
from adapters.metrics.keyed_access import KeyedAccess
from adapters.metrics.tensorboard_mirror import LogMirror, RemoteLogs

ROOT = Path(__file__).parents[2]


class Volume:
    def __init__(self, busy=False):
        self.reloads, self.busy = 0, busy

    def reload(self):
        self.reloads += 1
        if self.busy:
            raise RuntimeError("there are open files preventing the operation")


def test_the_mirror_appends_what_is_new_so_that_open_files_stay_valid(tmp_path):
    source, target = tmp_path / "volume", tmp_path / "mirror"
    (source / "run").mkdir(parents=True)
    (source / "run" / "events").write_bytes(b"one")
    mirror = LogMirror(Volume(), source, target, fresh=0.0)
    mirror.update()
    with (target / "run" / "events").open("rb") as reading:
        assert reading.read() == b"one"
        (source / "run" / "events").write_bytes(b"one two")
        mirror.update()
        assert reading.read() == b" two"
    assert mirror.volume.reloads == 2


def test_the_mirror_does_not_reload_more_often_than_asked(tmp_path):
    mirror = LogMirror(Volume(), tmp_path, tmp_path / "m", fresh=3600)
    for _ in range(3):
        mirror.update()
    assert mirror.volume.reloads == 1


def test_a_volume_that_is_busy_is_reloaded_the_next_time(tmp_path):
    mirror = LogMirror(Volume(busy=True), tmp_path, tmp_path / "m", fresh=0.0)
    mirror.update()
    mirror.update()
    assert mirror.volume.reloads == 2


class NoRedirect(urllib.request.HTTPErrorProcessor):
    def http_response(self, request, response):
        return response


def asked(access, query="", cookie=""):
    """Return the status and the headers of an answer."""
    seen = {}

    def start(status, headers):
        seen.update(headers, status=status[:3])

    list(access({"QUERY_STRING": query, "HTTP_COOKIE": cookie, "PATH_INFO": "/"}, start))
    return seen


def test_a_key_opens_once_and_becomes_a_cookie():
    told = []

    def curves(environ, start_response):
        start_response("200 OK", [])
        return [b"curves"]

    access = KeyedAccess(curves, "https://x", told.append)
    key = access.key
    assert told == [f"TensorBoard: open https://x/?key={key} (works once)"]
    assert [asked(access, query)["status"] for query in ("", "key=", "key=wrong")] == ["403"] * 3
    answer = asked(access, f"key={key}")
    assert (answer["status"], answer["Location"]) == ("303", "/")
    cookie = answer["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert asked(access, cookie=cookie.split(";")[0])["status"] == "200"
    assert asked(access, cookie="moe-router=guess")["status"] == "403"
    assert asked(access, f"key={key}")["status"] == "403"
    assert len(told) == 2


def test_logs_elsewhere_are_copied_here_and_go_on_growing(tmp_path):
    store = InMemoryRemoteDatasetStore()
    store.files = {"tensorboard/run/events.tfevents.1": b"one", "tensorboard/run/other": b"x", "else/tfevents": b"y"}
    logs = RemoteLogs(store, "tensorboard", tmp_path, every=0.01)
    copied = tmp_path / "run" / "events.tfevents.1"
    with logs.followed() as found:
        assert (found, [path.name for path in tmp_path.rglob("*") if path.is_file()]) == (1, [copied.name])
        with copied.open("rb") as reading:
            assert reading.read() == b"one"
            store.files["tensorboard/run/events.tfevents.1"] = b"one two"
            end = time.monotonic() + 10
            while not (more := reading.read()):
                assert time.monotonic() < end
                time.sleep(0.01)
            assert more == b" two"


def test_modal_serve_shows_the_runs_on_the_volume_to_a_browser_that_brings_the_key(modal_fake, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "router_1") as writer:
        writer.add_scalar("loss/eval", 0.5, 1)
    (events,) = (tmp_path / "router_1").iterdir()
    output = modal_fake.volumes.create("routing-output")
    output.files = {f"tensorboard/router_1/{events.name}": events.read_bytes()}
    command = [sys.executable, "-m", "modal", "serve", "--timeout", "60", "-m", "entrypoints.modal_app::tensorboard"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as serving:
        try:
            while not (served := modal_fake.functions.named("tensorboard_ui")) or not served[-1].definition:
                assert serving.poll() is None, serving.communicate()
                time.sleep(0.05)
            url = served[-1].web_url
            recipe = "\n".join(modal_fake.apps.recipe(served[-1].definition.image_id))
            assert "tensorboard==" in recipe
            assert "torch==" not in recipe  # it starts in seconds
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"{url}/data/runs", timeout=60)
            key = next(line for line in serving.stdout if "?key=" in line).split("?key=")[1].split()[0]
            opened = urllib.request.build_opener(NoRedirect).open(f"{url}/?key={key}", timeout=60)
            cookie = opened.headers["Set-Cookie"].split(";")[0]
            asking = urllib.request.Request(f"{url}/data/runs", headers={"Cookie": cookie})
            with urllib.request.urlopen(asking, timeout=60) as answer:
                assert "router_1" in json.load(answer)
        finally:
            serving.send_signal(signal.SIGINT)
            serving.stdout.read()  # it says that it ends
    with pytest.raises(urllib.error.HTTPError, match="404"):  # Ctrl-C has stopped the app
        urllib.request.urlopen(f"{url}/data/runs", timeout=60)
