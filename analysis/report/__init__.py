"""The report of a run: one HTML page that works offline.

Import `write_report` from `analysis.report.report`; it is not re-exported here, because importing Plotly takes seconds.
"""
