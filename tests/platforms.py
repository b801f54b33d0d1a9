"""What only some systems have."""

from __future__ import annotations

import sys

import pytest

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has /dev/full and /proc")
"""On Linux itself such a test is never skipped."""
