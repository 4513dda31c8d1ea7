"""Router heads trained with torch: AdamW on features that were extracted once.

Always on the CPU and on one thread, wherever the features came from: a head has some thousand weights, a step
takes a fraction of a millisecond, and the same job gives the same bits on every number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional

from adapters.router.head_initialisation import HeadSettings, StartingPoint, kernel_start, linear_start
from adapters.router.ridge import balanced_rows, one_thread
from adapters.router.router_heads import prepared_head, standardised
from application.ports import HeadEvaluation, HeadProblem, HeadSession, StepResult
from domain.errors import UsageError
from domain.features import Matrix

HIDDEN_UNITS = 64
WARM_UP_STEPS = 80
WARM_UP_ROWS = 600
WARM_UP_RATE = 3e-3
WEIGHT_DECAY = 0.01
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what AdamW remembers of each weight

Forward = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def _affine(rows: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    return functional.linear(rows, weights["head.weight"], weights["head.bias"])  # (n, D) -> (n, C)


def _affine_beside(rows: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Read columns beyond the weights as logits that training does not change."""
    width = weights["head.weight"].shape[1]
    return _affine(rows[:, :width], weights) + rows[:, width:]


def _perceptron(rows: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    hidden = torch.relu(functional.linear(rows, weights["head.0.weight"], weights["head.0.bias"]))  # (n, H)
    return functional.linear(hidden, weights["head.1.weight"], weights["head.1.bias"])  # (n, H) -> (n, C)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchHeadSession:
    """A :class:`application.ports.HeadSession`: AdamW (Loshchilov & Hutter 2019) on mean cross entropy."""

    def __init__(self, start: StartingPoint, forward: Forward, problem: HeadProblem, learning_rate: float) -> None:
        self._start = start
        self._forward = forward
        self._train = torch.from_numpy(np.ascontiguousarray(start.train, np.float32))  # (n_train, D)
        self._val = torch.from_numpy(np.ascontiguousarray(start.val, np.float32))  # (n_val, D)
        self.settings = start.settings
        self._train_labels = torch.tensor(problem.train.labels)
        self._val_labels = torch.tensor(problem.val.labels)
        self._n_labels = problem.n_labels
        self._weights = {
            name: torch.from_numpy(np.array(value, np.float32)).requires_grad_()
            for name, value in start.weights.items()
        }
        self._optimiser = torch.optim.AdamW(
            list(self._weights.values()), lr=learning_rate, weight_decay=WEIGHT_DECAY, foreach=False
        )

    def train_step(self, rows: Sequence[int]) -> StepResult:
        """Make one AdamW step on these training rows."""
        with _one_thread():
            index = torch.tensor(rows)
            logits, labels = self._forward(self._train[index], self._weights), self._train_labels[index]
            loss = functional.cross_entropy(logits, labels)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            correct = int((logits.argmax(dim=1) == labels).sum())
        return StepResult(loss=float(loss.detach()), correct=correct)

    def evaluate(self) -> HeadEvaluation:
        """Score the validation rows."""
        with _one_thread(), torch.no_grad():
            logits = self._forward(self._val, self._weights)[:, : self._n_labels]
            loss = float(functional.cross_entropy(logits, self._val_labels))
            right = int((logits.argmax(dim=1) == self._val_labels).sum())
            return HeadEvaluation(loss, right / len(self._val_labels), logits.softmax(dim=1).numpy())

    def set_learning_rate(self, learning_rate: float) -> None:
        """Use this rate from the next step on."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return the weights, and AdamW's moments and step counts once there are any."""
        saved = {f"weight.{name}": _copy(weight) for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            for moment, value in self._optimiser.state.get(weight, {}).items():
                saved[f"{moment}.{name}"] = _copy(value)
        return saved

    def restore(self, snapshot: Mapping[str, Matrix]) -> None:
        """Go on from a snapshot."""
        self._optimiser.state.clear()
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(torch.from_numpy(np.array(snapshot[f"weight.{name}"])))
                if f"step.{name}" in snapshot:
                    self._optimiser.state[weight] = {
                        moment: torch.from_numpy(np.array(snapshot[f"{moment}.{name}"])) for moment in _MOMENTS
                    }

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights as they are now."""
        return {name: _copy(weight) for name, weight in self._weights.items()}

    def router_tensors(self, weights: Mapping[str, Matrix]) -> dict[str, np.ndarray]:
        """Return scaling, fixed parts and these weights."""
        return {name: np.array(value) for name, value in {**self._start.fixed, **weights}.items()}


def _copy(tensor: Tensor) -> np.ndarray:
    """Return a copy in the layout in which a checkpoint gives it back: the last bits of products depend on it."""
    return np.array(tensor.detach().numpy(), order="C")


def _warm_mlp(problem: HeadProblem, _like: HeadSettings | None = None) -> StartingPoint:
    """Start an MLP from a short full-batch fit, at the point where the validation loss was lowest."""
    train, val, fixed = standardised(problem)
    generator = torch.Generator().manual_seed(problem.seed)
    sizes = {"head.0": (HIDDEN_UNITS, train.shape[1]), "head.1": (problem.n_labels + 1, HIDDEN_UNITS)}
    weights: dict[str, np.ndarray] = {}
    for layer, (fan_out, fan_in) in sizes.items():  # He et al. 2015
        drawn = torch.randn((fan_out, fan_in), generator=generator) * (2.0 / fan_in) ** 0.5
        weights |= {f"{layer}.weight": drawn.numpy(), f"{layer}.bias": np.zeros(fan_out, np.float32)}
    session = TorchHeadSession(StartingPoint(train, val, fixed, weights), _perceptron, problem, WARM_UP_RATE)
    rows = balanced_rows(problem.train.labels, WARM_UP_ROWS)
    best_loss, best = session.evaluate().loss, session.weights()
    for step in range(WARM_UP_STEPS):
        session.train_step(rows)
        if step % 5 == 4 and (loss := session.evaluate().loss) < best_loss:
            best_loss, best = loss, session.weights()
    return StartingPoint(train, val, fixed, best)


_STARTS: Final[Mapping[str, tuple[Callable[[HeadProblem, HeadSettings | None], StartingPoint], Forward]]] = {
    "kernel": (kernel_start, _affine_beside),  # its kernel columns are computed once; what remains is linear
    "linear": (linear_start, _affine),
    "mlp": (_warm_mlp, _perceptron),
}


@frozen
class TorchHeadTrainer:
    """A :class:`application.ports.HeadTrainer` for the kinds of head in :mod:`adapters.router.router_heads`."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of heads: kernel first, which was the best on every held-out set (docs/experiments.md)."""
        return tuple(_STARTS)

    def start(
        self, kind: str, problem: HeadProblem, learning_rate: float, like: HeadSession | None = None
    ) -> TorchHeadSession:
        """Initialise a head; raises UsageError for an unknown kind."""
        if kind not in _STARTS:
            raise UsageError(f"unknown kind of router head {kind!r}", hint=f"known: {', '.join(_STARTS)}")
        start, forward = _STARTS[kind]
        settings = like.settings if isinstance(like, TorchHeadSession) else None
        return TorchHeadSession(start(problem, settings), forward, problem, learning_rate)

    def logits(self, kind: str, tensors: Mapping[str, Matrix], features: Matrix, texts: Sequence[str]) -> np.ndarray:
        """Return the logits as serving computes them; see the port."""
        with one_thread():
            return prepared_head(kind, tensors)(np.asarray(features, np.float32), texts)
