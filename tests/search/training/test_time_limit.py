import json

import pytest

from search.training.time_limit import Clock


@pytest.fixture
def now(monkeypatch):
    moment = [100.0]
    monkeypatch.setattr("search.training.time_limit.time.monotonic", lambda: moment[0])
    return moment


def step(clock, now, seconds):
    now[0] += seconds
    clock.step()


def test_progress_is_the_larger_of_steps_and_time(now):
    clock = Clock(10, limit_s=100.0)
    clock.begin_epoch()
    for _ in range(5):
        step(clock, now, 1)
    assert clock.progress == 0.5
    step(clock, now, 75)
    assert clock.progress == 0.8
    clock.end_validation(20.0)
    clock.begin_epoch()
    assert clock.progress == 1.0


def test_first_validation_is_estimated_from_all_steps_but_the_first(now):
    clock = Clock(10, limit_s=100.0, validation_steps=5.0)
    clock.begin_epoch()
    step(clock, now, 30)  # the first step warms things up
    assert clock.reserve == 0.0
    step(clock, now, 4)
    assert clock.reserve == pytest.approx(0.4 * 5 * 4)
    step(clock, now, 6)
    assert clock.reserve == pytest.approx(0.4 * 5 * 5)
    clock.end_validation(3.0)
    step(clock, now, 1)
    assert clock.reserve == 3.0


def test_time_moves_progress_by_thousandths_and_never_back(now):
    clock = Clock(10_000, limit_s=100.0)
    clock.begin_epoch()
    step(clock, now, 12.3456)
    assert clock.progress == 0.123
    clock.end_validation(50.0)
    step(clock, now, 0.0)
    assert clock.progress == 0.246
    clock.end_validation(0.0)
    step(clock, now, 1.0)
    assert clock.progress == 0.246


def test_only_readings_that_advance_the_progress_are_kept(now):
    clock = Clock(10, limit_s=100.0)
    clock.begin_epoch()
    for seconds in (5, 1, 39, 0.01):
        step(clock, now, seconds)
    assert clock.readings == [(3, 450)]
    clock.begin_epoch()
    step(clock, now, 20)
    assert clock.readings == [(1, 650)]


def test_run_is_over_when_no_further_step_fits(now):
    clock = Clock(100, limit_s=100.0)
    clock.begin_epoch()
    step(clock, now, 30)  # the first message nothing: it warms things up
    assert clock.progress == 0.3
    for expected in (0.5, 0.7, 1.0):  # 90 of 100 s are used, and a step takes 20
        step(clock, now, 20)
        assert clock.progress == expected


def test_run_without_a_limit_and_one_ahead_of_its_time_keep_no_reading(now):
    for limit in (None, 1000.0):
        clock = Clock(4, limit)
        clock.begin_epoch()
        for _ in range(4):
            step(clock, now, 1.0)
        assert clock.readings == [] and clock.progress == 1.0


def test_long_run_keeps_no_more_readings_than_the_grid_has_parts(now):
    clock, kept = Clock(1_000_000, limit_s=100.0), 0
    for _ in range(5):
        clock.begin_epoch()
        for _ in range(1000):
            step(clock, now, 0.02)
        kept += len(clock.readings)
    assert clock.progress == 1.0 and kept <= 1000


def test_recorded_clock_makes_the_same_progress_whatever_the_time(now):
    def run(clock, *, seconds):
        seen = []
        for _ in range(3):
            clock.begin_epoch()
            seen.append(clock.progress)
            for i in range(4):
                step(clock, now, seconds * (i + 1))
                seen.append(clock.progress)
            readings.append(clock.readings)
            now[0] += 7 * seconds
            clock.end_validation(7 * seconds)
        return seen

    readings = []
    first = run(Clock(12, limit_s=45.0, validation_steps=2.0), seconds=1.0)
    assert any(readings) and first[-1] == 1.0
    recorded, readings = json.loads(json.dumps(readings)), []
    assert run(Clock(12, None, recorded=recorded), seconds=0.001) == first
    assert json.loads(json.dumps(readings)) == recorded


def test_loaded_clock_continues_where_it_was(now):
    clock = Clock(10_000, limit_s=100.0)
    clock.begin_epoch()
    step(clock, now, 30)
    clock.end_validation(20.0)
    state = clock.state_dict()
    now[0] += 1e6
    later = Clock(10_000, limit_s=100.0)
    later.load_state_dict(state)
    assert (later.steps, later.progress, later.reserve, later.used) == (1, clock.progress, 20.0, 30.0)
    now[0] += 10
    later.begin_epoch()
    assert later.progress == 0.5
