"""What a model cannot do with a workload."""

from __future__ import annotations

from hardware.errors import InputError
from simulator.specs.model import Model
from simulator.specs.workload import Workload


def check_positions(model: Model, workload: Workload) -> None:
    """Refuse sequences that have no row in a learned table of positions.

    Raises
    ------
    InputError
        With the remedy.
    """
    virtual = workload.virtual_tokens or 0
    rows, longest = model.position_rows, max((workload.sequence_length or 0) + virtual, workload.target_length or 0)
    if model.positions == "learned" and 0 < rows < longest:
        beside = f" with virtual_tokens={virtual}" if virtual else ""
        raise InputError(
            f"sequence_length={longest - virtual}{beside} exceeds the {rows} rows of {model.id}'s position "
            f"table; shorten it, or give the model more rows: {{base: {model.id}, position_rows: {longest}}}",
            fields=["workload.sequence_length"],
        )
