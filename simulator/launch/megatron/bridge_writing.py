"""A scenario as YAML for Megatron Bridge: overrides of its plain GPT recipe, which has no sizes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulator.launch.megatron.model_options import LINEAR, refuse_model, unsaid_of_model, window_of
from simulator.launch.megatron.recomputation import discards_outputs, options_of_plan
from simulator.launch.megatron.vocabulary import written_rows, written_words
from simulator.launch.megatron.writing import FULLY_SHARDED, chunk_of_micro_batches, unsaid_of_plan
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import FrameworkFile, in_yaml, lacks, steps_of, written_launch
from simulator.launch.starting import torchrun
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.model import Model
from simulator.specs.plan import Plan

_FRAMEWORK = "Megatron Bridge"
_PROGRAM = (
    "the program: process_config_with_overrides(vanilla_gpt_pretrain_config(), config_filepath=FILE) of "
    "megatron.bridge.training.utils.omegaconf_utils and megatron.bridge.recipes.gpt, then pretrain"
)


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for Megatron Bridge.

    Raises
    ------
    InputError
        Where it cannot run the plan or build the model.
    """
    refuse_model(scenario.model, _FRAMEWORK)
    if scenario.model.kind != "decoder":
        raise lacks(_FRAMEWORK, f"recipe for a model of kind {scenario.model.kind}", "choose a decoder")
    command = torchrun(scenario, "pretrain.py --config-file {name}")
    text = in_yaml(_settings, scenario)
    file = FrameworkFile("megatron-bridge", "megatron-bridge.yaml", command, text, _unsaid(scenario))
    return written_launch(scenario, file)


def _settings(scenario: Scenario) -> dict[str, Any]:
    """All sections."""
    plan, work = scenario.plan, scenario.workload
    return {
        **_model(scenario.model, work.sequence_length or 0),
        "model.vocab_size": written_rows(scenario.model, plan),
        **_degrees(plan, scenario.model.layers),
        **_recompute(plan),
        **_micro_batches(scenario),
        **_table("plan", plan, "micro_batch"),
        **_table("workload", work, "global_batch"),
        "train.train_iters": steps_of(scenario),
        "dataset.seq_length": work.sequence_length,
        **_table("plan", plan, "optimizer", "offload_optimizer"),
        **(_table("plan", plan, "activation_inputs_in_fp8") if plan.activation_inputs_in_fp8 else {}),
        **({"optimizer.use_precision_aware_optimizer": True} if plan.offload_optimizer else {}),
        **_sharding(plan),
        **_precision(plan, scenario.model.layers),
        "tokenizer.tokenizer_type": "NullTokenizer",
        "tokenizer.vocab_size": written_words(scenario.model),
    }


def _table(part: str, values: Any, *names: str) -> dict[str, Any]:
    """Keys that say one field each."""
    return options_of("megatron-bridge").settings_for(part, values, *names)


def _model(model: Model, sequence_length: int) -> dict[str, Any]:
    """Sizes and form of the model."""
    linear = LINEAR & set(model.biases)
    window, every = window_of(model, _FRAMEWORK)
    settings: dict[str, Any] = {
        **_table("model", model, "layers", "hidden_size", "feed_forward_size", "attention_heads"),
        "model.num_query_groups": model.kv_heads,
        "model.kv_channels": model.width_of_head,
        "model.seq_length": sequence_length,
        **_table("model", model, "positions", "normalisation", "feed_forward", "activation"),
        "model.add_bias_linear": linear == LINEAR,
        **({"model.add_qkv_bias": True} if "qkv" in linear and linear != LINEAR else {}),
        **({"model.qk_layernorm": True} if model.query_key_norm == "shared" else {}),
        **_table("model", model, "tied_head"),
        "model.hidden_dropout": 0.1 if model.dropout else 0.0,
        "model.attention_dropout": 0.1 if model.dropout else 0.0,
    }
    if window is not None:
        settings["model.window_size"] = [window - 1, 0]
        if every > 1:
            settings["model.window_attn_skip_freq"] = every
    return settings | (_experts(model) if model.experts > 1 else {})


def _experts(model: Model) -> dict[str, Any]:
    """A mixture of experts."""
    size = model.expert_feed_forward_size or model.feed_forward_size
    settings: dict[str, Any] = {
        **_table("model", model, "experts", "experts_per_token"),
        "model.moe_ffn_hidden_size": size,
        "model.moe_token_dispatcher_type": "alltoall",
        "model.moe_grouped_gemm": True,
    }
    if model.shared_experts:
        settings["model.moe_shared_expert_intermediate_size"] = model.shared_experts * size
    if model.expert_period > 1 or model.dense_layers_first:
        kinds = [int(model.kind_of_layer(index).has_experts) for index in range(model.layers)]
        settings["model.moe_layer_freq"] = kinds
    return settings


