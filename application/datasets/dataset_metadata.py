"""What ``metadata.json`` says about a routing data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from application.datasets.dataset_request import GenerateRequest, ValidatedSource
from domain.conversations import ANSWER_COLUMNS, Layout, RejectReason, RowFormat
from domain.datasets import SCHEMA_VERSION, SourceAccount
from domain.errors import DataRejectedError
from domain.labels import LabelMap
from domain.printable import printable
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample
from domain.split import Split
from domain.turns import TurnChoice


def dataset_metadata(
    request: GenerateRequest,
    created_at: datetime,
    splits: Mapping[Split, Sequence[RoutingSample]],
    accounts: Sequence[SourceAccount],
    validated: Sequence[ValidatedSource],
    answers: Sequence[ReferenceAnswer] = (),
) -> dict[str, Any]:
    """Return the metadata as plain JSON values, without the files' hashes (the store adds them).

    The first eight keys are the ones that the original scripts wrote and others read; their meaning is fixed.
    """
    train, val, held_out = (len(splits[split]) for split in (Split.TRAIN, Split.VAL, Split.EVAL))
    labels = request.labels
    metadata: dict[str, Any] = {
        "dataset_name": request.prefix,
        "created_at": created_at.replace(tzinfo=None).isoformat(timespec="microseconds"),
        "seed": request.seed,
        "train_val_split": request.train_val_split,
        "adapters": {
            source.adapter: {"label": label, "source_dataset": printable(source.path)}
            for label, source in enumerate(request.sources)
        },
        "samples": {"train": train, "val": val, "eval": held_out, "total": train + val + held_out},
        "label_distribution_train": _distribution(labels, splits[Split.TRAIN]),
        "label_distribution_val": _distribution(labels, splits[Split.VAL]),
        "label_distribution_eval": _distribution(labels, splits[Split.EVAL]),
        "turn": str(request.turn),
        "schema_version": SCHEMA_VERSION,
        "tool_version": request.tool_version,
        "options": {
            "train_samples": request.train_samples,
            "eval_samples": request.eval_samples,
            "allow_fewer": request.allow_fewer,
            "row_format": {source.adapter: format_as_json(source.format) for source in request.sources},
            "read_as": {source.adapter: source.read_as for source in request.sources},
            "more_sources": {source.adapter: [printable(one) for one in source.more] for source in request.sources},
            "line_limit": {source.adapter: source.line_limit for source in request.sources},
        },
        "accounting": {account.adapter: account_as_json(account) for account in accounts},
    }
    if counts := answer_counts(request, answers):
        metadata["reference_answers"] = counts
    if validated:
        metadata["validation"] = {found.adapter: validated_as_json(found) for found in validated}
    return metadata


def answer_counts(request: GenerateRequest, answers: Sequence[ReferenceAnswer]) -> dict[str, int]:
    """Return how many held-out rows of each adapter have a reference answer; nothing where none were to be kept."""
    if not (request.answers and request.eval_samples):
        return {}
    counts = Counter(one.adapter for one in answers)
    return {name: counts[name] for name in request.labels.names}


def turn_of(metadata: Mapping[str, Any]) -> TurnChoice:
    """Return which human turns a data set was made of; one that does not say it was made of the first.

    Raises:
        DataRejectedError: no such rule is known.
    """
    turn = metadata.get("turn")
    if turn is None:
        options = metadata.get("options")
        turns = options.get("turn") if isinstance(options, dict) else None  # where an older version said it
        said = set(map(str, turns.values())) if isinstance(turns, dict) else set()
        turn = said.pop() if len(said) == 1 else TurnChoice.FIRST
    try:
        return TurnChoice(turn)
    except ValueError:
        known = ", ".join(TurnChoice)
        raise DataRejectedError(f"metadata has the unknown turn {turn!r}", hint=f"known: {known}") from None


def account_as_json(account: SourceAccount) -> dict[str, Any]:
    """Return one source's accounting as plain JSON values."""
    return {
        "lines": account.lines,
        "drawn": account.drawn,
        "kept": account.kept,
        "blank": account.blank,
        "rejected": {str(reason): count for reason, count in account.rejected.items()},
        "duplicates": account.duplicates,
        "conflicts": account.conflicts,
        "surplus": account.surplus,
        "not_drawn": account.not_drawn,
    }


def account_from_json(adapter: str, stored: Mapping[str, Any]) -> SourceAccount:
    """Return what :func:`account_as_json` was given; raises KeyError, TypeError or ValueError for anything else."""
    rejected = {RejectReason(reason): _count(count) for reason, count in stored["rejected"].items()}
    counts = {name: _count(stored[name]) for name in _COUNTS}
    account = SourceAccount(adapter, rejected=rejected, **counts)
    if account.not_drawn != stored["not_drawn"]:
        raise ValueError(f"{stored['not_drawn']} lines not drawn, of {account.lines} {account.drawn} were")
    return account


_COUNTS = ("lines", "drawn", "kept", "blank", "duplicates", "conflicts", "surplus")


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a number of lines")
    return value


def validated_as_json(found: ValidatedSource) -> dict[str, Any]:
    """Return what parsing every line of one source found as plain JSON values."""
    return {
        "lines": found.lines,
        "usable": found.usable,
        "blank": found.blank,
        "rejected": {str(reason): count for reason, count in found.rejected.items()},
    }


def format_as_json(row_format: RowFormat) -> dict[str, Any]:
    """Return a row format as plain JSON values."""
    return {
        "layout": str(row_format.layout),
        "columns": list(row_format.columns),
        "role_tags": list(row_format.role_tags),
        "content_tags": list(row_format.content_tags),
        "user_roles": sorted(row_format.user_roles),
        "other_roles": sorted(row_format.other_roles),
        "answers": list(row_format.answers),
        "otherwise": [format_as_json(other) for other in row_format.otherwise],
    }


def format_from_json(stored: Mapping[str, Any]) -> RowFormat:
    """Return what :func:`format_as_json` was given; raises KeyError, TypeError or ValueError for anything else."""
    return RowFormat(
        layout=Layout(stored["layout"]),
        columns=tuple(stored["columns"]),
        role_tags=tuple(stored["role_tags"]),
        content_tags=tuple(stored["content_tags"]),
        user_roles=frozenset(stored["user_roles"]),
        other_roles=frozenset(stored["other_roles"]),
        answers=tuple(stored.get("answers", ANSWER_COLUMNS)),
        otherwise=tuple(map(format_from_json, stored.get("otherwise", ()))),
    )


def _distribution(labels: LabelMap, rows: Sequence[RoutingSample]) -> dict[str, int]:
    counts = Counter(row.adapter for row in rows)
    return {name: counts[name] for name in labels.names}
