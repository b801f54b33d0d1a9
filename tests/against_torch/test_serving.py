"""Prefill and decoding with a cache of keys and values against transformers' own models: arithmetic, weights, cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention

from simulator.pricing.requests import Collective, HostCopy, HostWork, MatrixProduct, Send
from simulator.serving.memory import serving_memory
from simulator.serving.scenario import ServingScenario, resolve_serving
from simulator.serving.stored import served_program
from simulator.specs.serving.iterations import Iterations
from simulator.work.program import Program

BATCH, PROMPT = 3, 10
_SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 160}
_LLAMA = {**_SMALL, "num_attention_heads": 8, "head_dim": 8, "max_position_embeddings": 64, "rms_norm_eps": 1e-6}
_MLA = {
    **_SMALL,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 10,
    "first_k_dense_replace": 2,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "max_position_embeddings": 64,
}
_T5 = {
    "d_model": 64,
    "d_kv": 8,
    "d_ff": 96,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 8,
    "vocab_size": 160,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "multi-head": ("LlamaForCausalLM", {**_LLAMA, "num_key_value_heads": 8}),
    "grouped": ("LlamaForCausalLM", {**_LLAMA, "num_key_value_heads": 2}),
    "multi-query": ("LlamaForCausalLM", {**_LLAMA, "num_key_value_heads": 1}),
    "window": ("MistralForCausalLM", {**_LLAMA, "num_key_value_heads": 2, "sliding_window": 6}),
    "latent": ("DeepseekV3ForCausalLM", _MLA),
    "encoder-decoder": ("T5ForConditionalGeneration", _T5),
}
EVERY = pytest.mark.parametrize("kind", CONFIGS)
DECODERS = pytest.mark.parametrize("kind", [name for name in CONFIGS if name != "encoder-decoder"])


def built(kind: str, folder: Path) -> tuple[Any, ServingScenario]:
    """A tiny model of transformers with random weights, and what capsim reads of its configuration."""
    name, fields = CONFIGS[kind]
    model_class = getattr(transformers, name)
    config = model_class.config_class(**fields)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = model_class(config).eval()
    path = folder / "config.json"
    path.write_text(json.dumps({**config.to_dict(), "architectures": [name]}))
    load = {"input_tokens": PROMPT, "output_tokens": 4}
    served = resolve_serving(
        str(path),
        "dgx-h100",
        devices=1,
        stack="hf-transformers",
        weights="fp32",
        kv_cache="fp32",
        precision="fp32",
        load=load,
    )
    return model, served


def program(served: ServingScenario, **said: float) -> Program:
    """The program of one iteration."""
    none = dict.fromkeys(("prompts", "prompt_tokens", "cached", "decodes", "context", "encoded", "sampled"), 0.0)
    work = Iterations(**{**none, "prompt_tokens": 1.0, "context": 1.0, **said}, cache_bytes=4.0)
    return served_program(served, served.iteration(work))


def arithmetic(of: Program) -> float:
    """All arithmetic of matrix products [FLOP]."""
    others = (Collective, HostCopy, HostWork, Send)
    return float(
        sum(
            block.number * task.count * (0.0 if isinstance(task.request, others) else task.request.flops)
            for block in of.blocks
            for task in block.tasks
        )
    )


def weights_read(of: Program) -> float:
    """Weights that matrix products read [parameter]."""
    return float(
        sum(
            block.number * task.count * task.request.k * task.request.n * task.request.batch
            for block in of.blocks
            for task in block.tasks
            if isinstance(task.request, MatrixProduct) and task.request.of_weight
        )
    )


def counted(model: Any, **inputs: Any) -> tuple[int, Any]:
    """Arithmetic of a forward pass, that of tables of rotary angles left out, and what it returns."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        returned = model(**inputs)
    by_module = counter.get_flop_counts()
    tables = {name: sum(ops.values()) for name, ops in by_module.items() if name.endswith("rotary_emb")}
    return counter.get_total_flops() - sum(tables.values()), returned


def size_of(cache: Any) -> int:
    """Bytes of all tensors of a cache."""
    pairs = [(layer.keys, layer.values) for each in _parts(cache) for layer in each.layers]
    return sum(tensor.nelement() * tensor.element_size() for pair in pairs for tensor in pair)


