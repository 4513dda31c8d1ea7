"""Every shape that training data comes in is told by its content, said in the report, and read right."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.datasets.arrow_rows import ArrowRows
from adapters.datasets.source_reader import FileSourceReader
from adapters.datasets.source_streams import SourceOpener
from adapters.lora.source_chats import read_chats
from application.datasets.dataset_metadata import format_as_json, format_from_json
from application.datasets.draw_balanced import draw_balanced
from application.ports.datasets import Source
from domain.chats import ROLES, Message
from domain.errors import DataRejectedError, MissingFileError, MoeRouterError, RemoteError, UsageError
from domain.references import reference_answer
from domain.row_shapes import columns_format
from domain.turns import TurnChoice

USER = {"role": "user", "content": "open May 3"}
ANSWER = {"role": "assistant", "content": "done"}

SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "sharegpt": ({"conversations": [{"from": "human", "value": "open May 3"}]}, "ShareGPT: conversations"),
    "openai": ({"messages": [{"role": "system", "content": "s"}, USER, ANSWER]}, "OpenAI messages: messages"),
    "alpaca": ({"instruction": "open", "input": "May 3", "output": "x"}, "Alpaca: instruction + input"),
    "prompt": ({"prompt": "open May 3", "completion": "x"}, "prompt and completion: prompt"),
    "trl chat": ({"prompt": [USER], "completion": [ANSWER]}, "OpenAI messages: prompt"),
    "dpo": ({"prompt": "open May 3", "chosen": "x", "rejected": "y"}, "preference rows: prompt"),
    "dpo without prompt": (
        {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "preference rows, OpenAI messages: chosen",
    ),
    "question": ({"question": "open May 3", "answer": "x"}, "plain columns: question"),
    "hh": (
        {"chosen": "\n\nHuman: open May 3\n\nAssistant: x", "rejected": "\n\nHuman: open May 3\n\nAssistant: y"},
        "text with chat template marks (Human and Assistant): chosen",
    ),
}  # fmt: skip

MARKED = {
    "ChatML": "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nopen May 3<|im_end|>\n"
    "<|im_start|>assistant\nx<|im_end|>",
    "Llama 3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nopen May 3<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nx",
    "Llama 2 or Mistral": "<s>[INST] <<SYS>>\ns\n<</SYS>>\n\nopen May 3 [/INST] x </s>",
    "Gemma": "<bos><start_of_turn>user\nopen May 3<end_of_turn>\n<start_of_turn>model\nx",
    "DeepSeek": "<｜begin▁of▁sentence｜><｜User｜>open May 3<｜Assistant｜>x",
    "Zephyr or Phi": "<|user|>\nopen May 3<|end|>\n<|assistant|>\nx<|end|>",
    "Alpaca prompt": "Below is …\n\n### Instruction:\nopen\n\n### Input:\nMay 3\n\n### Response:\nx",
    "Guanaco": "### Human: open May 3### Assistant: x",
    "Vicuna": "A chat. USER: open May 3 ASSISTANT: x</s>",
}
SHAPES |= {name: ({"text": text}, f"text with chat template marks ({name}): text") for name, text in MARKED.items()}


def read(source: Source | Path, **options: Any) -> tuple[list[Any], Source]:
    """Return the outcomes of all rows, which drawing and reading must agree on, and what the source is read as."""
    source = source if isinstance(source, Source) else Source("a", source, **options)
    reader = FileSourceReader()
    with reader.open(source, seed=0, expected=2) as draws:
        drawn = [line.outcome for line in draws]
        known = draws.source
    with reader.read_all(source) as lines:
        found = [outcome for _, outcome, _ in lines]
    assert sorted(map(str, drawn)) == sorted(map(str, found))
    return found, known


def test_files_of_one_adapter_may_have_different_shapes(tmp_path):
    first, second, third = tmp_path / "x.jsonl", tmp_path / "y.json", tmp_path / "z.csv"
    first.write_text("".join(json.dumps({"instruction": f"open {n}", "output": f"a{n}"}) + "\n" for n in range(3)))
    second.write_text(json.dumps([{"messages": [USER | {"content": f"close {n}"}, ANSWER]} for n in range(3)]))
    third.write_text("question,answer\nlock,done\n")
    source = Source("a", first, more=(second, third), keep_rows=True)
    found, known = read(source)
    assert sorted(found) == ["close 0", "close 1", "close 2", "lock", "open 0", "open 1", "open 2"]
    assert known.read_as == (
        "1 × JSON Lines, 1 × JSON array, 1 × CSV; Alpaca: instruction + input; OpenAI messages: messages; "
        "plain columns: question"
    )
    with FileSourceReader().open(source, seed=0, expected=9) as draws:
        answers = [reference_answer(line.row, known.format, TurnChoice.LAST) for line in draws]
    assert sorted(one[1].content for one in answers if one) == ["a0", "a1", "a2", *["done"] * 4]
    assert format_from_json(json.loads(json.dumps(format_as_json(known.format)))) == known.format


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_told_and_said(name, tmp_path):
    row, said = SHAPES[name]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({**row, "n": n}) + "\n" for n in range(3)))
    found, known = read(tmp_path / "x.jsonl")
    assert {" ".join(text.split()) for text in found} == {"open May 3"}
    assert known.read_as == f"JSON Lines; {said}"
    assert known.advice == ""


ROWS = [{"id": f"r{n}", "messages": [{"role": "user", "content": f"open May {n}"}], "image": b"x"} for n in range(5)]
PLAIN = [{"id": row["id"], "messages": row["messages"]} for row in ROWS]
TEXTS = [f"open May {n}" for n in range(5)]


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file, delimiter=delimiter)
        table.writerows(
            [["id", "question", "more, of it"], *([f"r{n}", text, 'a\n"b"'] for n, text in enumerate(TEXTS))]
        )


def write_split(folder: Path, **options: Any) -> None:
    datasets.Dataset.from_list(PLAIN).save_to_disk(folder, **options)


def write_shards(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(PLAIN[:2]), folder / "data" / "train-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(PLAIN[2:]), folder / "data" / "train-00001-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(PLAIN), folder / "data" / "test-00000-of-00001.parquet")
    (folder / "README.md").write_text("---")


def write_splits(folder: Path) -> None:
    every = datasets.Dataset.from_list(PLAIN)
    datasets.DatasetDict(train=every, test=every.select([0])).save_to_disk(folder)


CHAT = "OpenAI messages: messages"
FILES = {
    "array": (lambda path: path.write_text(json.dumps(PLAIN)), f"JSON array; {CHAT}"),
    "values": (
        lambda path: path.write_text("\n".join(json.dumps(row, indent=1) for row in PLAIN)),
        f"JSON values, one after another; {CHAT}",
    ),
    "gzip": (lambda path: path.write_bytes(gzip.compress(json.dumps(PLAIN).encode())), f"JSON array in gzip; {CHAT}"),
    "csv": (write_csv, "CSV; plain columns: question"),
    "semicolons": (lambda path: write_csv(path, ";"), "CSV with semicolons; plain columns: question"),
    "tsv": (lambda path: write_csv(path, "\t"), "TSV; plain columns: question"),
    "parquet": (lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path), f"Parquet; {CHAT}"),
    "saved": (write_split, f"Arrow stream; {CHAT}"),
    "saved in shards": (lambda path: write_split(path, num_shards=2), f"2 × Arrow stream; {CHAT}"),
    "saved splits": (write_splits, f"Arrow stream; {CHAT}"),
    "folder": (write_shards, f"2 × Parquet; {CHAT}"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_told_by_its_content(name, tmp_path):
    write, said = FILES[name]
    write(tmp_path / "source")
    found, known = read(tmp_path / "source")
    assert found == TEXTS
    assert known.read_as == said


def test_messages_that_a_table_holds_as_text_or_as_lists_are_read(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], *([json.dumps(row["messages"])] for row in PLAIN)])
    assert read(tmp_path / "x.csv")[0] == TEXTS
    columns = [{"messages": {"role": ["user"], "content": [text]}} for text in TEXTS]
    pq.write_table(pa.Table.from_pylist(columns), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet")[0] == TEXTS


def test_bad_rows_of_a_csv_are_counted_by_reason(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"id,prompt\n1,good\n2\n\n3,caf\xe9\n4,\n5,fine\n")
    found, _ = read(tmp_path / "x.csv")
    assert [str(getattr(one, "reason", one)) for one in found] == [
        "good", "invalid-row", "None", "not-utf-8", "no-conversation", "fine",
    ]  # fmt: skip


def test_files_of_one_adapter_are_one_source(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(PLAIN[:2]))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PLAIN[2:]))
    found, known = read(Source("a", tmp_path / "a.json", more=(tmp_path / "b.jsonl",)))
    assert found == TEXTS
    assert known.read_as == "1 × JSON array, 1 × JSON Lines; OpenAI messages: messages"


def refused(path: Path) -> str:
    with pytest.raises(MoeRouterError) as caught, FileSourceReader().open(Source("a", path), seed=0, expected=1):
        pass
    assert isinstance(caught.value, DataRejectedError | MissingFileError)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "is a ZIP archive"),
        (b"\x80\x04\x95rest", "is a pickle, which is never loaded"),
        (b"PAR1 and no more", "is a damaged Parquet file"),
        (gzip.compress(b"PAR1", mtime=0), "is Parquet inside gzip"),
        ('[{"prompt": "a"}]'.encode("utf-16"), "is UTF-16 text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b'[{"prompt": "a"}] [{"prompt": "b"}]', "has more after the end of its JSON array"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_way_out(tmp_path, content, message):
    (tmp_path / "x.jsonl").write_bytes(content)
    assert message in refused(tmp_path / "x.jsonl")


def test_a_cut_array_loses_its_last_row_only(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(PLAIN)[:-20])
    found, _ = read(tmp_path / "x.json")
    assert found[:-1] == TEXTS[:-1]
    assert found[-1].reason == "invalid-json"


def shortage(path: Path) -> str:
    source = Source("a", path)
    with FileSourceReader().open(source, seed=0, expected=3) as draws, pytest.raises(DataRejectedError) as caught:
        draw_balanced([(draws.source, draws)], 3, allow_fewer=False)
    return str(caught.value) + f" ({caught.value.hint})"


def test_the_hint_names_what_was_found(tmp_path):
    pq.write_table(pa.Table.from_pylist([{"utterance": "open", "intent": 3}] * 9), tmp_path / "x.parquet")
    said = shortage(tmp_path / "x.parquet")
    assert (
        "9 no-conversation) (read as Parquet; its columns: utterance, intent. " in said
    )  # and nothing of 'messages'
    assert "Say which holds the prompt: --columns a:prompt=COLUMN)" in said
    assert "more data" not in said
    (tmp_path / "x.jsonl").write_bytes(b"no json at all\n" * 9)
    assert "read as JSON Lines, but its first rows cannot be read so" in shortage(tmp_path / "x.jsonl")
    named = columns_format({"prompt": "utterance"})
    assert read(tmp_path / "x.parquet", row_format=named)[0] == ["open"] * 9


DIALOG = [{"who": "Student", "said": "open May 3"}, {"who": "Desk", "said": "done, and now?"}]


@pytest.mark.parametrize(
    ("row", "advised"),
    [
        ({"case": 3, "dialog": DIALOG}, "messages=dialog,role=who,content=said,user=Student,assistant=Desk"),
        ({"dialog": json.dumps(DIALOG[:1])}, "messages=dialog,role=who,content=said,user=Student"),
        ({"messages": [USER, {"role": "Desk", "content": "done"}]}, "messages=messages,assistant=Desk"),
        ({"turns": [{"from": "Student", "value": "open May 3"}]}, "messages=turns,user=Student"),
        ({"utterance": "open May 3", "tags": [{"name": "a"}]}, "prompt=COLUMN"),
    ],
)
def test_the_hint_names_the_turns_that_were_found_and_what_it_says_works(row, advised, tmp_path):
    (tmp_path / "x.jsonl").write_text((json.dumps(row) + "\n") * 3)
    said = shortage(tmp_path / "x.jsonl")
    assert f": --columns a:{advised})" in said
    assert ("unknown-role, first at line 1: turn" in said) == ("assistant=Desk" in advised and "messages" in row)
    named = dict(pair.split("=") for pair in advised.replace("COLUMN", "utterance").split(","))
    assert read(tmp_path / "x.jsonl", row_format=columns_format(named))[0] == ["open May 3"] * 3


def test_a_speaker_whom_nobody_knows_is_advised_on_although_some_rows_can_be_read(tmp_path):
    rows = [{"messages": [USER, {"role": who, "content": "done"}]} for who in ("assistant", "Desk", "Desk")]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "--columns a:messages=messages,assistant=Desk" in shortage(tmp_path / "x.jsonl")


def test_advice_is_about_the_row_that_is_named(tmp_path):
    desk = {"messages": [USER, {"role": "Desk", "content": "done"}]}
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, [{"messages": []}, desk, desk])))
    with pytest.raises(DataRejectedError, match=r"x\.jsonl:1: 'messages' is empty$"):
        read_chats(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, [{"case": 1}, desk, desk])))
    said = shortage(tmp_path / "x.jsonl")
    assert "first at line 1: no 'conversations' or 'messages'" in said
    assert "assistant=Desk" in said


def test_advice_for_a_source_without_a_name_names_none(tmp_path):
    (tmp_path / "x.csv").write_text("ask,reply\nopen,day 0\n")
    with pytest.raises(DataRejectedError, match="prompt: --columns prompt=COLUMN"):
        read_chats(tmp_path / "x.csv")


def test_the_speakers_of_help_desks_are_known_and_the_page_lists_all_names(tmp_path):
    chat = [{"from": "Visitor", "value": "open May 3"}, {"from": "Agent", "value": "done"}]
    (tmp_path / "x.jsonl").write_text(json.dumps({"conversations": chat}))
    assert read(tmp_path / "x.jsonl")[0] == ["open May 3"]
    assert [turn.role for turn in read_chats(tmp_path / "x.jsonl")[0]] == ["user", "assistant"]
    page = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text()
    listed = dict.fromkeys(ROLES.values(), "")
    for role in listed:
        (listed[role],) = re.findall(rf"^\| {role} \| (.*) \|$", page, re.MULTILINE)
    assert {name: role for role, names in listed.items() for name in names.split(", ")} == dict(ROLES)


def test_the_first_bad_line_named_is_the_first(tmp_path):
    bad = ["{"] * 60
    (tmp_path / "x.jsonl").write_text("\n".join([json.dumps(PLAIN[0]), *bad]))
    assert "60 invalid-json, first at line 2:" in shortage(tmp_path / "x.jsonl")


def test_millions_of_blank_lines_are_passed_over_together(tmp_path):
    rows = [json.dumps({"prompt": f"open May {n}"}) for n in range(10)]
    (tmp_path / "x.jsonl").write_bytes("\n".join(rows).encode() + b"\n" * 1_500_000 + b" \r\n" * 500_000)
    source = Source("a", tmp_path / "x.jsonl")
    with FileSourceReader().open(source, seed=0, expected=20) as draws:
        assert sum(1 for _ in draws) < 1000  # each of them took 100 us
    with FileSourceReader().open(source, seed=0, expected=20) as draws:
        found = draw_balanced([(draws.source, draws)], 20, allow_fewer=True)
    (account,) = found.accounts
    assert (account.kept, account.blank, account.lines) == (10, 1_999_999, 2_000_009)
    assert account.not_drawn == 0


def test_memory_stays_bounded_over_a_large_array(tmp_path):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = json.dumps({"prompt": "x" * 10_000})
    with (tmp_path / "x.json").open("w") as file:
        file.write("[" + row)
        for _ in range(6000):
            file.write("," + row)
        file.write("]")
    with FileSourceReader().open(Source("a", tmp_path / "x.json"), seed=0, expected=10) as draws:
        assert len(next(iter(draws)).outcome) == 10_000
        assert draws.lines == 6001
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB; the file has 60 MB


def test_row_groups_without_drawn_rows_are_not_read(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.Table.from_pylist([{"prompt": f"p {n} " + "x" * 100} for n in range(5000)]), path, row_group_size=100
    )
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 3, len(content) // 2, 50):  # row groups that nobody asks for
        content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with SourceOpener().open(path) as file:
        rows = ArrowRows(file, "Parquet", columns=("prompt",))
        found = [row[0]["prompt"].split()[1] for _, row in rows.locate(iter([0, 1, 4999]))]
        assert found == ["0", "1", "4999"]
        assert rows.rows == 5000
        with pytest.raises(DataRejectedError, match="is a damaged Parquet file"):
            list(rows.read_all())


@pytest.mark.parametrize(
    "columns",
    [
        {}, {"prompts": "a"}, {"input": "a"}, {"prompt": "a", "messages": "b"}, {"prompt": "a", "assistant": "b"},
        {"messages": "a", "assistant": "Tool"}, {"messages": "a", "user": "Desk", "assistant": " desk"},
    ],
)  # fmt: skip
def test_columns_that_make_no_sense(columns):
    with pytest.raises(UsageError, match="columns"):
        columns_format(columns)


def test_names_that_a_person_gives_override_the_usual_ones(tmp_path):
    chat = [{"role": "Agent", "content": "open May 3"}, {"role": "customer", "content": "done"}]
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": chat}))
    swapped = columns_format({"messages": "messages", "user": "agent", "assistant": "Customer"})
    assert read(tmp_path / "x.jsonl", row_format=swapped)[0] == ["open May 3"]
    (found,) = read_chats(Source("a", tmp_path / "x.jsonl", swapped))
    assert found == (Message("user", "open May 3"), Message("assistant", "done"))


def test_turns_of_odd_names_are_read(tmp_path):
    row = {"dialog": [{"who": "Kunde", "what": "open May 3"}, {"who": "assistant", "what": "x"}]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    named = columns_format({"messages": "dialog", "role": "who", "content": "what", "user": "Kunde"})
    assert read(tmp_path / "x.jsonl", row_format=named)[0] == ["open May 3"]


def test_folders_and_globs_without_data(tmp_path):
    (tmp_path / "README.md").write_text("x")
    assert "is a folder without data files" in refused(tmp_path)
    assert "matches no file" in refused(tmp_path / "*.parquet")
    datasets.DatasetDict(a=datasets.Dataset.from_list(PLAIN), b=datasets.Dataset.from_list(PLAIN)).save_to_disk(
        tmp_path / "saved"
    )
    assert "holds the splits a, b" in refused(tmp_path / "saved")
    assert read(tmp_path / "saved" / "b")[0] == TEXTS
    shutil.rmtree(tmp_path / "saved")


def test_the_hub_is_asked_only_when_told_and_offline_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFileError), FileSourceReader().open(Source("a", Path("o/n")), seed=0, expected=1):
        pass
    hub = Source("a", Path("hf://datasets/owner/name"))
    with pytest.raises(RemoteError, match="hub cannot be reached"), FileSourceReader().open(hub, seed=0, expected=1):
        pass
    assert "huggingface_hub" in sys.modules


@pytest.mark.parametrize("name", SHAPES)
def test_fine_tuning_reads_every_shape_with_its_answer(name, tmp_path):
    row, _ = SHAPES[name]
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    if name in ("sharegpt", "bare question"):  # rows without an answer
        with pytest.raises(DataRejectedError, match="no row with an answer of the assistant"):
            read_chats(tmp_path / "x.jsonl")
        return
    (chat,) = read_chats(tmp_path / "x.jsonl")
    said = [(turn.role, " ".join(turn.content.split())) for turn in chat if turn.role != "system"]
    assert said in ([("user", "open May 3"), ("assistant", answer)] for answer in ("x", "done"))


def test_fine_tuning_reads_tables_and_names_a_row_that_cannot_be_read(tmp_path):
    rows = [{"instruction": "open", "input": None, "output": f"day {n}", "system": "Be brief."} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("prompt,completion\nopen,day 0\nopen,day 1\nopen,day 2\n")
    for path in (tmp_path / "x.parquet", tmp_path / "x.csv"):
        chats = read_chats(path)
        assert [chat[-1] for chat in chats] == [Message("assistant", f"day {n}") for n in range(3)]
    assert read_chats(tmp_path / "x.parquet")[0][0] == Message("system", "Be brief.")
    (tmp_path / "x.jsonl").write_text(json.dumps(rows[0]) + '\n\n{"instruction": 3}\n')
    with pytest.raises(DataRejectedError, match=r"x\.jsonl:3: "):
        read_chats(tmp_path / "x.jsonl")
    (tmp_path / "x.csv").write_text("ask,reply\nopen,day 0\n")
    with pytest.raises(
        DataRejectedError, match=r"x\.csv:1: no column is known .*its columns: ask, reply\. Say .*prompt=COLUMN"
    ):
        read_chats(tmp_path / "x.csv")
    named = columns_format({"prompt": "ask", "answer": "reply"})
    assert read_chats(Source("a", tmp_path / "x.csv", named))[0][-1] == Message("assistant", "day 0")
