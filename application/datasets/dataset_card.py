"""The ``README.md`` of a routing data set: a Hugging Face data set card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from application.datasets.dataset_request import GenerateRequest
from domain.datasets import SourceAccount
from domain.printable import code, printable
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample
from domain.split import Split

_HUB_NAMES = {Split.TRAIN: "train", Split.VAL: "validation", Split.EVAL: "test"}


def dataset_card(
    request: GenerateRequest,
    splits: Mapping[Split, Sequence[RoutingSample]],
    accounts: Sequence[SourceAccount],
    answers: Sequence[ReferenceAnswer] = (),
) -> str:
    """Return the card. It holds no date, so that the same input gives the same card."""
    present = [split for split in Split if splits[split]]
    lines = [
        "---",
        *("task_categories:", "- text-classification", "tags:", "- routing", "- lora"),
        *("configs:", "- config_name: default", "  data_files:"),
        *(f"  - split: {_HUB_NAMES[split]}\n    path: {split}.jsonl" for split in present),
        *("dataset_info:", "  config_name: default", "  features:"),
        *("  - name: text", "    dtype: string"),
        *("  - name: label", "    dtype:", "      class_label:", "        names:"),
        *(f"          '{one.label}': {one.name!r}" for one in request.labels),
        *("  - name: adapter", "    dtype: string"),
        *("  - name: source_id", "    dtype: string"),
        "---",
        "",
        f"# {request.prefix}",
        "",
        "Prompts with the LoRA adapter that should answer each: the training data of a router.",
        "`data.jsonl` is training and validation together; the evaluation rows are held out from both.",
        "No normalised text (NFKC, casefold, white space) stands in two splits or under two adapters.",
        *(["`eval-answers.jsonl` holds the answers that the sources give to evaluation rows."] if answers else []),
        "",
        "| label | adapter | " + " | ".join(str(split) for split in present) + " | drawn of | source |",
        "| --- " * (len(present) + 4) + "|",
        *(_row(request, label, splits, present, account) for label, account in enumerate(accounts)),
        "",
        f"Made with seed {request.seed} and train/val split {request.train_val_split}."
        " `metadata.json` holds the full accounting and the SHA-256 of every file.",
        "",
    ]
    return "\n".join(lines)


def _row(
    request: GenerateRequest,
    label: int,
    splits: Mapping[Split, Sequence[RoutingSample]],
    present: Sequence[Split],
    account: SourceAccount,
) -> str:
    counts = [str(sum(row.label == label for row in splits[split])) for split in present]
    source = code(printable(request.sources[label].path))
    cells = [str(label), account.adapter, *counts, f"{account.lines} lines", source]
    return "| " + " | ".join(cells) + " |"
