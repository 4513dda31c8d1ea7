"""How decisions hold up outside the training data: ``python benchmarks/robustness.py --data DIR``.

Parts (``--part``, several with commas):

- changed: prompts of the ten CLINC domains as they are, and in each kind of ``changed_prompts.py``. Also prints the
  promises: the error among the answered prompts beside the target, over draws.
- templated: script-made training rows of six applications, prompts written by hand (``templated.py``).
- documents: an instruction somewhere in a document, one route per task (``documents.py``).

What training and routing cost is measured by ``robustness_cost.py``.

Columns:

- rows per route: ``--train-samples``, of which four fifths are trained on and one fifth is for validation;
- accuracy: share of prompts whose best route is the right one, abstention aside;
- answered rightly: share of prompts that are answered, and by the right route;
- wrong among answered: share of the answered prompts that get the wrong route;
- out of scope refused: share of the prompts of no route that are not answered. No system is given examples of them.

This router answers or not by the limits that training gave it. Peers get a limit on their confidence, fitted on the
validation rows to the same target. Figures of several kinds or draws are of all their prompts together. Nothing is
chosen on these prompts.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any library reads it: nothing here needs the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gc
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs
import click
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import robustness_trials as trials
import routing_peers as peers
from changed_prompts import CHANGES
from robustness_trials import CHANGED_OUT_OF_SCOPE, OUT_OF_SCOPE, PLAIN, Count, OurAnswers, PeerAnswers
from routing_ours import ThisRouter

from domain.errors import MoeRouterError, UsageError
from domain.trade_off import LIMITS_SHOWN

BASES: dict[str, Callable[[], str | None]] = {"embedded": lambda: None, "minilm": peers.minilm_folder}
PEERS: dict[str, Callable[[int], peers.System]] = {
    "semantic-router": peers.SemanticRouter,
    "setfit": peers.SetFit,
    "logreg": peers.LogisticRegression,
    "logreg-words": peers.WordsLogisticRegression,
    "logreg-both": peers.WordsAndEncoderLogisticRegression,
}
PARTS = ("changed", "templated", "documents")
KINDS = tuple(kind.name for kind in CHANGES)


def system_of(name: str, seed: int, targets: list[float], cached: bool) -> OurAnswers | PeerAnswers:
    """Build a system by its name: a base of ours, or a peer."""
    if name in BASES:
        return OurAnswers(ThisRouter(BASES[name](), seed, cached=cached), targets)
    return PeerAnswers(PEERS[name](seed), targets)


def share(part: float, whole: float) -> str:
    """Return a share with three digits; a dash when there is nothing that it could be a share of."""
    return f"{part / whole:.3f}" if whole else "–"


def summed(counts: Iterable[Count]) -> tuple[int, int, int, int]:
    """Return prompts, right ones, answered ones and rightly answered ones of all counts together."""
    rows = [(each.total, each.right, each.answered, each.answered_rightly) for each in counts]
    return tuple(map(sum, zip(*rows, strict=True))) if rows else (0, 0, 0, 0)  # type: ignore[return-value]


def cells(counts: Iterable[Count]) -> list[str]:
    """Return accuracy, answered rightly and wrong among answered."""
    total, right, answered, rightly = summed(counts)
    return [share(right, total), share(rightly, total), share(answered - rightly, answered)]


def refused(counts: Iterable[Count]) -> str:
    """Return the share of prompts that were not answered."""
    total, _, answered, _ = summed(counts)
    return share(total - answered, total)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; all but the first column stand on the right."""
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def kinds_table(counts: Sequence[Count]) -> str:
    """Return the figures of each kind of prompt, systems one below the other."""
    rows = []
    for (system, samples, target), found in _grouped(counts, "system", "samples", "target"):
        kinds = list(dict.fromkeys(each.kind for each in found))
        shown = [kind for kind in kinds if kind not in (OUT_OF_SCOPE, CHANGED_OUT_OF_SCOPE)]
        rows += [
            [system, samples, target, kind, *cells(each for each in found if each.kind == kind), ""] for kind in shown
        ]
        if changed := [each for each in found if each.kind in KINDS]:
            rows.append([system, samples, target, "**all changed**", *cells(changed), ""])
        rows += [
            [system, samples, target, kind, "", "", "", refused(each for each in found if each.kind == kind)]
            for kind in kinds
            if kind not in shown
        ]
    columns = [
        "system",
        "rows per route",
        "target error",
        "prompts",
        "accuracy",
        "answered rightly",
        "wrong among answered",
    ]
    return markdown([*columns, "out of scope refused"], rows)


def promises_table(counts: Sequence[Count]) -> str:
    """Return the error among answered prompts beside the target; in brackets the worst draw."""
    rows = []
    for (system, samples, target), found in _grouped(counts, "system", "samples", "target"):
        draws = [list(each) for _, each in _grouped(found, "seed")]
        row = [system, samples, target, len(draws)]
        for kinds in ((PLAIN,), KINDS):
            picked = [[each for each in draw if each.kind in kinds] for draw in draws]
            total, _, answered, _ = summed(itertools.chain(*picked))
            least = min(share(summed(each)[2], summed(each)[0]) for each in picked)
            worst = max((cells(each)[2] for each in picked if summed(each)[2]), default="–")
            row += [f"{share(answered, total)} ({least})", f"{cells(itertools.chain(*picked))[2]} ({worst})"]
        rows.append([*row, refused(each for each in found if each.kind == OUT_OF_SCOPE)])
    columns = ["system", "rows per route", "target error", "draws", "answered (least)", "wrong among them (worst)"]
    return markdown([*columns, "changed: answered (least)", "wrong among them (worst)", "out of scope refused"], rows)


