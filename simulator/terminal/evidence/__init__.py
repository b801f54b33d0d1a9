"""Predicted against measured: tables, a page, and how one run was read."""
