"""What the Hugging Face hub's client raises, in our words."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from domain.errors import MoeRouterError, RemoteError, StorageError

_OF_THE_DISK: Final = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def hub_errors(what: str, where: str, otherwise: str) -> Iterator[None]:
    """Turn what goes wrong between us and the hub into RemoteError, and a disk that refuses into StorageError.

    The hub's progress bars are for terminals only.

    Args:
        what: kind of repository, for example "data set".
        where: its name.
        otherwise: what to do without the hub.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except MoeRouterError:
        raise
    except GatedRepoError as error:
        raise RemoteError(f"the {what} is gated", where=where, hint="accept its terms and set HF_TOKEN") from error
    except LocalTokenNotFoundError as error:
        raise RemoteError("the hub wants to know who you are", where=where, hint="set HF_TOKEN") from error
    except LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError
        raise _unreachable(where, otherwise) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise RemoteError("not on the hub, or private", where=where, hint="check the name and HF_TOKEN") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 500)
        if status >= 500:
            raise _unreachable(where, otherwise) from error
        raise RemoteError(
            f"the hub refuses this (status {status})", where=where, hint="check HF_TOKEN and its rights"
        ) from error
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise StorageError(f"cannot keep the {what}: {error.strerror}", where=error.filename or where) from error
        raise _unreachable(where, otherwise) from error
    except OfflineModeIsEnabled as error:
        raise _unreachable(where, otherwise) from error
    except Exception as error:  # the transport's own errors (httpx), which the hub's client lets through
        if not type(error).__module__.startswith(("httpx", "httpcore")):  # httpx2, too
            raise
        raise _unreachable(where, otherwise) from error


def _unreachable(where: str, otherwise: str) -> RemoteError:
    return RemoteError("the hub cannot be reached", where=where, hint=f"check the network, or {otherwise}")
