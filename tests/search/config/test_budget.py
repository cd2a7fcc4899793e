import pytest

from search.config.budget import (
    SHORTEST_S,
    Budget,
    BudgetError,
    check_time_left,
    compute_wrap_up_s,
    describe_slow_start,
    extend_budget,
    parse_amount,
    parse_budget,
    plan_deadlines,
    reschedule,
)

FIVE = parse_budget("5m")
UNUSED = {"cpu": 0.0, "gpu": 0.0}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("90s", "wall_s", 90),
        ("10m", "wall_s", 600),
        ("1.5h", "wall_s", 5400),
        ("1h30m", "wall_s", 5400),
        ("1h 2m 3s", "wall_s", 3723),
        ("1d", "wall_s", 86400),
        ("40trials", "trials", 40),
        ("2gpuh", "device_s", 7200),
        ("0.5cpuh", "device_s", 1800),
        (" 2 GPUh ", "device", "gpu"),
        ("2cpuh", "device", "cpu"),
    ],
)
def test_budget_is_read(text, field, value):
    assert getattr(parse_budget(text), field) == value


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "",
        "10",
        "-5m",
        "5 parsecs",
        "1h30",
        "30 1h",
        "1h2gpuh",
        "2gpuh2gpuh",
        "0trials",
        "1.5trials",
        "10s",
        "0m",
        "0.01gpuh",
    ],
)
def test_wrong_budget_says_what_to_write(text):
    with pytest.raises(BudgetError, match="--budget"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("text", "amount"), [("20", 20), ("250k", 250e3), ("1M", 1e6), ("1m", 1e6), (" 1.5G ", 1.5e9), ("0.5", 0.5)]
)
def test_amount_is_read(text, amount):
    assert parse_amount(text) == amount


@pytest.mark.parametrize("text", ["", "0", "0.0k", "-1", "1T", "1 M", "k", "1e6", "many", "nan", "inf", "1.M"])
def test_wrong_amount_says_what_to_write(text):
    with pytest.raises(BudgetError, match=r"is not an amount; write 250k, 1M or 1\.5G") as caught:
        parse_amount(text)
    assert "\n" not in str(caught.value)


def test_time_and_trials_do_not_depend_on_devices():
    for budget in (FIVE, parse_budget("40trials")):
        assert budget.as_wall_time(devices={"cpu": 2, "gpu": 0}, used_s=99.0, used={"cpu": 1e9, "gpu": 1e9}) == budget


def test_device_hours_are_shared_by_the_devices():
    assert parse_budget("2gpuh").as_wall_time(devices={"cpu": 2, "gpu": 4}, used=UNUSED).wall_s == 1800
    assert parse_budget("2cpuh").as_wall_time(devices={"cpu": 2, "gpu": 4}, used=UNUSED).wall_s == 3600


def test_device_hours_go_on_where_earlier_processes_left_them_on_however_many_devices():
    budget, used = parse_budget("1cpuh"), {"cpu": 1600.0, "gpu": 70.0}
    assert budget.as_wall_time(devices={"cpu": 2, "gpu": 1}, used_s=800.0, used=used).wall_s == 800 + 2000 / 2
    assert budget.as_wall_time(devices={"cpu": 8, "gpu": 1}, used_s=800.0, used=used).wall_s == 800 + 2000 / 8


def test_run_whose_device_hours_are_spent_has_no_time_left():
    spent = parse_budget("1cpuh").as_wall_time(
        devices={"cpu": 2, "gpu": 0}, used_s=1800.0, used={"cpu": 3600.0, "gpu": 0.0}
    )
    assert spent.wall_s == 1800


def test_gpu_hours_without_a_gpu_are_refused_in_one_line_that_says_cpuh():
    with pytest.raises(BudgetError, match=r"--budget 2gpuh: there is no GPU here; .*cpuh") as caught:
        parse_budget("2gpuh").as_wall_time(devices={"cpu": 8, "gpu": 0}, used=UNUSED)
    assert "\n" not in str(caught.value)


def test_device_hours_that_many_devices_use_up_at_once_are_refused():
    with pytest.raises(BudgetError, match=f"9s on 8 devices; give {SHORTEST_S:.0f}s or more"):
        parse_budget("0.02cpuh").as_wall_time(devices={"cpu": 8, "gpu": 0}, used=UNUSED)


