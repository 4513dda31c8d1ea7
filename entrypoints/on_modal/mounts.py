"""The volumes of the apps, as containers see them."""

from __future__ import annotations

from typing import Final

import modal
from attrs import frozen

from entrypoints.on_modal.places import DATASETS_FOLDER
from entrypoints.on_modal.places import VOLUMES as PLACES

_WRITTEN: Final = ("/output", "/cache")


@frozen
class Mounts:
    """Volumes by the path at which a container sees them; those that it writes are not read-only."""

    at: dict[str, modal.Volume]

    @classmethod
    def of(cls, data_volume: str) -> Mounts:
        """Return the volumes; they are made when an app first uses them.

        Args:
            data_volume: the one with data sets. Its files lie in a folder, which is what is mounted: else they would
                appear at ``/datasets/datasets/…``.
        """
        every = {
            path: modal.Volume.from_name(name, create_if_missing=True)
            for path, name in {"/datasets": data_volume, **PLACES}.items()
        }
        return cls(
            {
                **{path: volume.with_mount_options(read_only=True) for path, volume in every.items()},
                "/datasets": every["/datasets"].with_mount_options(sub_path=DATASETS_FOLDER, read_only=True),
                **{path: every[path] for path in _WRITTEN},
            }
        )

    @property
    def written(self) -> tuple[modal.Volume, ...]:
        """Those that containers write."""
        return tuple(self.at[path] for path in _WRITTEN)

    @property
    def read(self) -> tuple[modal.Volume, ...]:
        """Those that containers only read."""
        return tuple(volume for path, volume in self.at.items() if path not in _WRITTEN)
