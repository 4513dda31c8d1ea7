"""Use case: prove that LoRA adapters fit the loaded base model, have an effect, and differ from each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import evolve, frozen

from application.ports.answering import LoraHost, LoraProbe
from application.ports.lora import LoraInspector
from domain.errors import LoraAdapterError, MoeRouterError
from domain.labels import check_adapter_name
from domain.lora import LoraFacts, effect_problems, find_problems, find_warnings


@frozen
class LoraDiagnosis:
    """What the check found out about one LoRA adapter.

    Attributes:
        name: its name.
        folder: where it lies.
        facts: what its files say; None when they could not be read.
        problems: why it is refused; empty for a sound one.
        warnings: what a person should look at.
        effect: distance of its logits to the base model's, see LoraDistances; None when it was not run.
        nearest: the other LoRA adapter whose logits are closest, if any ran.
        nearest_distance: their distance.
    """

    name: str
    folder: Path
    facts: LoraFacts | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    effect: float | None = None
    nearest: str | None = None
    nearest_distance: float | None = None

    @property
    def sound(self) -> bool:
        """Whether it may answer prompts."""
        return not self.problems


@frozen
class LoraCheck:
    """Outcome of a check.

    Attributes:
        base_name: the base model that they were checked against.
        diagnoses: one per LoRA adapter, in the order given.
    """

    base_name: str
    diagnoses: tuple[LoraDiagnosis, ...]

    @property
    def sound(self) -> bool:
        """Whether every LoRA adapter is."""
        return all(each.sound for each in self.diagnoses)

    @property
    def refused(self) -> dict[str, str]:
        """The LoRA adapters that are not sound, each with its first problem."""
        return {each.name: each.problems[0] for each in self.diagnoses if not each.sound}

    @property
    def weights(self) -> dict[str, str]:
        """The hash of each sound LoRA adapter's weights, 64 hexadecimal digits."""
        return {each.name: each.facts.sha256 for each in self.diagnoses if each.sound and each.facts}

    def require_sound(self, remedy: str = "leave it out") -> None:
        """Raise LoraAdapterError that names every refused LoRA adapter with its first problem, and a remedy."""
        bad = [each for each in self.diagnoses if not each.sound]
        if bad:
            raise LoraAdapterError(
                "; ".join(f"LoRA adapter {each.name} is refused: {each.problems[0]}" for each in bad),
                where=bad[0].folder if len(bad) == 1 else None,
                hint=f"{remedy}; `moe-router doctor` shows everything",
            )


@frozen(eq=False)
class CheckLoraAdapters:
    """Checks files first, so that only what fits is put into the base model; then runs what is in it.

    Attributes:
        inspector: reads the folders; knows the base model.
        host: takes the LoRA adapters whose files are sound; afterwards it holds the sound ones, ready to answer.
        allow_twins: whether two that answer exactly alike are sound, as for a comparison that is to say so.
    """

    inspector: LoraInspector
    host: LoraHost
    allow_twins: bool = False

    def __call__(self, folders: Mapping[str, Path]) -> LoraCheck:
        """Check the LoRA adapters; never raises for a bad one."""
        diagnoses = {name: self._read(name, folder) for name, folder in folders.items()}
        loaded = []
        for name, each in diagnoses.items():
            if each.sound:
                diagnoses[name] = self._loaded(each)
                loaded += [name] if diagnoses[name].sound else []
        if loaded:
            diagnoses.update(_probed(diagnoses, self.host, allow_twins=self.allow_twins))
        for name in loaded:
            if not diagnoses[name].sound:
                self.host.unload(name)
        return LoraCheck(self.inspector.base.name, tuple(diagnoses.values()))

    def _read(self, name: str, folder: Path) -> LoraDiagnosis:
        try:
            check_adapter_name(name)
            facts = self.inspector.inspect(folder)
        except MoeRouterError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return LoraDiagnosis(name, folder, None, (f"{error.what}{hint}",))
        base = self.inspector.base
        problems = find_problems(facts, base, self.inspector.modules)
        return LoraDiagnosis(name, folder, facts, problems, find_warnings(facts, base))

    def _loaded(self, diagnosis: LoraDiagnosis) -> LoraDiagnosis:
        try:
            notes = self.host.load(diagnosis.name, diagnosis.folder)
        except MoeRouterError as error:
            return evolve(diagnosis, problems=(error.what,))
        return evolve(diagnosis, warnings=(*diagnosis.warnings, *notes))


def _probed(
    diagnoses: Mapping[str, LoraDiagnosis], probe: LoraProbe, *, allow_twins: bool
) -> dict[str, LoraDiagnosis]:
    distances = probe.distances()
    found = {}
    for row, name in enumerate(distances.names):
        others = [
            (apart, other)
            for other, apart in zip(distances.names, distances.between[row], strict=True)
            if other != name
        ]
        nearest = min(others, default=(None, None))
        compared = () if allow_twins else distances.names
        found[name] = evolve(
            diagnoses[name],
            problems=effect_problems(name, compared, distances.to_base[row], distances.between[row][: len(compared)]),
            effect=distances.to_base[row],
            nearest=nearest[1],
            nearest_distance=nearest[0],
        )
    return found
