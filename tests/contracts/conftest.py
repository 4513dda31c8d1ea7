from __future__ import annotations

import pytest

from tests.router_world import RouterWorld, router_world


@pytest.fixture(scope="session")
def world() -> RouterWorld:
    return router_world()
