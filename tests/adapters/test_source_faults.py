"""Every kind of bad source data, through the real reader and the real store; one test for each row of the list."""

import gzip
import io
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
from adapters.datasets.source_reader import FileSourceReader
from adapters.in_memory.runtime import FixedClock, RecordingProgressReporter
from application.datasets.dataset_request import GenerateRequest
from application.datasets.generate_dataset import GenerateDataset
from application.ports.datasets import Source
from domain.conversations import Rejection
from domain.errors import DataRejectedError, MissingFileError
from domain.turns import TurnChoice


def turn(text, role="human"):
    return {"from": role, "value": text}


def line(*turns, **more):
    return json.dumps({"conversations": list(turns), **more}).encode()


GOOD = line(turn("good"))


def outcomes(path, content=None, **options):
    """Return what becomes of every line, drawn and read in order: both must say the same."""
    if content is not None:
        path.write_bytes(content)
    reader, source = FileSourceReader(), Source("a", path, **options)
    with reader.open(source, seed=1, expected=3) as draws:
        drawn = {one.number: one.outcome for one in draws}
    with reader.read_all(source) as lines:
        read = {number: outcome for number, outcome, _ in lines}
    assert drawn == read
    return [
        f"{read[number].reason}: {read[number].detail}" if isinstance(read[number], Rejection) else read[number]
        for number in sorted(read)
    ]


def generate(tmp_path, *paths, **options):
    use_case = GenerateDataset(FileSourceReader(), JsonlDatasetStore(), FixedClock(), RecordingProgressReporter())
    options = {"train_samples": 2, "eval_samples": 1, "output_dir": tmp_path / "out"} | options
    return use_case(GenerateRequest([Source(f"a{n}", path) for n, path in enumerate(paths)], **options))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "source.jsonl"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (GOOD[:-9], "invalid-json"),
        (b"{not json}", "invalid-json"),
        (b"NaN", "invalid-json"),
        (GOOD.replace(b"good", b"go\0od"), "invalid-json"),
        (b"[" * 100_000, "invalid-json"),
        (b"[" * 100_000 + b"]" * 100_000, "invalid-json"),
        (b"[1, 2]", "not-an-object: the row is a list"),
        (b'"text"', "not-an-object: the row is a str"),
        (b"null", "not-an-object: the row is a NoneType"),
        (GOOD.replace(b"good", b"caf\xe9"), "not-utf-8"),
        (GOOD.decode().encode("utf-16"), "not-utf-8"),
        (GOOD.replace(b"good", b"x\\ud800y"), "lone-surrogate"),
        (GOOD.replace(b"good", b"x\xed\xa0\x80y"), "not-utf-8"),
        (b'{"id": 1}', "no-conversation: no 'conversations' or 'messages'"),
        (b'{"conversations": {"from": "human"}}', "conversation-not-a-list: 'conversations' is a dict"),
        (b'{"conversations": null}', "no-conversation"),
        (b'{"conversations": []}', "empty-conversation"),
        (b'{"conversations": ["hello"]}', "malformed-turn: turn 1 is a str"),
        (b'{"conversations": [{"value": "x"}]}', "malformed-turn: turn 1 names no speaker"),
        (b'{"conversations": [{"from": ["human"], "value": "x"}]}', "malformed-turn"),
        (b'{"conversations": [{"from": "human"}]}', "malformed-turn: the human turn's content is a NoneType"),
        (b'{"conversations": [{"from": "human", "value": 7}]}', "malformed-turn"),
        (b'{"conversations": [{"from": "human", "value": [7]}]}', "malformed-turn"),
        (line(turn("x", "gpt")), "no-human-turn: none of 1 turns"),
        (line(turn("x", "alien")), "unknown-role: turn 1 is from 'alien'"),
        (line(turn("x"), turn("y", "alien")), "unknown-role: turn 2 is from 'alien'"),
        (line(turn("")), "empty-text"),
        (line(turn(" \n<image> \t<video>")), "empty-text"),
        (line(turn([{"type": "image_url", "image_url": "x"}])), "empty-text"),
    ],
)
def test_a_bad_line_is_counted_by_reason_and_the_others_go_on(path, tmp_path, bad, reason):
    # A line end inside the bad line (as UTF-16 has it) only makes two bad lines of it.
    found = outcomes(path, GOOD + b"\n" + bad + b"\n" + line(turn("other")) + b"\n" + line(turn("third")))
    assert (found[0], found[-2:]) == ("good", ["other", "third"])
    assert found[1].startswith(reason)
    report = generate(tmp_path, path, validate=True)
    assert report.accounts[0].kept == 3
    rejects = [json.loads(one) for one in (tmp_path / "out" / "rejects.jsonl").read_bytes().splitlines()]
    assert (rejects[0]["file"], rejects[0]["line"]) == (str(path), 2)
    assert reason.startswith(rejects[0]["reason"])
    with pytest.raises(DataRejectedError, match=rf"source\.jsonl: line 2: {rejects[0]['reason']}"):
        generate(tmp_path, path, strict=True, output_dir=tmp_path / "strict")
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD + b"\n",
        GOOD + b"\r\n" + GOOD + b"\r\n",
        GOOD + b"\n" + GOOD,
        b"\xef\xbb\xbf" + GOOD + b"\r\n" + GOOD,
    ],
)
def test_byte_order_mark_crlf_and_a_missing_last_line_end_are_read(path, content):
    assert outcomes(path, content) == ["good", "good"]


