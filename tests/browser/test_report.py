import pytest

from analysis.report.report import write_report
from search.records.run_dir import write_json
from search.records.trials import TrialTable
from tests.trials import add_trial, make_record

pytestmark = pytest.mark.browser


def test_all_charts_are_drawn_without_scrolling(page, elsewhere, tmp_path):
    table = TrialTable(tmp_path)
    for stage in "ecf":
        for number in range(4):
            record = make_record(f"{stage}{number}", config={"model/arch": "unet", "model/width": 4 + number})
            figures = {"score": number / 10, "epochs": 1, "images_seen": 10, "params": 1000 * 9**number, "ended_s": 1.0}
            add_trial(table, record, **figures)
    write_json(tmp_path / "run.json", {"state": "done"})
    page.goto(write_report(tmp_path).as_uri())
    places = page.locator("[data-figure]").count()
    page.wait_for_function(f"document.querySelectorAll('[data-figure] .main-svg:first-child').length >= {places}")
    assert places > 5 and not elsewhere
    assert page.locator("nav a").count() == page.locator("main > section").count() > 5