def _degrees(plan: Plan, layers: int) -> dict[str, Any]:
    """Degrees of the axes, and how stages share the layers."""
    chunks, stages = plan.virtual_stages or 1, plan.pp or 1
    uneven = [name for name in ("first_stage_layers", "last_stage_layers") if getattr(plan, name) is not None]
    settings = _table("plan", plan, "tp", "sequence_parallel", "pp")
    settings |= _table("plan", plan, "virtual_stages") if chunks > 1 else {}
    settings |= _table("plan", plan, *uneven) if uneven else {}
    if not uneven and layers % (stages * chunks):
        if (layers + 1) % (stages * chunks):
            settings["model.account_for_embedding_in_pipeline_split"] = True
        settings["model.account_for_loss_in_pipeline_split"] = True
    settings |= _table("plan", plan, "cp", "ep")
    if (plan.cp or 1) > 1:
        settings["model.cp_comm_type"] = "p2p"
    if plan.etp is not None:
        settings |= _table("plan", plan, "etp")
    if plan.placement == ("tp", "cp", "pp", "dp"):
        settings["dist.use_tp_pp_dp_mapping"] = True
    return settings


def _recompute(plan: Plan) -> dict[str, Any]:
    """What the backward pass computes again."""
    usual = {"recompute_modules": ["core_attn"]} if plan.recompute == "selective" and not plan.recompute_modules else {}
    return {f"model.{name}": value for name, value in (options_of_plan(plan) | usual).items()}


def _micro_batches(scenario: Scenario) -> dict[str, Any]:
    """Groups of micro-batches that chunks run through, and the capacity of experts."""
    group, capacity = chunk_of_micro_batches(scenario), scenario.workload.capacity_factor
    settings: dict[str, Any] = {}
    if group is not None:
        settings["model.microbatch_group_size_per_vp_stage"] = group
    if scenario.workload.multi_token:
        settings["model.mtp_num_layers"] = scenario.model.multi_token_modules
    if capacity:
        settings |= {"model.moe_expert_capacity_factor": capacity, "model.moe_pad_expert_input_to_capacity": True}
    return settings


def _sharding(plan: Plan) -> dict[str, Any]:
    """What replicas share."""
    shared = plan.sharding not in (None, "none")
    settings: dict[str, Any] = {
        "ddp.use_distributed_optimizer": shared,
        "optimizer.use_distributed_optimizer": shared,
        "ddp.overlap_grad_reduce": shared,
        "ddp.overlap_param_gather": shared,
    }
    if plan.sharding in FULLY_SHARDED:
        settings |= {
            "ddp.use_megatron_fsdp": True,
            "ddp.data_parallel_sharding_strategy": FULLY_SHARDED[plan.sharding],
            "dist.use_megatron_fsdp": True,
            "model.gradient_accumulation_fusion": False,
            "checkpoint.ckpt_format": "fsdp_dtensor",
        }
    replicas = (plan.dp or 1) * (plan.cp or 1)
    if shared and plan.sharding_group is not None and plan.sharding_group < replicas:
        settings["ddp.num_distributed_optimizer_instances"] = replicas // plan.sharding_group
    return settings


_DTYPES = {"bf16": "torch.bfloat16", "fp8": "torch.bfloat16", "fp16": "torch.float16"}


def _precision(plan: Plan, layers: int) -> dict[str, Any]:
    """Number formats of products and gradients; a recipe's own would set those of the gradients again."""
    dtype = {"_target_": _DTYPES.get(plan.precision or "", "torch.float32"), "_call_": False}
    narrow = plan.precision == "fp8"
    wide = min(plan.layers_in_16_bits or 0, layers) if narrow else 0
    settings: dict[str, Any] = {
        "_target_": "megatron.bridge.training.mixed_precision.MixedPrecisionConfig",
        "fp32": plan.precision in ("fp32", "tf32"),
        "bf16": plan.precision in ("bf16", "fp8"),
        "fp16": plan.precision == "fp16",
        "params_dtype": dtype,
        "pipeline_dtype": dict(dtype),
        "grad_reduce_in_fp32": bool(plan.gradients_in_fp32) or plan.precision in ("fp32", "tf32"),
    }
    if narrow:
        settings |= {
            "fp8": "hybrid",
            "fp8_recipe": "tensorwise" if wide or discards_outputs(plan) else "delayed",
            "fp8_param_gather": True,
        }
    if wide:
        ends = {"num_layers_at_start_in_bf16": (wide + 1) // 2, "num_layers_at_end_in_bf16": wide // 2}
        settings |= {"first_last_layers_bf16": True, **ends}
    return {f"mixed_precision.{name}": value for name, value in settings.items()}


def _unsaid(scenario: Scenario) -> Iterator[str]:
    """What the configuration cannot say, or leaves to the program."""
    plan, model, work = scenario.plan, scenario.model, scenario.workload
    yield _PROGRAM
    yield f"devices={scenario.devices}: as many processes as torchrun starts"
    yield from unsaid_of_model(model)
    if model.positions == "learned" and model.position_rows != work.sequence_length:
        yield f"a position table of {model.position_rows} rows: it has one row for each of seq_length positions"
    if plan.attention == "unfused":
        yield "attention=unfused: the program's, config.model.attention_backend = AttnBackend.unfused"
    if plan.precision == "tf32":
        yield "precision=tf32: TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 in the environment"
    yield from unsaid_of_plan(scenario, "train.train_iters")
