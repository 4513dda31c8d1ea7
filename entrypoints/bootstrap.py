"""The composition root: the one place where ports meet their adapters."""

from __future__ import annotations

from attrs import mutable

from entrypoints.wiring.datasets import DatasetParts
from entrypoints.wiring.serving import ServingParts
from entrypoints.wiring.training import TrainingParts


@mutable(slots=False)
class Application(DatasetParts, TrainingParts, ServingParts):
    """Builds use cases out of ports and adapters.

    Every method builds one use case or adapter and imports what it needs when it is called, so that nothing heavy
    loads before it is used. To replace a dependency, subclass and override its method.

    Attributes:
        environment: environment variables; flags override them, they override defaults.
    """
