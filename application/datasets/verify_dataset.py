"""Use case: check everything about a routing data set that a reader relies on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from application.datasets.dataset_metadata import account_from_json
from application.ports.datasets import DatasetReader
from domain.datasets import SCHEMA_VERSION, DatasetFile
from domain.errors import DataRejectedError, MissingFileError, UsageError
from domain.labels import LabelMap
from domain.publishing import ANSWERS_FILE
from domain.samples import RoutingSample
from domain.split import Split
from domain.turns import has_placeholder
from domain.verification import (
    Check,
    Outcome,
    Rows,
    check_answers,
    check_balance,
    check_conflicts,
    check_labels,
    check_leakage,
    check_repeats,
    passed_unless,
)

METADATA, DATA = "metadata.json", "data.jsonl"
_LOCAL_ONLY = {DATA, "README.md", "rejects.jsonl"}  # what publishing leaves out
_MAY_LACK = {"README.md", "rejects.jsonl", ANSWERS_FILE}  # what a download may lack; it rebuilds the data
_KEYS = (
    *("dataset_name", "created_at", "seed", "train_val_split", "adapters", "samples"),
    *("label_distribution_train", "label_distribution_val"),
)


@frozen
class VerifyReport:
    """What verification found.

    Attributes:
        path: the data set's folder.
        checks: everything that was looked at, in order.
    """

    path: Path
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.outcome is not Outcome.FAILED for check in self.checks)


@frozen
class VerifyDataset:
    """Checks a data set; a fault becomes a failed check, so that one run reports all of them.

    Attributes:
        store: where the data set lies.
    """

    store: DatasetReader

    def __call__(self, folder: Path) -> VerifyReport:
        """Check the data set.

        Raises:
            MissingFileError: no such folder.
            StorageError: the file system refused.
        """
        files = {file.name: file for file in self.store.list_files(folder)}
        metadata, metadata_check = self._metadata(folder)
        rows, data, rows_check = self._rows(folder, files)
        checks = [_check_presence(files, metadata), metadata_check, _check_hashes(files, metadata), rows_check]
        if rows and all(split in rows for split in (Split.TRAIN, Split.VAL)):
            checks += [_check_data(rows, data), *_check_rows(rows, metadata)]
        if rows and (ANSWERS_FILE in files or "reference_answers" in metadata):
            checks.append(self._answers(folder, rows, metadata, there=ANSWERS_FILE in files))
        return VerifyReport(folder, tuple(checks))

    def _metadata(self, folder: Path) -> tuple[dict[str, Any], Check]:
        name = "metadata is complete"
        try:
            metadata = self.store.read_metadata(folder)
        except (DataRejectedError, MissingFileError) as error:
            return {}, Check(name, Outcome.FAILED, error.what)
        faults = [f"no {key!r}" for key in _KEYS if key not in metadata]
        version = metadata.get("schema_version", SCHEMA_VERSION)
        if type(version) is not int or version > SCHEMA_VERSION:
            faults.append(f"schema version {version!r} is newer than {SCHEMA_VERSION}, which this version knows")
        return metadata, passed_unless(
            name, faults, f"{metadata.get('dataset_name')} of {metadata.get('created_at')}"
        )

    def _rows(
        self, folder: Path, files: Mapping[str, DatasetFile]
    ) -> tuple[Rows, Sequence[RoutingSample] | None, Check]:
        found: dict[str, list[RoutingSample]] = {}
        faults = []
        for name in [f"{split}.jsonl" for split in Split] + [DATA]:
            if name not in files:
                continue
            try:
                found[name] = self.store.read_rows(folder / name) if files[name].size else []
            except DataRejectedError as error:
                faults.append(f"{name}: {error.what}")
        leftovers = [
            f"{name}: {row.text[:60]!r} holds a media placeholder"
            for name, part in found.items()
            for row in part
            if has_placeholder(row.text)
        ]
        rows = {split: found[f"{split}.jsonl"] for split in Split if f"{split}.jsonl" in found}
        good = ", ".join(f"{len(part)} in {name}" for name, part in found.items())
        return rows, found.get(DATA), passed_unless("every row is whole", faults + leftovers, good)

    def _answers(self, folder: Path, rows: Rows, metadata: Mapping[str, Any], *, there: bool) -> Check:
        name = "reference answers belong to held-out rows"
        recorded = _mapping(metadata, "reference_answers")
        if not there:
            wanted = any(recorded.values())
            return Check(name, Outcome.SKIPPED, f"published without {ANSWERS_FILE}" if wanted else "there are none")
        try:
            answers = self.store.read_answers(folder)
        except DataRejectedError as error:
            return Check(name, Outcome.FAILED, f"{ANSWERS_FILE}: {error.what}")
        return check_answers(answers, rows, recorded)


def _check_presence(files: Mapping[str, DatasetFile], metadata: Mapping[str, Any]) -> Check:
    needed = {"train.jsonl", "val.jsonl", DATA, METADATA, *_mapping(metadata, "files")}
    published = not _LOCAL_ONLY & files.keys()
    if published:
        needed -= _LOCAL_ONLY
    needed -= _MAY_LACK
    if _mapping(metadata, "samples").get("eval"):
        needed.add("eval.jsonl")
    faults = [f"no {name}" for name in sorted(needed - files.keys())]
    note = f" (as published: without {DATA})" if published else ""
    return passed_unless("files are there", faults, ", ".join(sorted(needed)) + note)


def _check_hashes(files: Mapping[str, DatasetFile], metadata: Mapping[str, Any]) -> Check:
    name = "contents match the manifest"
    manifest = _mapping(metadata, "files")
    if not manifest:
        outcome = Outcome.FAILED if "schema_version" in metadata else Outcome.SKIPPED
        return Check(name, outcome, f"{METADATA} lists no hashes")
    faults = []
    for listed, entry in manifest.items():
        expected = entry.get("sha256") if isinstance(entry, dict) else None
        if listed in files and files[listed].sha256 != expected:
            faults.append(f"{listed} has SHA-256 {files[listed].sha256[:12]}…, recorded is {str(expected)[:12]}…")
    faults += [f"{file} is not in the manifest" for file in files if file not in manifest and file != METADATA]
    return passed_unless(name, faults, f"SHA-256 of {len(manifest)} files")


def _check_data(rows: Rows, data: Sequence[RoutingSample] | None) -> Check:
    name = f"{DATA} is train and val"
    if data is None:
        return Check(name, Outcome.SKIPPED, f"{DATA} was not read")
    parts, whole = Counter([*rows[Split.TRAIN], *rows[Split.VAL]]), Counter(data)
    faults = []
    if missing := (parts - whole).total():
        faults.append(f"{missing} rows of train and val are missing from it")
    if extra := (whole - parts).total():
        faults.append(f"{extra} rows of it are in neither")
    return passed_unless(name, faults, f"{len(data)} rows")


def _check_rows(rows: Rows, metadata: Mapping[str, Any]) -> Iterator[Check]:
    yield _check_counts(rows, metadata)
    try:
        labels = LabelMap.from_mapping({name: one["label"] for name, one in metadata["adapters"].items()})
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        what = error.what if isinstance(error, UsageError) else "'adapters' gives no labels"
        yield Check("labels against names", Outcome.FAILED, f"{METADATA}: {what}")
    else:
        yield check_labels(rows, labels)
        yield _check_distribution(rows, labels, metadata)
        yield _check_accounting(rows, labels, metadata)
        if "learned_from" in metadata:
            yield passed_unless("balance", [], "not expected of rows that came from feedback")
        else:
            yield check_balance(rows, labels)
    yield from (check_repeats(rows), check_leakage(rows), check_conflicts(rows))


def _check_counts(rows: Rows, metadata: Mapping[str, Any]) -> Check:
    recorded = _mapping(metadata, "samples")
    found = {str(split): len(rows.get(split, ())) for split in Split}
    faults = [
        f"{count} rows in {split}, recorded are {recorded.get(split)}"
        for split, count in found.items()
        if recorded.get(split, 0) != count
    ]
    share, trained = metadata.get("train_val_split"), found["train"] + found["val"]
    if isinstance(share, int | float) and abs(found["train"] - share * trained) > 1:
        faults.append(f"{found['train']} of {trained} rows are for training, the split is {share}")
    return passed_unless("counts", faults, ", ".join(f"{split} {count}" for split, count in found.items()))


def _check_distribution(rows: Rows, labels: LabelMap, metadata: Mapping[str, Any]) -> Check:
    faults = []
    for split in (Split.TRAIN, Split.VAL):
        counts = Counter(row.adapter for row in rows[split])
        found = {name: counts[name] for name in labels.names}
        recorded = metadata.get(f"label_distribution_{split}")
        if recorded != found:
            faults.append(f"{split} has {found}, recorded is {recorded}")
    return passed_unless("label distribution", faults, "train and val as recorded")


def _check_accounting(rows: Rows, labels: LabelMap, metadata: Mapping[str, Any]) -> Check:
    """Every line of every source is accounted for, and every row that was kept is there."""
    name, recorded = "accounting", metadata.get("accounting")
    if recorded is None and "schema_version" not in metadata:
        return Check(name, Outcome.SKIPPED, f"{METADATA} says nothing about the sources' lines")
    kept = Counter(row.adapter for part in rows.values() for row in part)
    faults, lines = [], 0
    for adapter in labels.names:
        try:
            account = account_from_json(adapter, _mapping(metadata, "accounting")[adapter])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            faults.append(f"{adapter}: {f'no {error}' if isinstance(error, KeyError) else error}")
            continue
        lines += account.lines
        if account.unaccounted or account.not_drawn < 0:
            faults.append(
                f"{adapter}: {account.lines} lines, {account.drawn} drawn, {account.unaccounted} unaccounted for"
            )
        if account.kept != kept[adapter]:
            faults.append(f"{adapter}: {kept[adapter]} rows, recorded as kept are {account.kept}")
    return passed_unless(name, faults, f"every one of {lines} source lines")


def _mapping(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = metadata.get(key)
    return value if isinstance(value, dict) else {}
