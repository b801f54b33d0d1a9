"""What controls of a scenario are folded away, and in which order they stand."""

from __future__ import annotations

_Rows = tuple[tuple[str, ...], ...]
SECTIONS: dict[str, tuple[str, _Rows]] = {
    "plan": (
        "Plan and stack",
        (
            ("stack", "fits"),
            ("precision", "recompute"),
            ("recompute_modules",),
            ("recompute_layers", "recompute_method"),
            ("micro_batch", "dp"),
            ("tp", "pp"),
            ("cp",),
            ("ep", "etp"),
            ("virtual_stages", "schedule"),
            ("sharding", "sharding_group"),
            ("sequence_parallel", "offload_optimizer"),
            ("parameters_in_fp32", "gradients_in_fp32"),
            ("reduction_in_fp32", "master_weights"),
            ("clip_gradients", "optimizer_in_backward"),
            ("attention", "optimizer"),
            ("cross_entropy", "activation_inputs_in_fp8"),
            ("fp8_scaling", "placement"),
            ("profile",),
        ),
    ),
    "run": (
        "Length of the run and data",
        (
            ("tokens", "steps"),
            ("effective_tokens", "predictions"),
            ("document_lengths", "document_deviation"),
            ("target_length", "objective"),
            ("expert_imbalance", "capacity_factor"),
            ("label_smoothing", "z_loss"),
            ("multi_token",),
        ),
    ),
    "tuning": (
        "Fine-tuning, preferences, distillation",
        (
            ("train", "base_precision"),
            ("lora_rank", "lora_dropout"),
            ("lora_targets",),
            ("dora", "virtual_tokens"),
            ("preference", "reference"),
            ("teacher", "keeps_teacher_logits"),
        ),
    ),
    "money": (
        "Price and electricity",
        (
            ("price",),
            ("price_kind", "grid"),
            ("purchase_price", "lifetime"),
            ("electricity", "overhead"),
            ("constants",),
        ),
    ),
    "failures": (
        "Failures and checkpoints",
        (
            ("failure_rate", "preemption_rate"),
            ("restart", "capacity_wait"),
            ("checkpoint_every", "storage_bandwidth"),
        ),
    ),
}
"""What is folded away: title and rows of fields by the end of the key of its box, ``section.plan`` and so on."""