def _parts(cache: Any) -> list[Any]:
    """The caches that a cache is made of: of an encoder-decoder its own and the encoder's."""
    if hasattr(cache, "self_attention_cache"):
        return [cache.self_attention_cache, cache.cross_attention_cache]
    return [cache]


def tokens(model: Any, length: int) -> torch.Tensor:
    return torch.randint(1, model.config.vocab_size, (BATCH, length))


@pytest.mark.parametrize("kind", ["multi-head", "grouped", "multi-query", "latent"])
def test_prefill_does_the_arithmetic_of_torch(kind: str, tmp_path: Path) -> None:
    model, served = built(kind, tmp_path)
    flops, _ = counted(model, input_ids=tokens(model, PROMPT), use_cache=True, logits_to_keep=1)
    ours = program(served, prompts=BATCH, prompt_tokens=PROMPT, sampled=BATCH)
    assert arithmetic(ours) - flops == 0


@pytest.mark.parametrize("kind", ["multi-head", "grouped", "multi-query", "latent"])
def test_a_chunk_behind_a_cache_does_the_arithmetic_of_torch(kind: str, tmp_path: Path) -> None:
    model, served = built(kind, tmp_path)
    _, first = counted(model, input_ids=tokens(model, PROMPT), use_cache=True, logits_to_keep=1)
    flops, _ = counted(model, input_ids=tokens(model, 5), cache=first.past_key_values, use_cache=True, logits_to_keep=1)
    ours = program(served, prompts=BATCH, prompt_tokens=5, cached=PROMPT, sampled=BATCH)
    assert arithmetic(ours) - flops == 0


@pytest.mark.parametrize("kind", ["multi-head", "grouped", "multi-query", "window"])
def test_decoding_does_the_arithmetic_of_torch(kind: str, tmp_path: Path) -> None:
    """With a window of 6 a token sees itself and the five before it, however many there were."""
    model, served = built(kind, tmp_path)
    _, first = counted(model, input_ids=tokens(model, PROMPT), use_cache=True, logits_to_keep=1)
    flops, _ = counted(model, input_ids=tokens(model, 1), cache=first.past_key_values, use_cache=True, logits_to_keep=1)
    ours = program(served, decodes=BATCH, context=PROMPT + 1, sampled=BATCH)
    assert arithmetic(ours) - flops == 0


@DECODERS
def test_a_decode_pass_reads_every_weight_once(kind: str, tmp_path: Path) -> None:
    """All matrices but the table of words, which is looked up; those of a latent are read as absorbing products."""
    model, served = built(kind, tmp_path)
    matrices = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    assert weights_read(program(served, decodes=BATCH, context=PROMPT, sampled=BATCH)) - matrices == 0


@pytest.mark.parametrize("kind", ["multi-head", "grouped", "multi-query", "latent"])
def test_the_cache_is_as_large_as_that_of_torch(kind: str, tmp_path: Path) -> None:
    model, served = built(kind, tmp_path)
    _, returned = counted(model, input_ids=tokens(model, PROMPT), use_cache=True, logits_to_keep=1)
    assert serving_memory(served, BATCH, PROMPT).kv_cache - size_of(returned.past_key_values) == 0


def test_a_window_stops_growing(tmp_path: Path) -> None:
    """Torch keeps one token less than it sees, since the new one is there when it looks; engines keep whole windows."""
    model, served = built("window", tmp_path)
    ids = tokens(model, PROMPT)
    _, returned = counted(model, input_ids=ids, use_cache=True, logits_to_keep=1)
    ours = [serving_memory(served, BATCH, context).kv_cache for context in (3, 6, PROMPT, 40)]
    assert ours[1] == ours[2] == ours[3] == 2 * ours[0]
    assert ours[2] * 5 / 6 - size_of(returned.past_key_values) == 0


def test_weights_are_as_many_as_torch_has(tmp_path: Path) -> None:
    for kind in CONFIGS:
        model, served = built(kind, tmp_path)
        own = sum(parameter.numel() for parameter in model.parameters())
        assert serving_memory(served, 1, 1).weights - 4 * own == 0, kind