@pytest.mark.parametrize("had", ["5m", "40trials", "1gpuh"])
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("30m", Budget(text="+30m", wall_s=100 + 1800)),
        ("20trials", Budget(text="+20trials", trials=43 + 20)),
        ("1cpuh", Budget(text="+1cpuh", device_s=200 + 3600, device="cpu")),
        ("1gpuh", Budget(text="+1gpuh", device_s=50 + 3600, device="gpu")),
    ],
)
def test_run_that_is_given_more_has_what_it_used_and_all_of_it(had, more, expected):
    used = {"cpu": 200.0, "gpu": 50.0}
    whole = extend_budget(parse_budget(had), parse_budget(more), used_s=100, used=used, trials=43)
    assert whole == Budget(**{**vars(expected), "text": had + expected.text})
    if whole.device_s:
        left_s = whole.as_wall_time(devices={"cpu": 2, "gpu": 2}, used_s=100, used=used).wall_s - 100
        assert left_s == 1800  # an hour of two devices


def test_deadlines_keep_the_wrap_up_and_the_order():
    shares = {"explore": 0.4, "confirm": 0.26, "final": 0.34}
    plan = plan_deadlines(start=1000.0, wall_s=300.0, shares=shares, now=1010.0)
    moments = list(plan.values())
    assert list(plan) == list(shares) and 1010 < moments[0] < moments[1] < moments[2] < 1300
    assert 1300 - moments[2] == pytest.approx(compute_wrap_up_s(300))
    left = 300 - 10 - compute_wrap_up_s(300)
    assert moments[0] - 1010 == pytest.approx(0.4 * left) and moments[1] - moments[0] == pytest.approx(0.26 * left)


def test_stage_without_a_share_has_what_the_one_before_leaves():
    stages = plan_deadlines(start=0.0, wall_s=300.0, shares={"final": 0.6, "repeat": 0.0}, now=10.0)
    assert stages["repeat"] == stages["final"] == pytest.approx(300 - compute_wrap_up_s(300))


def test_shares_that_do_not_sum_to_one_fill_the_time_all_the_same():
    stages = plan_deadlines(start=0.0, wall_s=300.0, shares={"a": 3.0, "b": 1.0}, now=0.0)
    assert stages["b"] == pytest.approx(300 - compute_wrap_up_s(300)) and stages["a"] == pytest.approx(
        0.75 * stages["b"]
    )


def test_late_start_leaves_the_end_where_it_is():
    early, late = (plan_deadlines(start=0.0, wall_s=300.0, shares={"a": 1, "b": 1}, now=now) for now in (5.0, 200.0))
    assert early["b"] == late["b"] and early["a"] < late["a"]
    over = plan_deadlines(start=0.0, wall_s=60.0, shares={"a": 1.0}, now=1000.0)  # resumed with nothing left
    assert over["a"] == 1001.0


def test_wrap_up_grows_with_the_budget_up_to_a_minute():
    assert compute_wrap_up_s(50.0) == 7.0 and compute_wrap_up_s(1e6) == 60.0


def test_stages_that_begin_late_divide_what_is_left():
    plan = plan_deadlines(start=0.0, wall_s=300.0, shares={"explore": 0.4, "confirm": 0.2, "final": 0.4}, now=0.0)
    last = plan["final"]
    late = reschedule(plan, {"confirm": 0.2, "final": 0.4}, now=last - 60.0)
    assert late == pytest.approx({"explore": plan["explore"], "confirm": last - 40, "final": last})
    assert reschedule(plan, {"final": 0.0}, now=last - 5)["final"] == pytest.approx(last)
    assert reschedule(plan, {"final": 0.4}, now=last + 50)["final"] == pytest.approx(last + 50)


def test_slow_start_is_reported_with_the_time_that_is_left():
    budget, slow = parse_budget("2m"), "starting took 88 s; 24 s of 2m are left for training"
    assert describe_slow_start(budget, earlier_s=0, used_s=88) == slow
    assert describe_slow_start(budget, earlier_s=0, used_s=30) == ""
    assert describe_slow_start(budget, earlier_s=60, used_s=90) != ""
    assert describe_slow_start(parse_budget("5trials"), earlier_s=0, used_s=88) == ""


def test_new_run_without_time_after_its_start_ends_and_a_resumed_one_writes_its_model():
    with pytest.raises(BudgetError, match="--budget 2m is too short here: starting took 115 s; use a longer one"):
        check_time_left(parse_budget("2m"), used_s=115)
    check_time_left(parse_budget("2m"), used_s=88)
    check_time_left(parse_budget("5trials"), used_s=115)
    assert "; 0 s of 2m are left" in describe_slow_start(parse_budget("2m"), earlier_s=70, used_s=115)
