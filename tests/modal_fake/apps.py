"""Workspace, secrets, source mounts, image recipes, apps and their logs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from attrs import define, field
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as pb

from tests.modal_fake.blobs import new_id
from tests.modal_fake.images import unbuildable


@define
class App:
    """One app, running or deployed."""

    id: str
    name: str
    state: int
    function_ids: dict[str, str] = field(factory=dict)
    class_ids: dict[str, str] = field(factory=dict)
    logs: list[Any] = field(factory=list)
    changed: asyncio.Condition = field(factory=asyncio.Condition)
    deployed_as: str = ""
    created_at: float = field(factory=time.time)
    tags: dict[str, str] = field(factory=dict)

    @property
    def done(self) -> bool:
        return self.state == pb.APP_STATE_STOPPED

    @property
    def lifecycle(self) -> Any:
        return pb.AppLifecycle(app_state=self.state, created_at=self.created_at, version=1)


DETACHED = (pb.APP_STATE_DETACHED, pb.APP_STATE_DETACHED_DISCONNECTED)


class Apps:
    """The calls around apps and what they are made of."""

    def __init__(self, fake: Any) -> None:
        self._fake = fake
        self.by_id: dict[str, App] = {}
        self.images: dict[str, Any] = {}
        self.mounts: dict[str, list[Any]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.secret_names: dict[str, str] = {}

    def add_secret(self, name: str, values: dict[str, str]) -> None:
        """Keep a named secret, as ``modal secret create`` does."""
        self.secret_names[name] = new_id("st")
        self.secrets[self.secret_names[name]] = values

    def deployed(self, name: str) -> App | None:
        live = [a for a in self.by_id.values() if a.deployed_as == name and a.state == pb.APP_STATE_DEPLOYED]
        return live[-1] if live else None

    def lives(self, app_id: str) -> bool:
        """Whether there is such an app, and nobody has stopped it."""
        return app_id in self.by_id and not self.by_id[app_id].done

    # Workspace

    async def ClientHello(self, request: Any, container: Any) -> Any:
        return pb.ClientHelloResponse()

    async def TokenInfoGet(self, request: Any, container: Any) -> Any:
        return pb.TokenInfoGetResponse(workspace_name="fake")

    async def WorkspaceNameLookup(self, request: Any, container: Any) -> Any:
        return pb.WorkspaceNameLookupResponse(workspace_name="fake", username="fake")

    async def EnvironmentGetOrCreate(self, request: Any, container: Any) -> Any:
        settings = pb.EnvironmentSettings(image_builder_version="2025.06", webhook_suffix="")
        metadata = pb.EnvironmentMetadata(name="main", settings=settings)
        return pb.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    async def EnvironmentList(self, request: Any, container: Any) -> Any:
        return pb.EnvironmentListResponse(items=[pb.EnvironmentListItem(name="main", default=True)])

    async def AuthTokenGet(self, request: Any, container: Any) -> Any:
        def part(value: dict[str, Any]) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

        return pb.AuthTokenGetResponse(token=f"{part({'alg': 'none'})}.{part({'exp': int(time.time()) + 3600})}.x")

    async def ObjectSuggest(self, request: Any, container: Any) -> Any:
        return pb.ObjectSuggestResponse()

    async def SecretGetOrCreate(self, request: Any, container: Any) -> Any:
        if request.deployment_name:
            if request.deployment_name not in self.secret_names:
                raise GRPCError(Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found")
            return pb.SecretGetOrCreateResponse(secret_id=self.secret_names[request.deployment_name])
        secret_id = new_id("st")
        self.secrets[secret_id] = dict(request.env_dict)
        return pb.SecretGetOrCreateResponse(secret_id=secret_id)

    # What runs where

    async def MountGetOrCreate(self, request: Any, container: Any) -> Any:
        mount_id = new_id("mo")
        self.mounts[mount_id] = list(request.files)
        checksum = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        metadata = pb.MountHandleMetadata(content_checksum_sha256_hex=checksum)
        return pb.MountGetOrCreateResponse(mount_id=mount_id, handle_metadata=metadata)

    async def ImageGetOrCreate(self, request: Any, container: Any) -> Any:
        image_id = "im-" + hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()[:22]
        self.images[image_id] = request.image
        if problem := unbuildable(request.image.dockerfile_commands):
            failed = pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_FAILURE, exception=problem)
            return pb.ImageGetOrCreateResponse(image_id=image_id, result=failed)
        metadata = pb.ImageMetadata(image_builder_version=request.builder_version, python_version_info="3.11")
        return pb.ImageGetOrCreateResponse(
            image_id=image_id,
            result=pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_SUCCESS),
            metadata=metadata,
        )

    def recipe(self, image_id: str) -> list[str]:
        """Return the Dockerfile lines of an image, its bases' first."""
        image = self.images[image_id]
        bases = [line for base in image.base_images for line in self.recipe(base.image_id)]
        return bases + list(image.dockerfile_commands)

    def variables(self, image_id: str) -> dict[str, str]:
        """Return the environment variables that an image sets."""
        words = [word for line in self.recipe(image_id) if line.startswith("ENV ") for word in shlex.split(line[4:])]
        return dict(word.split("=", 1) for word in words)

    # Apps

    async def AppCreate(self, request: Any, container: Any) -> Any:
        app = App(new_id("ap"), request.description, request.app_state, tags=dict(request.tags))
        self.by_id[app.id] = app
        return pb.AppCreateResponse(app_id=app.id, app_page_url=f"https://fake/{app.id}")

    async def AppGetByDeploymentName(self, request: Any, container: Any) -> Any:
        app = self.deployed(request.name)
        if app is None:
            return pb.AppGetByDeploymentNameResponse(environment_name="main")
        return pb.AppGetByDeploymentNameResponse(app_id=app.id, environment_name="main", lifecycle=app.lifecycle)

    async def AppGetLifecycle(self, request: Any, container: Any) -> Any:
        return pb.AppGetLifecycleResponse(lifecycle=self.by_id[request.app_id].lifecycle)

    async def AppHeartbeat(self, request: Any, container: Any) -> Any:
        return Empty()

    async def AppGetLayout(self, request: Any, container: Any) -> Any:
        return pb.AppGetLayoutResponse(app_layout=self.layout(request.app_id))

    def layout(self, app_id: str) -> Any:
        app, functions = self.by_id[app_id], [f for f in self._fake.functions.of_app(app_id) if not f.variant_of]
        objects = [pb.Object(object_id=each.id, function_handle_metadata=each.metadata) for each in functions]
        needed = {d.object_id for each in functions if each.definition for d in each.definition.object_dependencies}
        for object_id in sorted(needed - {each.id for each in functions}):
            item = pb.Object(object_id=object_id)
            if object_id in self._fake.volumes:
                item.volume_metadata.CopyFrom(self._fake.volumes.by_id(object_id).metadata)
            if object_id in self.mounts:
                item.mount_handle_metadata.CopyFrom(pb.MountHandleMetadata(content_checksum_sha256_hex="0"))
            objects.append(item)
        for class_id in app.class_ids.values():
            objects.append(pb.Object(object_id=class_id, class_handle_metadata=pb.ClassHandleMetadata()))
        return pb.AppLayout(objects=objects, function_ids=app.function_ids, class_ids=app.class_ids)

    async def AppPublish(self, request: Any, container: Any) -> Any:
        app = self.by_id[request.app_id]
        app.function_ids, app.class_ids = dict(request.function_ids), dict(request.class_ids)
        app.state = request.app_state or app.state
        app.deployed_as = request.name or app.deployed_as
        app.tags = dict(request.tags) or app.tags
        return pb.AppPublishResponse(url=f"https://fake/{app.id}", deployed_at=time.time())

    async def AppClientDisconnect(self, request: Any, container: Any) -> Any:
        app = self.by_id[request.app_id]
        if app.state == pb.APP_STATE_EPHEMERAL or (app.state in DETACHED and not self._fake.functions.busy(app.id)):
            await self.stop(app.id)
        return Empty()

    async def AppGetOrCreate(self, request: Any, container: Any) -> Any:
        app = self.deployed(request.app_name)
        if app is None:
            raise GRPCError(Status.NOT_FOUND, f"App '{request.app_name}' not found")
        return pb.AppGetOrCreateResponse(app_id=app.id)

    async def AppGetTags(self, request: Any, container: Any) -> Any:
        return pb.AppGetTagsResponse(tags=self.by_id[request.app_id].tags)

    async def AppStop(self, request: Any, container: Any) -> Any:
        await self.stop(request.app_id)
        return Empty()

    async def stop(self, app_id: str) -> None:
        app = self.by_id[app_id]
        app.state = pb.APP_STATE_STOPPED
        await self._fake.functions.stop_app(app_id)
        await self._fake.containers.stop_app(app_id)
        async with app.changed:
            app.changed.notify_all()

    async def AppList(self, request: Any, container: Any) -> Any:
        return pb.AppListResponse(
            apps=[
                pb.AppListResponse.AppListItem(
                    app_id=app.id, description=app.name, name=app.deployed_as, state=app.state, created_at=1.0
                )
                for app in self.by_id.values()
            ]
        )

    async def TaskList(self, request: Any, container: Any) -> Any:
        return pb.TaskListResponse()

    # Logs

    async def log(self, function: Any, text: str, descriptor: int, container_id: str) -> None:
        app, now = self.by_id[function.app_id], time.time()
        line = pb.TaskLogs(data=text, file_descriptor=descriptor, timestamp=now, timestamp_ns=int(now * 1e9))
        app.logs.append(
            pb.TaskLogsBatch(
                task_id=container_id, function_id=function.id, entry_id=str(len(app.logs) + 1), items=[line]
            )
        )
        async with app.changed:
            app.changed.notify_all()

    async def AppGetLogs(self, request: Any, container: Any) -> AsyncIterator[Any]:
        app, position = self.by_id[request.app_id], int(request.last_entry_id or 0)
        end = time.monotonic() + (request.timeout or 0)
        while True:
            for batch in app.logs[position:]:
                position += 1
                yield batch
            if app.done:
                yield pb.TaskLogsBatch(app_done=True)
                return
            if time.monotonic() >= end:
                return
            with suppress(asyncio.TimeoutError):
                async with app.changed:
                    await asyncio.wait_for(app.changed.wait(), 0.2)

    async def AppFetchLogs(self, request: Any, container: Any) -> Any:
        return pb.AppFetchLogsResponse(batches=self.by_id[request.app_id].logs[-(request.limit or 1000) :])

    async def AppCountLogs(self, request: Any, container: Any) -> Any:
        return pb.AppCountLogsResponse(app_id=request.app_id)