def test_an_encoder_decoder_does_the_arithmetic_of_torch(tmp_path: Path) -> None:
    """The encoder's pass, keys and values of its output for every layer, and the first token; then one more."""
    model, served = built("encoder-decoder", tmp_path)
    ids, start = tokens(model, PROMPT), torch.zeros((BATCH, 1), dtype=torch.long)
    flops, first = counted(model, input_ids=ids, decoder_input_ids=start, use_cache=True)
    both = {"decodes": BATCH, "encoded": PROMPT, "sampled": BATCH}
    ours = program(served, prompts=BATCH, prompt_tokens=PROMPT, context=1, **both)
    assert arithmetic(ours) - flops == 0
    again, later = counted(
        model,
        encoder_outputs=(first.encoder_last_hidden_state,),
        decoder_input_ids=start,
        cache=first.past_key_values,
        use_cache=True,
    )
    assert arithmetic(program(served, context=2, **both)) - again == 0
    assert serving_memory(served, BATCH, PROMPT + 2).kv_cache - size_of(later.past_key_values) == 0


def absorbed(attention: Any, hidden: torch.Tensor, latents: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Attention of one token to latents as they are, positions left out: what engines compute, with equal weights."""
    config = attention.config
    nope, rope, value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    heads, rank = config.num_attention_heads, config.kv_lora_rank
    queries = attention.q_b_proj(attention.q_a_layernorm(attention.q_a_proj(hidden)))
    queries = queries.view(BATCH, heads, nope + rope)
    mine = attention.kv_a_proj_with_mqa(hidden)
    latents = torch.cat([latents, attention.kv_a_layernorm(mine[..., :rank])], dim=1)
    keys = torch.cat([keys, mine[..., rank:]], dim=1)
    into, out = attention.kv_b_proj.weight.view(heads, nope + value, rank).split([nope, value], dim=1)
    asked = torch.bmm(queries[..., :nope].transpose(0, 1), into).transpose(0, 1)
    both = torch.cat([asked, queries[..., nope:]], dim=-1)
    scores = torch.bmm(both, torch.cat([latents, keys], dim=-1).transpose(1, 2)) * attention.scaling
    mixed = torch.bmm(torch.softmax(scores, dim=-1), latents)
    values = torch.bmm(mixed.transpose(0, 1), out.transpose(1, 2)).transpose(0, 1)
    return attention.o_proj(values.reshape(BATCH, 1, heads * value))


def test_absorbed_attention_is_that_of_the_model_and_does_the_arithmetic_of_torch(tmp_path: Path) -> None:
    """Transformers makes keys and values of all cached latents again; engines do not. The result is the same."""
    model, served = built("latent", tmp_path)
    attention, config = model.model.layers[0].self_attn, model.config
    assert isinstance(attention, DeepseekV3Attention)
    hidden = torch.randn(BATCH, PROMPT + 1, config.hidden_size)
    still = (
        torch.ones(BATCH, PROMPT + 1, config.qk_rope_head_dim),
        torch.zeros(BATCH, PROMPT + 1, config.qk_rope_head_dim),
    )
    with torch.no_grad():
        whole = attention(hidden, position_embeddings=still, attention_mask=None)[0][:, -1:]
        before = attention.kv_a_proj_with_mqa(hidden[:, :-1])
        latents = attention.kv_a_layernorm(before[..., : config.kv_lora_rank])
        keys = before[..., config.kv_lora_rank :]
        with FlopCounterMode(display=False) as counter:
            alone = absorbed(attention, hidden[:, -1:], latents, keys)
    np.testing.assert_allclose(alone.numpy(), whole.numpy(), atol=1e-5)
    ours = program(served, decodes=BATCH, context=PROMPT + 1, sampled=BATCH).groups[0]
    done = float(np.asarray(ours.flops_of("attention"))) + float(np.asarray(ours.flops_of("attention_projections")))
    assert done - counter.get_total_flops() == 0
    kept = (latents.nelement() + keys.nelement()) * latents.element_size() * config.num_hidden_layers
    assert serving_memory(served, BATCH, PROMPT).kv_cache - kept == 0
