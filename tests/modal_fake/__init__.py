"""A fake of Modal's control plane on loopback, to drive the real modal client, CLI and container runtime offline.

It speaks Modal's own protocol (the message descriptors in ``modal_proto.api_pb2``), so nothing of modal's Python
code is replaced or patched: what the tests run is what users run, up to the wire. What is *not* covered: the
real servers, real GPUs, image builds (only the recipe is recorded), scheduling, billing.

`server.py` dispatches calls and injects faults; `volumes.py`, `apps.py`, `functions.py` answer them;
`container.py` runs a function body in modal's own container runtime, `containers.py` starts and ends them;
`calls.py` holds what a call is; `web.py` serves web endpoints.
"""

from tests.modal_fake.server import CREDENTIALS, FakeModal, running_fake

__all__ = ["CREDENTIALS", "FakeModal", "running_fake"]
