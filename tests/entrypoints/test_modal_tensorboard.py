"""TensorBoard on Modal: behind a proxy token, and following the volume."""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from adapters.metrics.tensorboard_mirror import LogMirror

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


def test_modal_serve_shows_the_runs_on_the_volume_and_asks_for_a_token(modal_fake, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "router_1") as writer:
        writer.add_scalar("loss/eval", 0.5, 1)
    (events,) = (tmp_path / "router_1").iterdir()
    output = modal_fake.volumes.create("routing-output")
    output.files = {f"tensorboard/router_1/{events.name}": events.read_bytes()}
    command = [sys.executable, "-m", "modal", "serve", "--timeout", "60", "-m", "entrypoints.modal_app::tensorboard"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT) as serving:
        try:
            while not (served := modal_fake.functions.named("tensorboard_ui")) or not served[-1].definition:
                assert serving.poll() is None, serving.communicate()
                time.sleep(0.05)
            assert served[-1].definition.webhook_config.requires_proxy_auth
            with urllib.request.urlopen(f"{served[-1].web_url}/data/runs", timeout=60) as answer:
                assert answer.read() == b'["router_1"]'
        finally:
            serving.terminate()
