"""The methods that are compared are such as search/run.py and its ladders know."""

from analysis.compare import methods, scoring
from search.run import parser
from search.tuning.stages import LADDERS


def test_methods_are_commands_that_run_understands():
    read = {name: parser().parse_args(["--budget", "3m", *words]) for name, words in methods.METHODS.items()}
    told = {name: (a.sampler, a.ladder, a.recipe, a.width, a.split) for name, a in read.items()}
    assert told == {
        "default": ("tpe", "climb", None, None, "background"),
        "random": ("random", "climb", None, None, "background"),
        "one_epoch_topk": ("tpe", "one_epoch", None, None, "background"),
        "asha_only": ("tpe", "flat", None, None, "background"),
        "study": ("tpe", "climb", "study", None, "background"),
        "study_small": ("tpe", "climb", "study", 4, "background"),
        "random_split": ("tpe", "climb", None, None, "random"),
    }


def test_stages_of_every_ladder_are_known_to_the_curves():
    assert {stage.name for stages in LADDERS.values() for stage in stages} <= set(scoring.STAGE_ORDER)
    assert max(stage.px for stages in LADDERS.values() for stage in stages) == scoring.PX
