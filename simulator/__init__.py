"""Capacity planning for transformer training: what will happen if this model is trained on that hardware.

>>> import simulator
>>> answer = simulator.estimate("bert-large", "rtx-3090", workload={"sequence_length": 128})
>>> answer.fits
True
"""

from hardware.catalogue import load_device, load_system
from hardware.errors import InputError
from hardware.spec import Device, System
from simulator.estimate import Estimate, answer, estimate
from simulator.scenario import Scenario, from_file, resolve
from simulator.specs.loading import load_model, load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

__all__ = [
    "Device",
    "Estimate",
    "InputError",
    "Model",
    "Plan",
    "Scenario",
    "Stack",
    "System",
    "Workload",
    "answer",
    "estimate",
    "from_file",
    "load_device",
    "load_model",
    "load_stack",
    "load_system",
    "resolve",
]
