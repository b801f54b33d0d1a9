"""Figures: pure functions from what the public API says to plotly figures, one module a page."""