def test_blank_lines_are_no_rejects(path, tmp_path):
    assert outcomes(path, b"\n" + GOOD + b"\n \t\r\n\n") == [None, "good", None, None]
    rows = [line(turn(f"text {number}")) for number in range(3)]
    path.write_bytes(b"\n\n".join(rows) + b"\n")
    report = generate(tmp_path, path, strict=True)
    assert report.accounts[0].n_rejected == 0


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c"])
def test_only_line_feeds_end_lines(path, separator):
    text = f"one{separator}two"
    content = json.dumps({"conversations": [turn(text)]}, ensure_ascii=separator < " ").encode()
    assert outcomes(path, content + b"\n") == [text]


def test_a_line_over_the_limit_is_rejected_and_memory_stays_bounded(path, tmp_path):
    with path.open("wb") as file:
        for number in range(3):
            file.write(line(turn(f"text {number}")) + b"\n")
        file.seek(100 * 1024 * 1024, os.SEEK_CUR)  # a hole: 100 MB of NUL bytes on one line
        file.write(b"x\n" + line(turn("after")))
    tracemalloc.start()
    try:
        report = generate(tmp_path, path, validate=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * 1024 * 1024
    assert report.validated[0].rejected == {"line-too-long": 1}
    (reject,) = map(json.loads, (tmp_path / "out" / "rejects.jsonl").read_bytes().splitlines())
    assert (reject["line"], reject["detail"]) == (4, "the line has 104857601 bytes, the limit is 16777216")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_the_line_limit_is_exact(path, pack):
    short, long = line(turn("x" * 100)), line(turn("x" * 101))
    content = pack(short + b"\n" + long + b"\n" + short)
    found = outcomes(path, content, line_limit=len(short))
    assert found[::2] == ["x" * 100] * 2
    assert found[1] == f"line-too-long: the line has {len(long)} bytes, the limit is {len(short)}"


@pytest.mark.parametrize("role", ["human", "user", "HUMAN", " user ", "User\n"])
def test_spellings_of_the_user_are_accepted(path, role):
    assert outcomes(path, line(turn("sys", "system"), turn("hi", role), turn("yes", "gpt"))) == ["hi"]


def test_role_and_content_twins_are_accepted(path):
    openai = {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [{}]},
            {"role": "tool", "content": "42"},
        ]
    }
    mixed = {"conversations": [{"role": "user", "content": "mixed"}]}
    other = {"messages": [{"from": "human", "value": "other"}]}
    content = b"\n".join(json.dumps(one).encode() for one in (openai, mixed, other))
    assert outcomes(path, content) == ["hi", "mixed", "other"]


def test_content_parts_are_joined_and_placeholders_stripped(path):
    parts = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "<image>see"}, {"text": "this"}, "now"]
    rows = [
        line(turn(parts)),
        line(turn("<image>\n  Click <video> here <audio>")),
        line(turn("a < b <imagen> \U0001f600")),
    ]
    assert outcomes(path, b"\n".join(rows)) == ["see\nthis\nnow", "Click here", "a < b <imagen> \U0001f600"]


def test_turns_can_be_chosen(path):
    path.write_bytes(line(turn("<image>one"), turn("a", "gpt"), turn("two"), turn("<image>"), turn("and now this")))
    for choice, expected in (("first", "one"), ("last", "and now this"), ("all", "one\ntwo\nand now this")):
        assert outcomes(path, turn=TurnChoice(choice)) == [expected]


def test_ids_are_kept_or_made_of_file_and_line(path, tmp_path):
    path.write_bytes(b"\n".join([line(turn("a"), id="x"), line(turn("b"), id=7), line(turn("c"), id=None)]))
    generate(tmp_path, path)
    rows = JsonlDatasetStore().read_rows(tmp_path / "out" / "data.jsonl")
    rows += JsonlDatasetStore().read_rows(tmp_path / "out" / "eval.jsonl")
    assert {row.text: row.source_id for row in rows} == {"a": "x", "b": "7", "c": "source.jsonl:3"}


