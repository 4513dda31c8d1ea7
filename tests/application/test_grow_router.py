"""Growing a router end to end in memory: what was encoded, what was compared, what is refused."""

from pathlib import Path

import pytest
from attrs import evolve

from adapters.in_memory.datasets import InMemorySourceReader
from adapters.in_memory.prompts import InMemoryPromptReader
from adapters.in_memory.runtime import FixedClock, RecordingProgressReporter
from adapters.in_memory.training import RecordingObserver
from adapters.router.numpy_scorer import NumpyRouterScorer
from application.datasets.grow_dataset import AddToDataset, RemoveFromDataset
from application.ports.datasets import Source
from application.routing.evaluate_router import EvaluateRequest, EvaluateRouter
from application.routing.route_prompts import RoutePrompts
from application.training.grow_router import GrowRouter, GrowRouterRequest
from domain.errors import MismatchError
from domain.training_events import Noted
from tests.dataset_world import NAMES, generate, path_of, row
from tests.training_world import JOB, WORDS, world

OLD, OLD_ROUTER, NEW_ROUTER = Path("out"), Path("old.safetensors"), Path("new.safetensors")
BILLING = ["invoice", "pay", "refund", "card", "charge", "balance", "receipt", "bill", "fee"]


OUT_OF_SCOPE = Path("out-of-scope.txt")


def old_job(**more):
    return evolve(JOB, train_path=OLD / "train.jsonl", val_path=OLD / "val.jsonl", router_out=OLD_ROUTER, **more)


def prompts(words, count):
    return [row(" ".join([*words[n % 7 : n % 7 + 3], str(n)])) for n in range(count)]


@pytest.fixture
def grown():
    """Return the growing use case, its world and store, with a router trained on a generated data set."""
    _, store = generate({name: prompts(WORDS[name], 40) for name in NAMES}, train_samples=15, eval_samples=6)
    places = world().having(rows=store, prompts=InMemoryPromptReader({OUT_OF_SCOPE: ["hello there", "what is rain"]}))
    places.trainer.train(old_job(), RecordingObserver())

    def score(router, path):
        route = RoutePrompts(router, places.extractor, NumpyRouterScorer())
        evaluation = EvaluateRouter(store, InMemoryPromptReader({}), route, RecordingProgressReporter())
        return evaluation(EvaluateRequest(path, robustness=False))

    return GrowRouter(places.trainer, places.routers, store, score), places, store


def add_billing(store):
    sources = InMemorySourceReader({path_of("billing"): prompts(BILLING, 40)})
    return AddToDataset(sources, store, FixedClock())(
        OLD, Source("billing", path_of("billing")), output_dir=Path("grown"), tool_version="1"
    )


def request(grown_dataset, **more):
    return GrowRouterRequest(OLD_ROUTER, OLD, grown_dataset, NEW_ROUTER, **more)


def test_the_report_compares_every_adapter_on_held_out_prompts(grown):
    use_case, places, store = grown
    report = use_case(request(add_billing(store)), RecordingObserver())
    assert [one.adapter for one in report.changes] == [*NAMES, "billing"]
    assert [one.before is None for one in report.changes] == [False, False, False, True]
    assert report.before.data_path == OLD / "eval.jsonl"
    assert report.after.data_path == Path("grown/eval.jsonl")
    assert (report.before.figures.total, report.after.figures.total) == (18, 24)
    assert report.changes[-1].after == report.after.figures.adapters[-1].recall > 0.8
    assert places.routers.load(NEW_ROUTER).card.labels.names == (*NAMES, "billing")


def test_the_old_router_stays_and_gives_the_new_one_its_layers_and_seed(grown):
    use_case, places, store = grown
    before = places.routers.load(OLD_ROUTER)
    use_case(request(add_billing(store)), RecordingObserver())
    after = places.routers.load(NEW_ROUTER)
    assert places.routers.load(OLD_ROUTER).card == before.card
    assert after.card.features == before.card.features
    assert (after.card.seed, after.card.head) == (before.card.seed, before.card.head)


def test_an_adapter_that_leaves_is_reported_last_without_an_after(grown):
    use_case, _, store = grown
    smaller = RemoveFromDataset(store, FixedClock())(OLD, NAMES[0], output_dir=Path("less"), tool_version="1")
    report = use_case(request(smaller), RecordingObserver())
    assert [one.adapter for one in report.changes] == [*NAMES[1:], NAMES[0]]
    assert report.changes[-1].after is None


def test_a_router_of_another_data_set_is_refused_before_anything_is_trained(grown):
    use_case, places, store = grown
    larger = add_billing(store)
    with pytest.raises(MismatchError, match="label maps differ"):
        use_case(evolve(request(larger), old_dataset=larger.path), RecordingObserver())
    assert NEW_ROUTER not in places.routers.routers


def notes(observer):
    return [
        event.message for event in observer.events if isinstance(event, Noted) and "out-of-scope" in event.message
    ]


def test_out_of_scope_examples_are_trained_on_again_or_their_loss_is_told(grown):
    use_case, places, store = grown
    observer = RecordingObserver()
    report = use_case(request(larger := add_billing(store)), observer)
    assert (tuple(card.n_out_of_scope for card in report.cards), notes(observer)) == ((0, 0), [])

    places.trainer.train(old_job(out_of_scope_path=OUT_OF_SCOPE), RecordingObserver())
    given = RecordingObserver()
    report = use_case(request(larger, out_of_scope=OUT_OF_SCOPE), given)
    assert (tuple(card.n_out_of_scope for card in report.cards), notes(given)) == ((2, 2), [])
    assert places.routers.load(NEW_ROUTER).card.n_out_of_scope == 2

    lost = RecordingObserver()
    report = use_case(request(larger), lost)
    assert tuple(card.n_out_of_scope for card in report.cards) == (2, 0)
    [told] = notes(lost)
    assert "knows 2 out-of-scope examples" in told
    assert "give the file of these prompts again" in told
