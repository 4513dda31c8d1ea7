"""Rows to train on: read, checked against each other, and refused when no router can come out of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from application.datasets.dataset_metadata import turn_of
from application.ports import DatasetReader, PromptReader, TrainJob
from application.training.training_prompts import TrainingPrompts, training_prompts
from domain.errors import DataRejectedError, MismatchError, MissingFileError
from domain.labels import LabelMap
from domain.samples import RoutingSample, normalise_text
from domain.turns import TurnChoice


@frozen
class Companions:
    """Packaged texts that belong to no adapter and take part in every training.

    Attributes:
        background: phrases that accompany requests and ask for nothing.
        generic: prompts of many kinds that people send to assistants.
    """

    background: tuple[str, ...] = ()
    generic: tuple[str, ...] = ()


@frozen
class TrainingData:
    """Checked rows.

    Attributes:
        labels: which label means which adapter.
        train: training rows.
        val: validation rows.
        out_of_scope: prompts that the user gave as belonging to no adapter; may be empty.
        dataset: name of the routing data set: the folder's.
        sha256: hash of the training and validation rows.
        warnings: what a person should know about the rows.
        turn: which human turns of a conversation the rows were made of.
        prompts: all texts of the run: pieces of the rows, changed copies, prompts that belong to no adapter.
    """

    labels: LabelMap
    train: tuple[RoutingSample, ...]
    val: tuple[RoutingSample, ...]
    out_of_scope: tuple[str, ...]
    dataset: str
    sha256: str
    warnings: tuple[str, ...]
    turn: TurnChoice
    prompts: TrainingPrompts


def read_training_data(
    rows: DatasetReader, prompts: PromptReader, job: TrainJob, companions: Companions
) -> TrainingData:
    """Read and check what a job trains on.

    Raises:
        MissingFileError: a file is not there.
        DataRejectedError: a file cannot be used, or no router can come out of the rows: fewer than two
            adapters, labels with gaps, no validation rows.
        MismatchError: training and validation rows disagree on what a label means.
    """
    train, val = rows.read_rows(job.train_path), rows.read_rows(job.val_path)
    for path, read in ((job.train_path, train), (job.val_path, val)):
        if not read:
            raise DataRejectedError("no rows", where=path)
    labels = _label_map(train, job.train_path)
    if len(labels) < 2:
        raise DataRejectedError(
            f"all rows belong to one adapter ({labels}); a router needs at least two to choose from",
            where=job.train_path,
        )
    _require_known(val, labels, job)
    turn = job.turn or _turn_beside(rows, job.train_path)
    examples = prompts.read_prompts(job.out_of_scope_path, turn) if job.out_of_scope_path else []
    out_of_scope, contradicted = _without_known(examples, (*train, *val))
    if contradicted and not out_of_scope:
        raise DataRejectedError(
            "every out-of-scope prompt also stands in the training or validation rows", where=job.out_of_scope_path
        )
    packaged, _ = _without_known(companions.generic, (*train, *val))
    return TrainingData(
        labels=labels,
        train=tuple(train),
        val=tuple(val),
        out_of_scope=out_of_scope,
        dataset=job.train_path.absolute().parent.name,
        sha256=rows_sha256(train, val),
        warnings=_warnings(labels, train, val, contradicted),
        turn=turn,
        prompts=training_prompts(train, val, out_of_scope, packaged, companions.background, job.options.seed),
    )


def _turn_beside(rows: DatasetReader, path: Path) -> TurnChoice:
    """Return the turn that the data set around a file was made of; a file on its own is read as older data sets."""
    try:
        return turn_of(rows.read_metadata(path.parent))
    except MissingFileError:
        return TurnChoice.FIRST


def _label_map(rows: Sequence[RoutingSample], path: Path) -> LabelMap:
    names: dict[int, str] = {}
    for row in rows:
        if names.setdefault(row.label, row.adapter) != row.adapter:
            raise DataRejectedError(
                f"label {row.label} means {names[row.label]!r} in one row and {row.adapter!r} in another", where=path
            )
    if sorted(names) != list(range(len(names))):
        found = ", ".join(f"{names[label]}={label}" for label in sorted(names))
        raise DataRejectedError(
            f"labels are not 0, 1, 2, … without gaps: {found}",
            where=path,
            hint="every adapter needs at least one training row; draw more samples per adapter",
        )
    ordered = [names[label] for label in range(len(names))]
    twice = next((name for name in ordered if ordered.count(name) > 1), None)
    if twice is not None:
        raise DataRejectedError(f"adapter {twice!r} has several labels", where=path)
    return LabelMap(ordered)


def _require_known(val: Sequence[RoutingSample], labels: LabelMap, job: TrainJob) -> None:
    known = labels.as_mapping()
    for row in val:
        if known.get(row.adapter) != row.label:
            raise MismatchError(
                f"label maps differ: the validation rows have {row.adapter}={row.label}, "
                f"the training rows in {job.train_path} have {labels}",
                where=job.val_path,
                hint="both files must come from one data set with training rows for every adapter",
            )


def _without_known(examples: Sequence[str], rows: Sequence[RoutingSample]) -> tuple[tuple[str, ...], int]:
    """Return the out-of-scope prompts, each once, that no row claims for an adapter, and how many some row does."""
    known = {normalise_text(row.text) for row in rows}
    once = {normalise_text(text): text for text in reversed(examples)}
    kept = tuple(text for key, text in reversed(once.items()) if key not in known)
    return kept, len(once) - len(kept)


def _warnings(
    labels: LabelMap, train: Sequence[RoutingSample], val: Sequence[RoutingSample], contradicted: int
) -> tuple[str, ...]:
    warnings = []
    absent = sorted(set(labels.names) - {row.adapter for row in val})
    if absent:
        warnings.append(f"no validation rows for {', '.join(absent)}: nothing can be chosen or calibrated on them")
    trained_on = {normalise_text(row.text) for row in train}
    leaked = sum(normalise_text(row.text) in trained_on for row in val)
    if leaked:
        warnings.append(f"{leaked} of {len(val)} validation prompts also stand in the training rows")
    if contradicted:
        warnings.append(
            f"{contradicted} out-of-scope prompts also stand in the training or validation rows: not used as such"
        )
    return tuple(warnings)


def rows_sha256(*parts: Sequence[RoutingSample]) -> str:
    """Return the hash that a router's card has of its training and validation rows."""
    digest = hashlib.sha256()
    for rows in parts:
        digest.update(f"{len(rows)}\n".encode())
        for row in rows:
            digest.update(repr((row.text, row.label, row.adapter)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
