"""The compared methods are options that search/run.py accepts."""

from analysis.compare import methods, scoring
from search.config.recipes import PORTFOLIO
from search.config.stages import STAGE_PRESETS
from search.run import build_parser


def parse(method):
    return build_parser().parse_args(["--budget", "3m", *methods.METHODS[method].split()])


def test_methods_are_commands_that_run_understands():
    read = {name: parse(name) for name in methods.METHODS}
    columns = {name: (a.sampler, a.stages, a.first, a.recipe, a.width, a.split) for name, a in read.items()}
    assert columns == {
        "default": ("tpe", "default", "portfolio", None, None, "background"),
        "starter": ("tpe", "default", "portfolio", "quick_efficientnet", None, "background"),
        "random": ("random", "default", "nothing", None, None, "background"),
        "one_epoch_topk": ("tpe", "one_epoch", "portfolio", None, None, "background"),
        "asha_only": ("tpe", "single", "nothing", None, None, "background"),
        "study": ("tpe", "default", "portfolio", "study", None, "background"),
        "study_small": ("tpe", "default", "portfolio", "study", 4, "background"),
        "random_split": ("tpe", "default", "portfolio", None, None, "random"),
    }


def test_starter_is_what_a_search_tries_first():
    assert parse("starter").recipe == next(iter(PORTFOLIO))


def test_stages_of_every_preset_are_known_to_the_curves():
    assert {stage.name for stages in STAGE_PRESETS.values() for stage in stages} <= set(scoring.STAGE_ORDER)
    assert max(stage.px for stages in STAGE_PRESETS.values() for stage in stages) == scoring.PX
