import pytest

from search.clock import Clock


@pytest.fixture
def now(monkeypatch):
    moment = [100.0]
    monkeypatch.setattr("search.clock.time.monotonic", lambda: moment[0])
    return moment


def test_progress_is_the_larger_of_steps_and_time(now):
    clock = Clock(10, limit=100.0)
    clock.steps = 5
    assert clock.progress == 0.5
    now[0] += 80
    assert clock.progress == 0.8
    clock.reserve = 20.0
    assert clock.progress == 1.0


def test_first_validation_is_foreseen_from_the_steps_behind_the_first(now):
    clock = Clock(10, limit=100.0)
    clock.foresee_validation(0, 40)
    now[0] += 30  # the first step warms things up
    clock.steps = 1
    clock.foresee_validation(8, 40)
    assert clock.reserve == 0.0
    now[0] += 4
    clock.steps = 2
    clock.foresee_validation(16, 40)
    assert clock.reserve == pytest.approx(0.4 * 40 * 4 / 8)
