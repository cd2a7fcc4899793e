import pytest

from analysis.report.report import write_report
from search.records.run_dir import write_json
from search.records.trials import TrialRecord, TrialTable

pytestmark = pytest.mark.browser


def test_all_charts_are_drawn_without_scrolling(page, elsewhere, tmp_path):
    table = TrialTable(tmp_path)
    for stage in ("explore", "confirm", "final"):
        for number in range(4):
            trial_id = f"{stage[0]}{number}"
            config = {"model/arch": "unet", "model/width": 4 + number}
            table.start(TrialRecord(trial_id=trial_id, parent_id="", stage=stage, seed=0, config=config))
            figures = {"score": number / 10, "epochs": 1, "images_seen": 10, "params": 1000 * 9**number, "ended_s": 1.0}
            table.report(trial_id, figures)
            table.finish(trial_id, "completed")
    write_json(tmp_path / "run.json", {"state": "done"})
    page.goto(write_report(tmp_path).as_uri())
    places = page.locator("[data-figure]").count()
    page.wait_for_function(f"document.querySelectorAll('[data-figure] .main-svg:first-child').length >= {places}")
    assert places > 5 and not elsewhere
