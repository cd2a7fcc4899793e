"""The report of a run: one HTML page that works offline.

Import `write_report` from `analysis.report.report`; it is not imported here, because Plotly takes seconds.
"""
