"""Made-up devices that were calibrated, as in the tests of profiling."""

from tests.profiling.conftest import calibrated, fit, on_graphics, on_processor

__all__ = ["calibrated", "fit", "on_graphics", "on_processor"]
