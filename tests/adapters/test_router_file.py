"""The router file against everything that can go wrong with a file."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import orjson
import pytest
from safetensors.numpy import load, save

from adapters.base_model.embedded_base import EMBEDDED_INSTALL, EMBEDDED_NAME
from adapters.router.router_bytes import METADATA_KEY, from_bytes, to_bytes
from adapters.router.router_model_card import model_card
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.ports import TrainedRouter
from domain.errors import MissingFileError, RouterFileError, StorageError, UsageError
from domain.routing import AbstentionThresholds
from tests.router_world import router_world


@pytest.fixture(scope="module")
def router() -> TrainedRouter:
    return router_world().assembled()


@pytest.fixture(scope="module")
def content(router: TrainedRouter) -> bytes:
    return to_bytes(router)


def test_the_same_router_gives_the_same_bytes_in_every_process(content):
    code = "from tests.router_world import *; from adapters.router.router_bytes import to_bytes; import hashlib;"
    code += "print(hashlib.sha256(to_bytes(router_world().assembled())).hexdigest())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert found.stdout.strip() == hashlib.sha256(content).hexdigest()


def test_other_libraries_read_the_tensors(content, router):
    assert set(load(content)) == set(router.tensors)


def test_every_prefix_is_refused(content):
    for length in range(len(content)):
        with pytest.raises(RouterFileError):
            from_bytes(content[:length])


def test_every_flipped_byte_is_refused(content):
    damaged = bytearray(content)
    for position in range(len(content)):
        for flip in (0x01, 0xFF):
            damaged[position] ^= flip
            with pytest.raises(RouterFileError):
                from_bytes(bytes(damaged))
            damaged[position] ^= flip
    assert from_bytes(bytes(damaged)).sha256


@pytest.mark.parametrize("added", [b"\0", b"{}", b"\n"])
def test_bytes_after_the_end_are_refused(content, added):
    with pytest.raises(RouterFileError):
        from_bytes(content + added)


@pytest.mark.parametrize("length", range(120, 137))
def test_no_header_length_is_taken_for_a_pickle(router, length):
    """The first byte of a safetensors file is part of a length, and may be what pickles begin with."""
    bank = ("x" * length, *router.bank_texts[1:])
    assert from_bytes(to_bytes(attrs.evolve(router, bank_texts=bank))).bank_texts == bank


def forge(content: bytes, edit: Any, tensors: dict[str, Any] | None = None) -> bytes:
    """Return the file with its description edited and its hash made right again, as an attacker would."""
    end = 8 + int.from_bytes(content[:8], "little")
    document = orjson.loads(orjson.loads(content[8:end])["__metadata__"][METADATA_KEY])
    edit(document)
    document["sha256"] = "0" * 64
    blank = save(tensors or load(content), metadata={METADATA_KEY: orjson.dumps(document).decode()})
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)


def test_the_forging_helper_makes_files_that_load(content):
    assert from_bytes(forge(content, lambda document: None)).bank_texts


def test_a_file_says_which_turn_it_reads(content):
    with pytest.raises(RouterFileError, match="lacks 'turn'"):
        from_bytes(forge(content, lambda d: d["card"].pop("turn")))
    assert from_bytes(forge(content, lambda d: d["card"].update(turn="last"))).card.turn == "last"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d["card"]["labels"].update(red=1, green=0), None),
        (lambda d: d["card"]["labels"].pop("blue"), r"shape \[4, 6\], expected \[3, 6\]"),
        (lambda d: d["card"]["labels"].update(blue=3), "not contiguous"),
        (lambda d: d["card"]["labels"].update({"../x": 3}), "not allowed"),
        (lambda d: d["card"].update(layers=[3, 1]), "ascending"),
        (lambda d: d["card"].update(layers=[1]), "shape"),
        (lambda d: d["card"].update(pooling="first"), "first"),
        (lambda d: d["card"].update(temperature=0), "temperature"),
        (lambda d: d["card"].update(temperature=None), "temperature"),
        (lambda d: d["card"].update(temperature=True), "temperature"),
        (lambda d: d["card"].update(head="forest"), "forest"),
        (lambda d: d["card"].update(head="mlp"), "lacks the tensor"),
        (lambda d: d["card"].pop("seed"), "lacks 'seed'"),
        (lambda d: d["card"].update(extra=1), "unknown entry 'extra'"),
        (lambda d: d["card"].update(turn="third"), "'third' is not a valid TurnChoice"),
        (lambda d: d["card"]["base_model"].update(n_layers="4"), "n_layers"),
        (lambda d: d["card"].update(trade_off={}), r"is \{\}, expected list @ card\.trade_off"),
        (lambda d: d["card"].update(trade_off=[{}]), "lacks 'target_error'"),
        (lambda d: d["card"].update(layers={"1": 3}), r"expected list @ card\.layers"),
        (lambda d: d["bank_texts"].pop(), "bank"),
        (lambda d: d.update(bank_texts=[1] * 30), "bank_texts"),
        (lambda d: d.update(format="moe-router/1"), "format moe-router/1, this version reads moe-router/3"),
        (lambda d: d.update(format="moe-router/2"), "format moe-router/2, this version reads moe-router/3"),
        (lambda d: d.update(format="something"), "not a router file"),
        (lambda d: d.update(more=1), "entries"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(content, router, edit, message):
    forged = forge(content, edit)
    if message is None:  # a reordered label map is a router of its own; comparing maps is the reader's part
        assert from_bytes(forged).card.labels != router.card.labels
    else:
        with pytest.raises(RouterFileError, match=message):
            from_bytes(forged)


def change(tensors: dict[str, Any], name: str, kind: str) -> None:
    if kind == "missing":
        del tensors[name]
    elif kind == "nan" and tensors[name].dtype.kind == "f":
        tensors[name] = tensors[name].copy()
        tensors[name].flat[0] = np.nan
    elif kind == "nan":
        tensors[name] = np.full_like(tensors[name], 99)
    elif kind == "longer":
        tensors[name] = np.concatenate([tensors[name], tensors[name][:1]])
    else:
        tensors[name] = tensors[name][None]


@pytest.mark.parametrize("kind", ["missing", "nan", "longer", "deeper"])
def test_every_tensor_must_be_there_of_its_shape_and_finite_on_load_and_on_save(content, router, kind):
    for name in router.tensors:
        if kind == "longer" and name in ("bank.background", "bank.out_of_scope"):
            continue  # any number of these is right
        tensors = load(content)
        change(tensors, name, kind)
        with pytest.raises(RouterFileError):
            from_bytes(forge(content, lambda document: None, tensors))
        with pytest.raises(RouterFileError):
            to_bytes(attrs.evolve(router, tensors=tensors))


@pytest.mark.parametrize("name", ["extra", "head.extra", "bank.extra", "feature.extra"])
def test_no_other_tensor_may_stand_there(content, name):
    with pytest.raises(RouterFileError, match="unexpected tensor"):
        from_bytes(forge(content, lambda document: None, {**load(content), name: np.zeros(1, np.float32)}))


def test_a_card_that_json_cannot_hold_is_not_written(router):
    for bad in (
        {"temperature": float("nan")},
        {"thresholds": AbstentionThresholds(min_confidence=float("inf"))},
        {"seed": 2**80},
        {"dataset": "\ud800"},
    ):
        with pytest.raises(RouterFileError):
            to_bytes(attrs.evolve(router, card=attrs.evolve(router.card, **bad)))


class Canary:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def unsafe_files(canary: Path) -> dict[str, bytes]:
    torch = pytest.importorskip("torch")
    import gzip
    import io

    new, old = io.BytesIO(), io.BytesIO()
    torch.save({"head.weight": Canary(canary)}, new)
    torch.save({"head.weight": Canary(canary)}, old, _use_new_zipfile_serialization=False)
    pickled = pickle.dumps(Canary(canary))
    return {
        "zip": new.getvalue(),
        "legacy": old.getvalue(),
        "pickle": pickled,
        "protocol-0": pickle.dumps(Canary(canary), protocol=0),
        "joblib-gz": gzip.compress(pickled),
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin", ".pkl", ""])
def test_a_pickle_is_refused_under_any_name_and_never_run(tmp_path, suffix):
    canary = tmp_path / "canary"
    for name, content in unsafe_files(canary).items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        with pytest.raises(RouterFileError, match=path.name):
            SafetensorsRouterStore().load(path)
        folder = tmp_path / f"folder-{name}{suffix.removeprefix('.')}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(content)
        (folder / "config.json").write_bytes(content)
        with pytest.raises(RouterFileError):
            SafetensorsRouterStore().load(folder)
    assert not canary.exists()
    pickle.loads(unsafe_files(canary)["pickle"])  # the canary does sing when somebody unpickles it
    assert canary.exists()


def test_a_torch_file_is_written_beside_for_others_and_loads_without_code(router, tmp_path):
    torch = pytest.importorskip("torch")
    store = SafetensorsRouterStore()
    kept = store.save(router, tmp_path / "router-head.pt")
    assert kept == tmp_path / "router-head.safetensors"
    assert store.load(kept).card == router.card
    content = torch.load(tmp_path / "router-head.pt", weights_only=True)
    assert set(content["state_dict"]) == set(router.tensors)
    np.testing.assert_array_equal(content["state_dict"]["head.weight"].numpy(), router.tensors["head.weight"])
    assert orjson.loads(content["card"])["labels"] == router.card.labels.as_mapping()
    with pytest.raises(RouterFileError, match=r"router-head\.pt: .*run code.*router-head\.safetensors, beside it"):
        store.load(tmp_path / "router-head.pt")


def test_a_folder_holds_config_weights_and_card_and_loads(router, tmp_path):
    store = SafetensorsRouterStore()
    folder = store.save(router, tmp_path / "my-router")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = orjson.loads((folder / "config.json").read_bytes())
    assert config["id2label"] == {"0": "red", "1": "green", "2": "blue"}
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert config["sha256"] in card
    loaded = store.load(folder)
    assert (loaded.card, loaded.bank_texts, loaded.sha256) == (router.card, router.bank_texts, config["sha256"])
    changed = attrs.evolve(router, card=attrs.evolve(router.card, seed=7))
    assert store.load(store.save(changed, folder)).card.seed == 7


def test_the_card_says_how_to_install_the_base_model_that_no_hub_has(router):
    assert EMBEDDED_INSTALL not in model_card(router.card, "0" * 64)
    base = attrs.evolve(router.card.features.base, name=EMBEDDED_NAME)
    card = attrs.evolve(router.card, features=attrs.evolve(router.card.features, base=base))
    assert f"constraints.txt .\n{EMBEDDED_INSTALL}   #" in model_card(card, "0" * 64)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["id2label"].update({"0": "green"}), r"id2label.*green.*red"),
        (lambda c: c["router"].update(temperature=9.0), "router"),
        (lambda c: c.update(sha256="f" * 64), "sha256"),
        (lambda c: c.pop("num_labels"), "num_labels"),
    ],
)
def test_a_config_that_says_something_else_is_refused_with_both_sides(router, tmp_path, edit, message):
    folder = SafetensorsRouterStore().save(router, tmp_path / "r")
    config = orjson.loads((folder / "config.json").read_bytes())
    config["transformers_version"] = "5"  # entries of other tools are welcome
    (folder / "config.json").write_bytes(orjson.dumps(config))
    assert SafetensorsRouterStore().load(folder)
    edit(config)
    (folder / "config.json").write_bytes(orjson.dumps(config))
    with pytest.raises(RouterFileError, match=message):
        SafetensorsRouterStore().load(folder)


def test_a_folder_of_something_else_is_neither_replaced_nor_loaded(router, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.tex").write_text("words")
    with pytest.raises(OSError, match=r"thesis: .*not part of a router: chapter-1\.tex"):
        SafetensorsRouterStore().save(router, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter-1.tex").read_text() == "words"
    with pytest.raises(MissingFileError, match="a folder without a router"):
        SafetensorsRouterStore().load(tmp_path / "thesis")


def test_a_form_that_nobody_can_write_is_named(router, tmp_path):
    with pytest.raises(UsageError, match=r"\.onnx"):
        SafetensorsRouterStore().save(router, tmp_path / "r.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_that_is_no_router_is_refused_after_its_header(tmp_path):
    path = tmp_path / "llm.safetensors"
    header = save({"w": np.zeros(1, np.float32)})
    with path.open("wb") as file:
        file.write(header)
        file.truncate(1 << 40)  # a sparse terabyte
    with pytest.raises(RouterFileError, match="no router's description"):
        SafetensorsRouterStore().load(path)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_sparse_router_file_is_refused_before_its_tensors_are_read(content, tmp_path, claimed):
    path, size = tmp_path / "r.safetensors", 40 * 1024**3
    start = 8 + int.from_bytes(content[:8], "little")
    header = orjson.loads(content[8:start])
    if claimed:
        last = max(
            (entry for name, entry in header.items() if name[0] != "_"), key=lambda one: one["data_offsets"][1]
        )
        last["data_offsets"][1] = size
    text = orjson.dumps(header)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    with pytest.raises(RouterFileError, match="larger than 4 GiB" if claimed else "its header describes"):
        SafetensorsRouterStore().load(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "r.safetensors")
    with pytest.raises(StorageError, match="device or pipe"):
        SafetensorsRouterStore().load(tmp_path / "r.safetensors")


def test_saving_follows_a_link_and_leaves_nothing_beside(router, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "latest.safetensors").symlink_to(tmp_path / "kept" / "r.safetensors")
    SafetensorsRouterStore().save(router, tmp_path / "latest.safetensors")
    assert (tmp_path / "latest.safetensors").is_symlink()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["r.safetensors"]


def test_a_full_disk_and_a_bad_parent_give_one_clear_error_and_nothing_else(router, tmp_path, monkeypatch):
    store = SafetensorsRouterStore()
    target = store.save(router, tmp_path / "r.safetensors")
    before = target.read_bytes()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file/r"):
        store.save(router, tmp_path / "file" / "r.safetensors")

    real = os.write

    def full(descriptor: int, content: bytes) -> int:
        real(descriptor, bytes(content[:100]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match=r"r\.safetensors: cannot write: No space left"):
        store.save(attrs.evolve(router, card=attrs.evolve(router.card, seed=1)), target)
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "r.safetensors"]


@pytest.mark.parametrize(
    ("name", "call"),
    [("r.safetensors", call) for call in ("open", "close", "fsync", "replace")]
    + [("folder", call) for call in ("mkdir", "open", "write", "fsync", "close")],
)
def test_killed_at_any_call_the_old_router_or_the_new_one_is_there(router, tmp_path, name, call):
    store = SafetensorsRouterStore()
    target = store.save(router, tmp_path / name)
    newer = attrs.evolve(router, card=attrs.evolve(router.card, seed=99))
    for nth in range(1, 40):
        if not killed_at(nth, call, lambda: store.save(newer, target)):
            break
        assert store.load(target).card.seed in (42, 99)
    assert nth > 1, "the call never came: nothing was tested"
    assert store.load(target).card.seed == 99
    assert store.save(router, target) == target


def killed_at(nth: int, call: str, work: Any) -> bool:
    """Run `work` in a child that dies at its nth call of ``os.<call>``; tell whether it died."""
    child = os.fork()
    if child == 0:
        real, count = getattr(os, call), 0

        def deadly(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(os, call, deadly)
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
