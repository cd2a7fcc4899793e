import pytest

from search.budget import BudgetError, Shares, parse_budget, plan_deadlines, wrap_up_s


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("90s", "wall_s", 90),
        ("10m", "wall_s", 600),
        ("1.5h", "wall_s", 5400),
        ("1d", "wall_s", 86400),
        ("40trials", "trials", 40),
        ("2gpuh", "device_s", 7200),
        ("0.5cpuh", "device_s", 1800),
    ],
)
def test_budget_is_read(text, field, value):
    assert getattr(parse_budget(text), field) == value


@pytest.mark.parametrize("text", ["soon", "", "10", "-5m", "5 parsecs", "0trials", "1.5trials", "10s", "0m"])
def test_wrong_budget_says_what_to_write(text):
    with pytest.raises(BudgetError, match="--budget"):
        parse_budget(text)


def test_device_hours_are_shared_by_the_devices():
    assert parse_budget("2gpuh").on(4).wall_s == 1800
    assert parse_budget("10m").on(4).wall_s == 600
    with pytest.raises(BudgetError, match="9s on 8 devices"):
        parse_budget("0.02cpuh").on(8)


def test_deadlines_keep_the_wrap_up_and_the_order():
    plan = plan_deadlines(start=1000.0, wall_s=300.0, shares=Shares(), now=1010.0)
    assert 1010 < plan.explore < plan.confirm < plan.final < plan.end == 1300
    assert plan.end - plan.final == pytest.approx(wrap_up_s(300))
    assert plan.of("confirm") == plan.confirm


def test_shares_must_sum_to_one():
    with pytest.raises(BudgetError, match="sum to 1"):
        Shares(explore=0.9, confirm=0.9, final=0.1)
