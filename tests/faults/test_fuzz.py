"""Mutated input for each parser: it gives a value or one clear error, never anything else.

Inputs that once broke something are kept in ``corpus/<target>/`` and tried first, together with what is made of them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.base_model.transformers_base import load_base
from adapters.datasets.jsonl_dataset_store import parse_metadata, parse_rows
from adapters.datasets.prompt_files import PromptFileReader
from adapters.datasets.row_files import parse_json
from adapters.datasets.source_reader import FileSourceReader
from adapters.files.safetensors_checkpoints import SafetensorsCheckpointStore
from adapters.lora.lora_inspection import SafetensorsLoraInspector
from adapters.router.router_bytes import METADATA_KEY, NO_HASH, from_bytes, to_bytes
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.datasets.grow_dataset import read_existing
from application.datasets.verify_dataset import VerifyDataset
from application.ports import Checkpoint
from application.ports.datasets import Source
from domain.chats import parse_turns, routing_text
from domain.conversations import Rejection, extract_prompt
from domain.errors import MoeRouterError
from domain.turns import TurnChoice
from tests.dataset_world import NAMES, generate, rows_of
from tests.faults.sabotage import EVERYTHING
from tests.lora_world import write_loras
from tests.router_world import router_world

CORPUS = Path(__file__).parent / "corpus"
INPUTS = 2000 if EVERYTHING else 40
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1e308, 2**53, 2**70, "", " ", "\x00", "\x1b[2J", "é" * 300, "human", "NaN"),
    *([], {}, [[]], [None], {"": {}}, [[[[[[[[]]]]]]]], {"from": "human", "value": "x"}, {"type": "text", "text": 3}),
)


def mutated(seeds: list[bytes], number: int) -> Iterator[bytes]:
    """Yield the seeds, then changes to their bytes and to the values of those that are JSON."""
    yield from seeds
    rng = random.Random(11)
    for _ in range(number):
        seed = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 2, 4))):
            seed = _other_value(seed, rng) if rng.random() < 0.6 else _other_bytes(seed, rng)
        yield seed


def _other_bytes(content: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(content) + 1), rng.randrange(1, 9)
    piece = rng.choice(
        (b"", rng.randbytes(length), b"[" * 400, b"\xff", b"\xed\xa0\x80", b"\x00", content[at : at + 50])
    )
    return rng.choice(
        (content[:at], content[:at] + piece + content[at + len(piece) :], content[:at] + piece + content[at:])
    )


def _other_value(content: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _other_bytes(content, rng)
    nodes: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(nodes) < 5000:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        nodes += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    if not nodes:
        return json.dumps(rng.choice(ODD)).encode()
    node, key = rng.choice(nodes)
    if rng.random() < 0.2:
        del node[key]
    elif rng.random() < 0.2 and isinstance(node, dict):
        node[rng.choice(("", "x", "label", "role"))] = node.pop(key)
    else:
        node[key] = rng.choice(ODD)
    return json.dumps(value).encode()


Target = Callable[[bytes], object]


def router_target(_tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    content = to_bytes(router_world().assembled())
    start = 8 + int.from_bytes(content[:8], "little")
    header = orjson.loads(content[8:start])
    document = orjson.loads(header["__metadata__"][METADATA_KEY])
    path = _tmp / "r.safetensors"

    def read(changed: bytes) -> object:
        """Read the bytes; when they are a description, a whole file with it and with the hash that it needs."""
        if changed.startswith(b"{"):
            header["__metadata__"][METADATA_KEY] = changed.decode(errors="replace")
            text = orjson.dumps(header)
            blank = len(text).to_bytes(8, "little") + text + content[start:]
            changed = blank.replace(NO_HASH.encode(), hashlib.sha256(blank).hexdigest().encode(), 1)
        path.write_bytes(changed)
        with suppress(MoeRouterError):
            SafetensorsRouterStore().load(path)
        return from_bytes(changed)

    return read, [content, orjson.dumps({**document, "sha256": NO_HASH})]


def metadata_target(_tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    _, store = generate({name: rows_of(name, 30) for name in NAMES})
    folder = Path("out")
    seed = store.folders[folder]["metadata.json"]

    def read(changed: bytes) -> object:
        store.folders[folder]["metadata.json"] = changed
        report = VerifyDataset(store)(folder)
        parse_metadata(changed, folder)
        return report, read_existing(store, folder)

    return read, [seed]


def rows_target(_tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    _, store = generate({name: rows_of(name, 30) for name in NAMES})
    return lambda changed: parse_rows(changed, "x"), [store.folders[Path("out")]["val.jsonl"]]


CHATS = [
    b'{"messages": [{"role": "system", "content": ""}, {"role": "user", "content": [{"type": "text", "text": 1}]}]}',
    b'{"conversations": [{"from": "human", "value": "<image>a"}, {"from": "gpt", "value": "b"}], "images": []}',
    b'{"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "r", "tool_call_id": "1"}, '
    b'{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}',
    b'{"id": 3, "prompt": "one", "images": null}',
]


def source_target(_tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    def read(changed: bytes) -> object:
        parsed = parse_json(changed)
        if parsed is None or isinstance(parsed, Rejection):
            return parsed
        return [extract_prompt(parsed[0], turn=turn) for turn in TurnChoice]

    return read, CHATS


def files_target(tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    path, rows = tmp / "source", [{"prompt": f"open day {n}", "completion": "x"} for n in range(4)]
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table)
    lines = b"\n".join(map(orjson.dumps, rows))
    csv = b"prompt,completion\n" + b"\n".join(b'"open day %d","x\ny"' % n for n in range(4))
    seeds = [lines, orjson.dumps(rows), csv, csv.replace(b",", b"\t"), table.getvalue(), gzip.compress(lines)]

    def read(changed: bytes) -> object:
        path.write_bytes(changed)
        with FileSourceReader().read_all(Source("a", path)) as found:
            return list(found)

    return read, [*seeds, random.Random(5).randbytes(3000)]


def chats_target(_tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    def read(changed: bytes) -> object:
        try:
            value = orjson.loads(changed)
        except orjson.JSONDecodeError:
            return None
        turns = (
            next((value[key] for key in ("messages", "conversations") if key in value), value)
            if isinstance(value, dict)
            else value
        )
        chat = parse_turns(turns)
        return [routing_text(chat, turn) for turn in TurnChoice]

    return read, CHATS


def prompts_target(tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    paths = [tmp / "p.jsonl", tmp / "p.txt"]

    def read(changed: bytes) -> object:
        for path in paths:
            path.write_bytes(changed)
            try:
                list(PromptFileReader().stream_prompt_rows(path))
            except MoeRouterError:
                continue
        return PromptFileReader().read_prompts(paths[0])

    return read, [*CHATS, b"\n".join(CHATS), b'plain text\n\n"quoted"\n']


def checkpoint_target(tmp: Path, _base: Path) -> tuple[Target, list[bytes]]:
    store, path = SafetensorsCheckpointStore(), tmp / "head.safetensors"
    tensors = {name: tensor for name, tensor in router_world().assembled().tensors.items() if name.startswith("head")}
    store.save(tmp, "head", Checkpoint("key", {"step": 1}, tensors))

    def read(changed: bytes) -> object:
        path.write_bytes(changed)
        return store.load(tmp, "head", "key")

    return read, [path.read_bytes()]


def lora_target(tmp: Path, base: Path) -> tuple[Target, list[bytes]]:
    loaded = load_base(str(base), cache_dir=tmp, device="cpu")
    write_loras(loaded, tmp / "loras")
    folder = next((tmp / "loras").iterdir())
    inspector, config = SafetensorsLoraInspector(loaded), folder / "adapter_config.json"

    def read(changed: bytes) -> object:
        config.write_bytes(changed)
        return inspector.inspect(folder)

    return read, [config.read_bytes()]


TARGETS = {
    "router": router_target,
    "metadata": metadata_target,
    "rows": rows_target,
    "source": source_target,
    "files": files_target,
    "chats": chats_target,
    "prompts": prompts_target,
    "checkpoint": checkpoint_target,
    "lora": lora_target,
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_gives_a_value_or_one_clear_error(name: str, tmp_path: Path, tiny_base: Path) -> None:
    read, seeds = TARGETS[name](tmp_path, tiny_base)
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    seen: Counter[str] = Counter()
    for content in mutated([*seeds, *kept], INPUTS):
        try:
            read(content)
            seen["read"] += 1
        except MoeRouterError as error:
            seen["refused" if len(str(error).splitlines()) == 1 else "told badly"] += 1
        except Exception as error:
            found = CORPUS / name / hashlib.sha256(content).hexdigest()[:16]
            found.parent.mkdir(parents=True, exist_ok=True)
            found.write_bytes(content)
            raise AssertionError(f"{type(error).__name__}: {error}; the input is kept in {found}") from error
    assert not seen["told badly"]
    assert seen["refused"] or name in ("source", "checkpoint")
    if EVERYTHING:
        print(f"\n{name:<22} {seen.total():>5} inputs: {seen['read']} read, {seen['refused']} refused")
