"""What the replay compares: searchers, races, shares, entrants and ladders, each beside the project's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.benchmarks.record_curves import STAGES
from analysis.simulate import Asha, Rung
from search.ladder import GRACE, REDUCTION, ladder

EPOCHS = {stage.name: stage.epochs for stage in STAGES}
OWN_ASHA = Asha(REDUCTION, GRACE)


@dataclass(frozen=True)
class Method:
    """A searcher with a ladder.

    Attributes:
        group: What it is compared within; the first of a group is what the project does.
        name: In the table.
        rungs: The ladder.
        asha: How its first stage stops trials.
        searcher: tpe or random.
        options: Of the searcher.
    """

    group: str
    name: str
    rungs: tuple[Rung, ...]
    asha: Asha = OWN_ASHA
    searcher: str = "random"
    options: Mapping[str, Any] = field(default_factory=lambda: {"recipes": False})  # or every ladder finds the starters


def climbing(
    shares: Sequence[float] = (), *, enter: int | None = None, control: int | None = None, smallest: bool = True
) -> tuple[Rung, ...]:
    """Return the project's own ladder with other shares of its stages or other entrants of its second."""
    stages = [replace(stage, epochs=EPOCHS[stage.name]) for stage in ladder("climb") if not stage.repeats]
    if shares:
        stages = [replace(stage, share=share) for stage, share in zip(stages, shares, strict=True)]
    second = stages[1]
    stages[1] = replace(
        second,
        enter=second.enter if enter is None else enter,
        control=second.control if control is None else control,
        smallest=second.smallest and smallest,
    )
    return tuple(Rung(stage, stage.name) for stage in stages)


def flat() -> tuple[Rung, ...]:
    """Return ASHA at the final size, nothing promoted."""
    return (Rung(replace(ladder("flat")[0], epochs=EPOCHS["flat"]), "flat"),)


def one_epoch() -> tuple[Rung, ...]:
    """Return one epoch for all at the final size, then the best few to their end."""
    first, last = ladder("one_epoch")
    return Rung(replace(first, epochs=1), "flat"), Rung(replace(last, epochs=EPOCHS["flat"]), "flat", skip=1)


def methods() -> list[Method]:
    """Return all that is compared."""
    return [*_searchers(), *_races(), *_shares(), *_entrants(), *_ladders()]


def _searchers() -> list[Method]:
    own, group = climbing(), "searcher"

    def tpe(name: str, **options: Any) -> Method:
        return Method(group, f"tpe{name}", own, searcher="tpe", options=options)

    return [
        tpe(""),
        Method(group, "random", own, options={}),
        *(tpe(f", {trials} start-up trials", n_startup_trials=trials) for trials in (5, 10, 25)),
        tpe(", recipes not first", recipes=False),
        Method(group, "random, recipes not first", own, options={"recipes": False}),
        tpe(", not multivariate", multivariate=False, group=False),
        tpe(", not in groups", group=False),
        tpe(", no constant liar", constant_liar=False),
        tpe(", 96 candidates", n_ei_candidates=96),
        tpe(", best quarter good", gamma=0.25),
    ]


def _races() -> list[Method]:
    """Return factors and graces of ASHA; at least two rungs fit below nine epochs, but for the slowest."""
    own, group = climbing(), "ASHA"
    first = replace(own[0], stage=replace(own[0].stage, races=False))
    others = ((2, 3), (3, 2), (4, 2), (2, 2), (3, 1), (2, 1), (4, 1))
    pairs = ((REDUCTION, GRACE), *others)
    raced = [Method(group, f"factor {factor}, grace {grace}", own, Asha(factor, grace)) for factor, grace in pairs]
    return [*raced, Method(group, "none", (first, *own[1:]))]


def _shares() -> list[Method]:
    own = tuple(rung.stage.share for rung in climbing())
    others = ((0.2, 0.3, 0.5), (0.3, 0.3, 0.4), (0.5, 0.2, 0.3), (0.6, 0.2, 0.2), (0.8, 0.1, 0.1))
    return [Method("shares", " / ".join(f"{part:g}" for part in parts), climbing(parts)) for parts in (own, *others)]


def _entrants() -> list[Method]:
    group = "who enters confirm"
    return [
        *(Method(group, f"{few} with the smallest, 1 control", climbing(enter=few)) for few in (3, 2, 4, 5, 8)),
        Method(group, "best 3, 1 control", climbing(smallest=False)),
        Method(group, "best 4", climbing(enter=4, control=0, smallest=False)),
        Method(group, "4 of the lower half", climbing(enter=0, control=4, smallest=False)),
    ]


def _ladders() -> list[Method]:
    group = "ladder"
    return [
        Method(group, "climb", climbing()),
        Method(group, "flat ASHA", flat()),
        Method(group, "one epoch, best few", one_epoch()),
    ]
