"""Content over plain http, as Modal's blob store does it, and ids."""

from __future__ import annotations

import hashlib
import secrets
import string
from typing import Any

import aiohttp.web
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as pb


def new_id(prefix: str) -> str:
    """Return an id of the form that the modal CLI accepts, such as ``ap-`` and 22 letters or digits."""
    return f"{prefix}-{''.join(secrets.choice(string.ascii_letters + string.digits) for _ in range(22))}"


class Blobs:
    """Blobs by id, and files by sha256.

    Attributes:
        status: http status of every answer; 200 unless a test breaks the store.
        corrupt: whether downloads come back with their first byte flipped.
    """

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.corrupt = False
        self._blobs: dict[str, bytes] = {}
        self.by_sha256: dict[str, bytes] = {}

    def routes(self) -> list[aiohttp.web.RouteDef]:
        return [aiohttp.web.put("/{key}", self._put), aiohttp.web.get("/{key}", self._get)]

    def publish(self, data: bytes) -> str:
        """Return an address from which `data` can be fetched."""
        key = new_id("bl")
        self._blobs[key] = bytes([data[0] ^ 1]) + data[1:] if self.corrupt and data else data
        return f"{self.url}/{key}"

    def read(self, blob_id: str) -> bytes:
        return self._blobs[blob_id]

    async def _put(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        if self.status != 200:
            return aiohttp.web.Response(status=self.status)
        data = await request.read()
        key = request.match_info["key"]
        self._blobs[key] = data
        if len(key) == 64:  # a volume's block: the address is its sha256
            self.by_sha256[key] = data
        return aiohttp.web.Response(body=b"stored", headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    async def _get(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        if self.status != 200:
            return aiohttp.web.Response(status=self.status)
        return aiohttp.web.Response(body=self._blobs[request.match_info["key"]])

    async def BlobCreate(self, request: Any, container: Any) -> Any:
        key = new_id("bl")
        url = f"{self.url}/{key}"
        return pb.BlobCreateResponse(
            blob_id=key, upload_url=url, blob_ids=[key], upload_urls=pb.UploadUrlList(items=[url])
        )

    async def BlobGet(self, request: Any, container: Any) -> Any:
        return pb.BlobGetResponse(download_url=f"{self.url}/{request.blob_id}")

    async def MountPutFile(self, request: Any, container: Any) -> Any:
        kind = request.WhichOneof("data_oneof")
        if kind:
            data = request.data if kind == "data" else self._blobs[request.data_blob_id]
            if hashlib.sha256(data).hexdigest() != request.sha256_hex:
                raise GRPCError(Status.INVALID_ARGUMENT, "sha256 mismatch")
            self.by_sha256[request.sha256_hex] = data
        return pb.MountPutFileResponse(exists=request.sha256_hex in self.by_sha256)

    async def MountBatchedCheckExistence(self, request: Any, container: Any) -> Any:
        missing = [each for each in request.sha256_hex_hashes if each not in self.by_sha256]
        return pb.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)
