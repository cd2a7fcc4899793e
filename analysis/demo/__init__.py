"""A page on this machine to try a trained model on photos.

Import `make_points` and `plot_points` from `analysis.demo.demo`; they are not imported here, because Plotly
takes seconds.
"""
