"""Numbers of trainable parameters."""

from __future__ import annotations

from simulator.formulas.typing import Num


def linear(inputs: Num, outputs: Num, *, bias: Num = 0.0) -> Num:
    """Parameters of a linear map: ``inputs outputs + bias outputs``.

    Parameters
    ----------
    inputs
        Width of the input [1].
    outputs
        Width of the output [1].
    bias
        1 where a bias is added, else 0 [1].

    Returns
    -------
    Num
        Parameters [parameter].

    Examples
    --------
    >>> linear(1024, 4096, bias=1)
    4198400
    """
    return inputs * outputs + bias * outputs


def normalisation(width: Num, *, bias: Num = 0.0) -> Num:
    """Parameters of LayerNorm (scale and bias) or RMSNorm (scale): ``width (1 + bias)``.

    Parameters
    ----------
    width
        Width of the normalised vector [1].
    bias
        1 where a bias is added, else 0 [1].

    Returns
    -------
    Num
        Parameters [parameter].

    Examples
    --------
    >>> normalisation(1024, bias=1)
    2048
    """
    return width + bias * width
