"""The application on one machine: what a container composes, too."""

from __future__ import annotations

from attrs import mutable

from entrypoints.wiring.datasets import DatasetParts
from entrypoints.wiring.serving import ServingParts
from entrypoints.wiring.training import TrainingParts


@mutable(slots=False)
class LocalApplication(DatasetParts, TrainingParts, ServingParts):
    """Builds use cases out of ports and adapters; contacts no other machine, but for a base model named by hub id.

    Every method builds one use case or adapter and imports what it needs when it is called, so that nothing heavy
    loads before it is used. To replace a dependency, subclass and override its method.

    Attributes:
        environment: environment variables; flags override them, they override defaults.
    """