def test_too_few_usable_rows_say_who_what_and_why_and_write_nothing(path, tmp_path):
    path.write_bytes(GOOD + b"\n{\n[]\n" + GOOD + b"\n")
    with pytest.raises(DataRejectedError) as caught:
        generate(tmp_path, path, output_dir=tmp_path / "new" / "deep" / "out")
    message = str(caught.value)
    assert "adapter 'a0': 3 rows asked, 1 usable in 4 lines" in message
    assert "1 invalid-json, 1 not-an-object, 1 duplicates, first at line" in message
    assert {one.name for one in tmp_path.iterdir()} == {"source.jsonl"}


@pytest.mark.parametrize(
    "same", [("Save it", "save  IT "), ("ﬁle", "FILE"), ("Straße", "STRASSE"), ("a\u00a0b", "a b")]
)
def test_the_same_normalised_text_stands_only_once(path, tmp_path, same):
    rows = [*same, "two", "three", "four"]
    path.write_bytes(b"\n".join(line(turn(text)) for text in rows))
    report = generate(tmp_path, path, train_samples=3)
    assert report.accounts[0].kept == 4
    assert report.accounts[0].duplicates <= 1
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"\n".join(line(turn(text)) for text in [same[1], "five", "six", "seven"]))
    path.write_bytes(b"\n".join(line(turn(text)) for text in [same[0], "two", "three", "four"]))
    report = generate(tmp_path, path, other, train_samples=3, allow_fewer=True, output_dir=tmp_path / "both")
    assert [(account.kept, account.conflicts) for account in report.accounts] == [(3, 1), (3, 1)]


CONTENT = b"\n".join(line(turn(f"text {number}")) for number in range(50)) + b"\n"
PACKED = {
    "source.jsonl": CONTENT,
    "source.jsonl.gz": gzip.compress(CONTENT),
    "two-members.gz": gzip.compress(CONTENT[:700]) + gzip.compress(CONTENT[700:]),
    "source.jsonl.zst": zstandard.compress(CONTENT),
    "two-frames.zst": zstandard.compress(CONTENT[:700]) + zstandard.compress(CONTENT[700:]),
    "wrong-suffix.jsonl": zstandard.compress(CONTENT),
}


@pytest.mark.parametrize("name", PACKED)
def test_compressed_files_give_the_same_rows(tmp_path, name):
    results = []
    for number, (file, content) in enumerate([("source.jsonl", CONTENT), (name, PACKED[name])]):
        (tmp_path / file).write_bytes(content)
        generate(tmp_path, tmp_path / file, output_dir=tmp_path / f"out{number}", validate=True)
        rows = JsonlDatasetStore().read_rows(tmp_path / f"out{number}" / "data.jsonl")
        results.append([row.text for row in rows])
    assert results[0] == results[1]


@pytest.mark.parametrize("content", [PACKED["source.jsonl.gz"], PACKED["source.jsonl.zst"]], ids=["gz", "zst"])
def test_damaged_compression_is_one_clear_line_about_the_right_file(tmp_path, content):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(CONTENT)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    for damaged in (content[: len(content) // 2], bytes(flipped), content[:5]):
        bad.write_bytes(damaged)
        with pytest.raises(DataRejectedError, match=r"bad\.jsonl: (damaged|adapter)"):
            generate(tmp_path, bad, good)
        assert not (tmp_path / "out").exists()


def test_standard_input_is_read_once_and_can_be_validated_too(tmp_path, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(CONTENT)

    monkeypatch.setattr(sys, "stdin", Stdin)
    report = generate(tmp_path, Path("-"), validate=True)
    assert (report.validated[0].usable, report.accounts[0].kept) == (50, 3)


def test_a_pipe_is_read(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(CONTENT,))
    writer.start()
    report = generate(tmp_path, fifo, validate=True)
    writer.join()
    assert report.accounts[0].lines == 50


def test_folders_devices_and_missing_files_are_one_clear_line(tmp_path):
    for wrong, complaint in (
        (tmp_path, "is a folder without data files"),
        (Path("/dev/null"), "is a device, not a file"),
        (tmp_path / "none.jsonl", "no such file"),
        (Path(__file__) / "below-a-file", "no such file"),
    ):
        with pytest.raises(MissingFileError, match=complaint) as caught:
            generate(tmp_path, wrong)
        assert str(wrong) in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_while_it_is_read_is_refused(path):
    path.write_bytes(CONTENT)

    def draw_and_change():
        with FileSourceReader().open(Source("a", path), seed=0, expected=3) as draws:
            next(iter(draws))
            path.write_bytes(CONTENT + GOOD)

    with pytest.raises(DataRejectedError, match=r"source\.jsonl: the file changed"):
        draw_and_change()


def test_the_command_reads_standard_input(tmp_path):
    command = [sys.executable, "-m", "entrypoints", "generate", "--adapter", "a=-", "--train-samples", "5"]
    command += ["--eval-samples", "5", "--output-dir", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, input=gzip.compress(CONTENT), capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "metadata.json").exists()
