"""Capacity planning for transformer training: what will happen if this model is trained on that hardware.

>>> import simulator
>>> answer = simulator.estimate("bert-large", "rtx-3090", workload={"sequence_length": 128})
>>> answer.fits
True
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware.catalogue import load_device, load_system
    from hardware.errors import InputError
    from hardware.measured import MeasuredProfile
    from hardware.spec import Device, System
    from simulator.answers.estimate import Estimate, answer, estimate
    from simulator.answers.improving import Improvement, improvements
    from simulator.answers.roofline import Roofline, Work, roofline
    from simulator.answers.serving.estimate import ServingEstimate, serve
    from simulator.answers.stages import Stage, stages
    from simulator.evidence.validation import Validation, validate
    from simulator.plan_search.searching import Search, search
    from simulator.profiling.calibrate import calibrate
    from simulator.profiling.comparison import Comparison
    from simulator.profiling.profiles import (
        compare_profile,
        load_profile,
        profile_constants,
        profile_hosts,
        profile_text,
        profiles_for,
    )
    from simulator.renting.rent import rent
    from simulator.renting.scaling import Scaling, scale
    from simulator.renting.sweeping import Option, Refused, sweep
    from simulator.renting.wishes import Outlook
    from simulator.replay.measured.comparison import StepComparison, compare_step
    from simulator.replay.measured.steps import MeasuredStep, measured_step
    from simulator.replay.timeline import Timeline, timeline
    from simulator.scenario.scenario import Scenario, from_file, resolve
    from simulator.specs.loading import load_model, load_stack
    from simulator.specs.model import Model
    from simulator.specs.plan import Plan
    from simulator.specs.stack import Stack
    from simulator.specs.workload import Workload
    from simulator.variations.sensitivity import Sensitivity, sensitivity
    from simulator.variations.whatif import Variation, WhatIf, whatif

_HOMES = {
    "Comparison": "simulator.profiling.comparison",
    "Device": "hardware.spec",
    "Estimate": "simulator.answers.estimate",
    "Improvement": "simulator.answers.improving",
    "InputError": "hardware.errors",
    "MeasuredProfile": "hardware.measured",
    "MeasuredStep": "simulator.replay.measured.steps",
    "Model": "simulator.specs.model",
    "Option": "simulator.renting.sweeping",
    "Outlook": "simulator.renting.wishes",
    "Plan": "simulator.specs.plan",
    "Refused": "simulator.renting.sweeping",
    "Roofline": "simulator.answers.roofline",
    "Scaling": "simulator.renting.scaling",
    "Scenario": "simulator.scenario.scenario",
    "Search": "simulator.plan_search.searching",
    "Sensitivity": "simulator.variations.sensitivity",
    "ServingEstimate": "simulator.answers.serving.estimate",
    "Stack": "simulator.specs.stack",
    "Stage": "simulator.answers.stages",
    "StepComparison": "simulator.replay.measured.comparison",
    "System": "hardware.spec",
    "Timeline": "simulator.replay.timeline",
    "Validation": "simulator.evidence.validation",
    "Variation": "simulator.variations.whatif",
    "WhatIf": "simulator.variations.whatif",
    "Work": "simulator.answers.roofline",
    "Workload": "simulator.specs.workload",
    "answer": "simulator.answers.estimate",
    "calibrate": "simulator.profiling.calibrate",
    "compare_profile": "simulator.profiling.profiles",
    "compare_step": "simulator.replay.measured.comparison",
    "estimate": "simulator.answers.estimate",
    "from_file": "simulator.scenario.scenario",
    "improvements": "simulator.answers.improving",
    "load_device": "hardware.catalogue",
    "load_model": "simulator.specs.loading",
    "load_profile": "simulator.profiling.profiles",
    "load_stack": "simulator.specs.loading",
    "load_system": "hardware.catalogue",
    "measured_step": "simulator.replay.measured.steps",
    "profile_constants": "simulator.profiling.profiles",
    "profile_hosts": "simulator.profiling.profiles",
    "profile_text": "simulator.profiling.profiles",
    "profiles_for": "simulator.profiling.profiles",
    "rent": "simulator.renting.rent",
    "resolve": "simulator.scenario.scenario",
    "roofline": "simulator.answers.roofline",
    "scale": "simulator.renting.scaling",
    "search": "simulator.plan_search.searching",
    "sensitivity": "simulator.variations.sensitivity",
    "serve": "simulator.answers.serving.estimate",
    "stages": "simulator.answers.stages",
    "sweep": "simulator.renting.sweeping",
    "timeline": "simulator.replay.timeline",
    "validate": "simulator.evidence.validation",
    "whatif": "simulator.variations.whatif",
}
"""Where each public name is defined; it is imported when somebody first asks for it, so that the command line starts
without what it does not need."""

__all__ = [
    "Comparison",
    "Device",
    "Estimate",
    "Improvement",
    "InputError",
    "MeasuredProfile",
    "MeasuredStep",
    "Model",
    "Option",
    "Outlook",
    "Plan",
    "Refused",
    "Roofline",
    "Scaling",
    "Scenario",
    "Search",
    "Sensitivity",
    "ServingEstimate",
    "Stack",
    "Stage",
    "StepComparison",
    "System",
    "Timeline",
    "Validation",
    "Variation",
    "WhatIf",
    "Work",
    "Workload",
    "answer",
    "calibrate",
    "compare_profile",
    "compare_step",
    "estimate",
    "from_file",
    "improvements",
    "load_device",
    "load_model",
    "load_profile",
    "load_stack",
    "load_system",
    "measured_step",
    "profile_constants",
    "profile_hosts",
    "profile_text",
    "profiles_for",
    "rent",
    "resolve",
    "roofline",
    "scale",
    "search",
    "sensitivity",
    "serve",
    "stages",
    "sweep",
    "timeline",
    "validate",
    "whatif",
]


_RENAMED = {"plan": "rent"}
"""Public names of earlier versions, which still work."""


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name in _RENAMED:
        message = f"simulator.{name} is now called simulator.{_RENAMED[name]}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return __getattr__(_RENAMED[name])
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
