"""Bytes of parameters, gradients and optimizer states, and what an optimizer step moves."""

from __future__ import annotations

from simulator.formulas.typing import Num


def shard(elements: Num, group: Num) -> Num:
    """Elements of one rank when a tensor is cut over a group: ``elements / group``.

    Parameters
    ----------
    elements
        Parameters to be cut [parameter].
    group
        Ranks that share them [1].

    Returns
    -------
    Num
        Parameters of one rank [parameter].

    References
    ----------
    Rajbhandari et al., ZeRO, arXiv 1910.02054, section 5.

    Examples
    --------
    >>> shard(7.5e9, 64) * 16 / 1e9
    1.875
    """
    return elements / group


def model_state_bytes(
    parameters: Num,
    parameter_bytes: Num,
    *,
    gradient_bytes: Num,
    optimizer_bytes: Num,
    parameter_group: Num = 1.0,
    gradient_group: Num = 1.0,
    optimizer_group: Num = 1.0,
) -> Num:
    """Parameters, gradients and optimizer states of one device under ZeRO or FSDP.

    ``N (parameter_bytes / g_p + gradient_bytes / g_g + optimizer_bytes / g_o)``

    Parameters
    ----------
    parameters
        Parameters of the device's part of the model N [parameter].
    parameter_bytes
        Of one parameter [B/parameter].
    gradient_bytes
        Of one gradient [B/parameter].
    optimizer_bytes
        Of master copy and moments [B/parameter].
    parameter_group
        Ranks that share parameters g_p; more than 1 in stage 3 [1].
    gradient_group
        Ranks that share gradients g_g; more than 1 from stage 2 [1].
    optimizer_group
        Ranks that share optimizer states g_o; more than 1 from stage 1 [1].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Rajbhandari et al., ZeRO, arXiv 1910.02054, figure 1: 7.5B parameters on 64 devices.

    Examples
    --------
    >>> n = dict(gradient_bytes=2, optimizer_bytes=12)
    >>> [round(model_state_bytes(7.5e9, 2, **n, **g) / 1e9, 1) for g in (
    ...     {}, {"optimizer_group": 64}, {"optimizer_group": 64, "gradient_group": 64},
    ...     {"optimizer_group": 64, "gradient_group": 64, "parameter_group": 64})]
    [120.0, 31.4, 16.6, 1.9]
    """
    kept = parameter_bytes / parameter_group + gradient_bytes / gradient_group + optimizer_bytes / optimizer_group
    return parameters * kept


def optimizer_traffic(
    parameters: Num, state_bytes: Num, *, master_bytes: Num, gradient_bytes: Num, parameter_bytes: Num, sweeps: Num
) -> Num:
    """Bytes an optimizer step moves: states and master copy read and written, gradients read, parameters written.

    ``N (2 (state + master) + sweeps gradient + parameter)``

    Parameters
    ----------
    parameters
        Parameters that the rank updates N [parameter].
    state_bytes
        Of the moments [B/parameter].
    master_bytes
        Of the master copy [B/parameter].
    gradient_bytes
        Of one gradient [B/parameter].
    parameter_bytes
        Of one parameter as the model holds it [B/parameter].
    sweeps
        How often gradients are read: for their norm, for the update, for LAMB's norms [1].

    Returns
    -------
    Num
        Bytes moved [B].

    References
    ----------
    Kingma and Ba, Adam, arXiv 1412.6980; You et al., LAMB, arXiv 1904.00962.

    Examples
    --------
    Fused Adam with 32-bit moments and master copy over 16-bit gradients: 30 bytes a parameter with clipping.

    >>> optimizer_traffic(1, 8, master_bytes=4, gradient_bytes=2, parameter_bytes=2, sweeps=2)
    30
    """
    return parameters * (2 * (state_bytes + master_bytes) + sweeps * gradient_bytes + parameter_bytes)


def factored_state_bytes(row_sums: Num, column_sums: Num, *, unfactored: Num = 0.0) -> Num:
    """State of Adafactor: of a matrix a sum for each row and one for each column, in fp32, of vectors every number.

    ``4 (rows + columns + vectors)``

    Parameters
    ----------
    row_sums
        Rows of all matrices [1].
    column_sums
        Columns of all matrices [1].
    unfactored
        Parameters in vectors [parameter].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Shazeer and Stern, Adafactor, arXiv 1804.04235, section 3; torch 2.13, torch/optim/_adafactor.py, which keeps no
    first moment.

    Examples
    --------
    One matrix of 1024 x 4096 keeps 5120 numbers.

    >>> factored_state_bytes(1024.0, 4096.0)
    20480.0
    """
    return 4.0 * (row_sums + column_sums + unfactored)


def newton_schulz_flops(shorter: Num, longer: Num, *, iterations: Num = 5.0) -> Num:
    """Arithmetic that orthogonalises a matrix in Muon: ``iterations (4 a^2 b + 2 a^3)``.

    Each iteration multiplies X by its transpose, the result by itself, and X by that.

    Parameters
    ----------
    shorter
        Shorter side of the matrix a [1].
    longer
        Longer side b [1].
    iterations
        Iterations [1].

    Returns
    -------
    Num
        Arithmetic [FLOP].

    References
    ----------
    Jordan et al., Muon, kellerjordan.github.io/posts/muon; torch 2.13, torch/optim/_muon.py, five iterations unless
    told.

    Examples
    --------
    A square matrix of 1024 takes 30 of its cubes.

    >>> newton_schulz_flops(1024.0, 1024.0) / 1024**3
    30.0
    """
    return iterations * (4.0 * shorter * shorter * longer + 2.0 * shorter * shorter * shorter)


def quantised_bytes(parameters: Num, *, weight_bytes: Num, scale_bytes: Num, scale_block: Num) -> Num:
    """Weights held in a few bits, with the scale of each block of them: ``N (w + s / b)``.

    Parameters
    ----------
    parameters
        Quantised parameters N [parameter].
    weight_bytes
        Of one of them w [B/parameter].
    scale_bytes
        Of the scale of a block s, with what a second quantisation of the scales adds [B].
    scale_block
        Parameters that share a scale b [parameter].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Dettmers et al., QLoRA, arXiv 2305.14314, section 3: 4-bit NormalFloat in blocks of 64 with scales in fp32, 0.5 bits
    a parameter; double quantisation, scales in 8 bits in blocks of 256, 0.127 bits.

    Examples
    --------
    Bits a parameter:

    >>> nf4 = dict(weight_bytes=0.5, scale_block=64)
    >>> [round(8 * quantised_bytes(1.0, scale_bytes=scale, **nf4), 3) for scale in (4, 1 + 4 / 256)]
    [4.5, 4.127]
    """
    return parameters * (weight_bytes + scale_bytes / scale_block)
