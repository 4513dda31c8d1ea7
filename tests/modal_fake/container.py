"""One container: a function body runs in modal's own container runtime, each in a process of its own.

A container sees its volumes at their mount paths through a mount namespace (``unshare``, no privileges needed) as
private copies: what it writes reaches the volume with a commit only, and what others commit reaches it with a
reload only. A container that a signal kills counts as preempted: its input starts again in a new one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpclib.server
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as pb

from tests.modal_fake.blobs import new_id
from tests.modal_fake.calls import Call, Function, Input
from tests.modal_fake.images import hidden
from tests.modal_fake.volumes import Volume

# A throw-away root in a mount namespace, so that /datasets, /output, … exist for that process only.
NAMESPACE = r"""set -e
new=$1; cwd=$2; binds=$3; shift 3
mkdir -p "$new"; mount -t tmpfs tmpfs "$new"
for d in /* ; do
  if [ -L "$d" ]; then ln -s "$(readlink "$d")" "$new$d"
  elif [ -d "$d" ]; then mkdir -p "$new$d"; mount --rbind "$d" "$new$d" 2>/dev/null || true
  fi
done
IFS=,; for b in $binds; do src=${b%%=*}; rest=${b#*=}; dst=${rest%%=*}; mode=${rest#*=}
  mkdir -p "$new$dst"; mount --bind "$src" "$new$dst"
  [ "$mode" = rw ] || mount -o remount,bind,ro "$new$dst"; done; unset IFS
exec chroot "$new" env -C "$cwd" "$@"
"""

START = Path(__file__).with_name("container_start.py")
IDLE_SECONDS = 60  # as Modal's own default


class Container:
    """One running container of a function."""

    def __init__(self, fake: Any, function: Function) -> None:
        self.id = new_id("ta")
        self.function = function
        self._fake = fake
        self._folder = fake.root / self.id
        self._known: dict[str, dict[str, bytes]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self.running: dict[str, tuple[Call, Input]] = {}
        self.cancelled: asyncio.Queue[list[str]] = asyncio.Queue()
        self.result: Any = None
        self._preempted = False
        self.finished = asyncio.get_running_loop().create_task(self._run())

    # Volumes

    def commit(self, volume: Volume) -> None:
        """Bring what this container changed since its last look into the volume, in one step."""
        now = self._read(volume)
        known = self._known.get(volume.id, {})
        changed = {path: data for path, data in now.items() if known.get(path) != data}
        volume.change(changed, remove=tuple(path for path in known if path not in now))
        volume.commits += 1
        self._known[volume.id] = now

    @property
    def idle_seconds(self) -> float:
        """How long it waits for another input before it ends."""
        return self.function.definition.autoscaler_settings.scaledown_window or IDLE_SECONDS

    def open_files(self, volume: Volume) -> list[str]:
        """Return the volume's files that this container's process holds open, or in its memory as they are."""
        assert self._process is not None
        folder, process = self._folder / volume.id, Path(f"/proc/{self._process.pid}")
        here = {(s.st_dev, s.st_ino): str(p) for p in folder.rglob("*") if p.is_file() for s in [p.stat()]}
        found = []
        for descriptor in process.glob("fd/*"):
            with suppress(OSError):
                status = descriptor.stat()
                found.append(here.get((status.st_dev, status.st_ino), ""))
        mapped = {int(line.split()[4]) for line in (process / "maps").read_text().splitlines()}
        found += [path for (_, inode), path in here.items() if inode in mapped]
        return [path for path in found if path]

    def reload(self, volume: Volume) -> None:
        """Bring the volume's state into this container; raises when it holds a file of it open, as Modal does."""
        if self.open_files(volume):
            raise GRPCError(Status.FAILED_PRECONDITION, "there are open files preventing the operation")
        self.commit(volume)
        volume.commits -= 1
        volume.reloads += 1
        self._check_out(volume)

    def _read(self, volume: Volume) -> dict[str, bytes]:
        folder = self._folder / volume.id
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def _check_out(self, volume: Volume) -> None:
        folder = self._folder / volume.id
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in volume.files.items():
            target = folder / path
            if not target.is_file() or target.read_bytes() != data:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        for path in set(self._read(volume)) - set(volume.files):
            (folder / path).unlink()
        self._known[volume.id] = dict(volume.files)

    def _binds(self) -> str:
        binds = []
        for mount in self.function.definition.volume_mounts:
            volume = self._fake.volumes.by_id(mount.volume_id)
            self._check_out(volume)
            source = self._folder / volume.id / mount.sub_path.lstrip("/")
            source.mkdir(parents=True, exist_ok=True)
            binds.append(f"{source}={mount.mount_path}={'ro' if mount.read_only else 'rw'}")
        return ",".join(binds)

    # The process

    def _source(self) -> Path:
        """Write the shipped source files where the container finds them: below /root."""
        root = self._folder / "rootfs" / "root"
        root.mkdir(parents=True)
        for mount_id in self.function.definition.mount_ids:
            for file in self._fake.apps.mounts.get(mount_id, []):
                target = self._folder / "rootfs" / file.filename.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self._fake.blobs.by_sha256[file.sha256_hex])
        return root

    def _arguments(self) -> Path:
        path: Path = self._folder / "arguments.bin"
        arguments = pb.ContainerArguments(
            task_id=self.id,
            function_id=self.function.id,
            app_id=self.function.app_id,
            function_def=self.function.definition,
            app_layout=self._fake.apps.layout(self.function.app_id),
            environment_name="main",
        )
        path.write_bytes(arguments.SerializeToString())
        return path

    def _environment(self, source: Path, socket: Path) -> dict[str, str]:
        withheld = ("MODAL_", "HF_", "MOE_ROUTER_", "PYTEST_", "COV_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(withheld) and k != "PYTHONPATH"}
        environment |= self._fake.apps.variables(self.function.definition.image_id)
        for secret_id in self.function.definition.secret_ids:
            environment |= self._fake.apps.secrets[secret_id]
        return environment | {
            "FAKE_HIDDEN": hidden(self._fake.apps.recipe(self.function.definition.image_id)),
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": self.id,
            "MODAL_SERVER_URL": f"unix://{socket}",
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(self._arguments()),
            "MODAL_FUNCTION_RUNTIME": "fake",
            "MODAL_ENVIRONMENT": "main",
            "PYTHONPATH": str(source),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }

    async def _run(self) -> None:
        try:
            await self._run_process()
        except Exception as error:  # of the fake itself: nobody waits for this task
            self._fake.containers.forget(self)
            failed = pb.GenericResult(
                status=pb.GenericResult.GENERIC_STATUS_FAILURE, exception=f"the fake failed: {error!r}"
            )
            await self._fake.containers.fail_waiting(self, failed)

    async def _run_process(self) -> None:
        self._folder.mkdir(parents=True)
        source, socket, binds = self._source(), self._folder / "socket", self._binds()
        server = grpclib.server.Server([self._fake.service(self)])
        await server.start(path=str(socket))
        command = [sys.executable, "-P", str(START)]
        if binds:
            command = [
                "unshare",
                "-Urm",
                "sh",
                "-c",
                NAMESPACE,
                "sh",
                str(self._folder / "new"),
                str(source),
                binds,
                *command,
            ]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environment(source, socket),
            cwd=source,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        await asyncio.gather(
            self._pump(self._process.stdout, pb.FILE_DESCRIPTOR_STDOUT),
            self._pump(self._process.stderr, pb.FILE_DESCRIPTOR_STDERR),
        )
        code = await self._process.wait()
        server.close()
        self._fake.containers.forget(self)
        for call, entry in list(self.running.values()):
            await self._settle(call, entry, code)
        if not self.function.queue.empty() and not self._fake.apps.by_id[self.function.app_id].done:
            self._fake.containers.scale(self.function)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _pump(self, stream: Any, descriptor: int) -> None:
        while line := await stream.readline():
            await self._fake.apps.log(self.function, line.decode("utf-8", "replace"), descriptor, self.id)

    async def _settle(self, call: Call, entry: Input, code: int) -> None:
        """Decide about an input that was in work when the process ended."""
        if entry.index in call.outputs:  # cancelled
            return
        if self.result is None and (self._preempted or code < 0 or code == 128 + signal.SIGKILL):
            note = f"Container {self.id} preempted; restarting input\n"
            await self._fake.apps.log(self.function, note, pb.FILE_DESCRIPTOR_INFO, self.id)
            await self._fake.functions.enqueue(call, entry)
            return
        failed = pb.GenericResult(
            status=pb.GenericResult.GENERIC_STATUS_FAILURE,
            exitcode=code,
            exception=f"Container exited with code {code}",
        )
        item = pb.FunctionGetOutputsItem(
            idx=entry.index, input_id=entry.id, data_format=pb.DATA_FORMAT_PICKLE, result=self.result or failed
        )
        await self._fake.functions.deliver(call, entry, item)

    def time_out(self, input_id: str) -> None:
        if input_id in self.running and self._process is not None:
            self.result = pb.GenericResult(
                status=pb.GenericResult.GENERIC_STATUS_TIMEOUT,
                exception=f"Task's current input hit its timeout of {self.function.definition.timeout_secs}s",
            )
            self._process.kill()

    def preempt(self, number: int = signal.SIGINT) -> None:
        """Take the machine away: first a signal that asks nicely, as Modal does, or at once with SIGKILL."""
        self._preempted = True
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