def _grouped(counts: Iterable[Count], *names: str) -> list[tuple[tuple[object, ...], list[Count]]]:
    groups: dict[tuple[object, ...], list[Count]] = {}
    for each in counts:
        groups.setdefault(tuple(getattr(each, name) for name in names), []).append(each)
    return list(groups.items())


def report(counts: Sequence[Count]) -> str:
    """Return all tables."""
    texts = []
    for (part,), found in _grouped(counts, "part"):
        texts += [f"\n## {part}\n", kinds_table(found)]
        if part == "changed":
            texts += ["\n## promises\n", promises_table(found)]
    return "\n".join(texts)


def listed(convert: Callable[[str], object], known: Iterable[str] | None = None) -> Callable[..., list[object]]:
    """Return a click callback that reads values with commas between them, of known ones if these are given."""

    def read(_ctx: click.Context, _param: click.Parameter, value: str) -> list[object]:
        parts = [part for part in value.split(",") if part]
        if known is not None and (unknown := set(parts) - set(known)):
            raise click.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        try:
            return [convert(part) for part in parts]
        except ValueError:
            raise click.BadParameter(f"{value!r} is not a list of numbers") from None

    return read


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="For the part changed.")
@click.option("--part", "parts", default=",".join(PARTS), callback=listed(str, PARTS), help="Which parts.")
@click.option("--bases", default="embedded,minilm", callback=listed(str, BASES), help="Base models of this router.")
@click.option("--peers", "others", default="", callback=listed(str, PEERS), help=f"Of: {', '.join(PEERS)}.")
@click.option("--train-samples", "samples", default="50,200", callback=listed(int), help="Rows per route.")
@click.option("--seeds", default="42,43,44", callback=listed(int), help="One draw per seed.")
@click.option(
    "--targets",
    default="0.02",
    callback=listed(float, [f"{each:g}" for each in LIMITS_SHOWN]),
    help="Target errors; one training serves all.",
)
@click.option("--test-per-route", default=40, type=click.IntRange(min=1), help="Test prompts per route.")
@click.option("--oos", default=300, type=click.IntRange(min=1), help="Prompts that belong to no route.")
@click.option("--label-noise", "noise", default=0.0, type=click.FloatRange(0, 1), help="Share of wrong labels.")
@click.option("--unbalanced", is_flag=True, help="Every second route keeps only eight rows.")
@click.option("--cache/--no-cache", default=True, help="Read features from the user's cache (training time lies).")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Keep counts; go on.")
def main(
    data: Path | None,
    parts: list[str],
    bases: list[str],
    others: list[str],
    samples: list[int],
    seeds: list[int],
    targets: list[float],
    test_per_route: int,
    oos: int,
    noise: float,
    unbalanced: bool,
    cache: bool,
    json_file: Path | None,
) -> None:
    """Print the tables; progress goes to stderr."""
    settings = {"test_per_route": test_per_route, "oos": oos, "noise": noise, "unbalanced": unbalanced}
    if "changed" in parts and data is None:
        raise click.UsageError("the part changed needs --data")
    made = {
        "changed": lambda count, seed: trials.changed_trial(
            data, count, seed, test_per_route=test_per_route, out_of_scope=oos, noise=noise, unbalanced=unbalanced
        ),
        "templated": trials.templated_trial,
        "documents": trials.documents_trial,
    }
    counts = load(json_file, settings) if json_file else []
    for part, name, count, seed in itertools.product(parts, [*bases, *others], samples, seeds):
        run = {"part": part, "system": name, "samples": count, "seed": seed}
        kept = {each.target for each in counts if run.items() <= attrs.asdict(each).items()}
        missing = [target for target in targets if target not in kept]
        if not missing:
            continue
        counts += trials.measure(system_of(name, seed, missing, cache), made[part](count, seed), **run)
        click.echo(kinds_table([each for each in counts if run.items() <= attrs.asdict(each).items()]), err=True)
        if json_file:
            save(counts, settings, json_file)
        gc.collect()
    axes = {"part": parts, "system": [*bases, *others], "samples": samples, "seed": seeds, "target": targets}
    click.echo(report([each for each in counts if all(getattr(each, name) in axes[name] for name in axes)]))


def load(json_file: Path, settings: dict[str, object]) -> list[Count]:
    """Return the counts that an earlier run left; raises UsageError when it ran with other settings."""
    if not json_file.exists():
        return []
    kept = orjson.loads(json_file.read_bytes())
    if kept["settings"] != settings:
        raise UsageError(f"holds counts of {kept['settings']}, not {settings}", where=json_file)
    return [Count(**each) for each in kept["counts"]]


def save(counts: Sequence[Count], settings: dict[str, object], json_file: Path) -> None:
    """Write all counts so far."""
    content = {"settings": settings, "counts": [attrs.asdict(each) for each in counts]}
    json_file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    try:
        main()
    except MoeRouterError as error:
        sys.exit(f"robustness.py: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"robustness.py: {error}; the peers come with: make peers (run it with .venv-peers/bin/python)")
