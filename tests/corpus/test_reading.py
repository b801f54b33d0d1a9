"""Words that mislead: what they are read as, or why they are refused, and that each row says so."""

from __future__ import annotations

import re
from typing import Any

import pytest

from simulator.corpus.devices import device_of
from simulator.corpus.explaining import explain
from simulator.corpus.fabrics import fabric_of
from simulator.corpus.mapping import case_of
from simulator.corpus.notes import Notes
from simulator.corpus.runs import RefusedError, Run, shipped
from simulator.corpus.words import meaning
from simulator.work.counts import counts_of
from simulator.work.program import program_of
from tests.evidence.examples import made, published


def _refusal(run: Run) -> str:
    with pytest.raises(RefusedError) as caught:
        case_of(run)
    return caught.value.reason


# Networks

_FABRICS = [
    ("Infiniband, Ethernet", "h200-sxm-141gb", 8, "infiniband", 3200),
    ("Ethernet, Infiniband", "h100-sxm5-80gb", 8, "infiniband", 3200),
    ("8x BF3 ConnectX-7 400Gb/s per node", "h100-sxm5-80gb", 8, "infiniband", 3200),
    ("Storage: 2x BF3 ConnectX-7 400Gb/s, Compute: 8x BF3 ConnectX-7 400Gb/s", "h100-sxm5-80gb", 8, "infiniband", 3200),
    ("8x ConnectX-7 IB NDR 400Gb/s + 200Gb/s Ethernet NIC", "b200-sxm-180gb", 8, "infiniband", 3200),
    ("1x Ethernet 40Gb/Sec, 8x ConnectX-6 IB HDR 200Gb/Sec", "a100-sxm4-80gb", 8, "infiniband", 1600),
    ("1x Ethernet 80Gb/Sec, 8x NVIDIA NDR (400Gb/s)", "h100-sxm5-80gb", 8, "infiniband", 3200),
    ("InfiniBand HDR and 25 GbE", "a100-sxm4-80gb", 8, "infiniband", 1600),
    ("BF3 200Gbps for NS and 2xBF3 400Gbps for EW", "l40s", 4, "infiniband", 800),
    ("1x Cornelis Networks Omni-Path HFI Adapter 100 Series 100Gb/Sec", "a100-pcie-80gb", 4, "omni-path", 100),
    ("2x Cornelis Networks Omni-Path HFI Adapter 100 Series 100Gb/Sec", "a100-pcie-80gb", 4, "omni-path", 200),
    (
        "Compute: 8x MT43244 BlueField-3 200Gb/s, Management: 2x100Gb/s Ethernet",
        "h200-sxm-141gb",
        8,
        "infiniband",
        1600,
    ),
    ("InfiniBand; Data bandwidth for GPU-PCIe: 504 GB/s; PCIe-NIC: 500 GB/s", "b200-sxm-180gb", 8, "infiniband", 3200),
    ("ROCE2; Data bandwidth for GPU-PCIe: 504 GB/s; PCIe-NIC: 500 GB/s", "h100-sxm5-80gb", 8, "roce", 3200),
    ("Ethernet(RoCEv2)", "mi300x", 8, "roce", 3200),
    ("8x 200 Gb/s Ethernet per node", "h200-sxm-141gb", 8, "roce", 1600),
    ("8x 400GbE per node", "h100-sxm5-80gb", 8, "roce", 3200),
    ("2x 100GbE", "a100-sxm4-80gb", 8, "ethernet", 200),
    ("GCP A3 (4x 200 Gbps NIC per node; NIC figure recalled)", "h100-sxm5-80gb", 8, "tcpx", 800),
    ("10G Ethernet", "mi300x", 8, "ethernet", 10),
    ("Gig Ethernet", "h100-sxm5-80gb", 8, "ethernet", 1),
    ("NetXtreme BCM5719 Gigabit Ethernet PCIe 4x1Gb", "a100-sxm4-40gb", 4, "ethernet", 4),
    ("50 GB/s per GPU RoCE", "h100-sxm5-80gb", 8, "roce", 3200),
    ("400 GB/s per node", "h100-sxm5-80gb", 8, "infiniband", 3200),
    ("8x400 GB/s InfiniBand", "h100-sxm5-80gb", 8, "infiniband", 3200),  # no card has 3,200 Gb/s
    ("PCIe 4 x16, 2x ConnectX-6 HDR", "a100-sxm4-80gb", 8, "infiniband", 400),
    ("4x 400 Gb/s InfiniBand per node (between NVL72 racks)", "gb200", 72, "infiniband", 28800),
    ("IB 400G or RoCE 400G", "h100-sxm5-80gb", 8, "infiniband", 3200),
]


@pytest.mark.parametrize(("words", "device", "per_node", "kind", "gigabits"), _FABRICS)
def test_a_network_is_read_by_its_rate_and_role(
    words: str, device: str, per_node: int, kind: str, gigabits: float
) -> None:
    hosts = 18.0 if per_node == 72 else 1.0
    fabric = fabric_of(words, device=device, per_node=per_node, hosts=hosts, notes=Notes())
    assert (fabric.kind, fabric.gigabits) == (kind, gigabits)


def test_a_choice_between_networks_of_different_rates_is_refused() -> None:
    words = "100 Gb/s Ethernet or 8x 200 Gb/s InfiniBand"
    assert _refusal(made(hardware__inter=words)) == "ambiguous network between nodes"


def test_what_words_leave_open_of_a_network_is_said() -> None:
    notes = Notes()
    fabric_of("Infiniband, Ethernet", device="h200-sxm-141gb", per_node=8, hosts=1.0, notes=notes)
    assert notes.assumed == [
        "network: infiniband, of infiniband, ethernet",
        "network: 3,200 Gb/s a node, as hosts of the device usually have",
    ]


@pytest.mark.parametrize("intra", ["N/A", "PCIe 4.0", None])
def test_an_sxm_board_has_its_own_links_whatever_joins_it_to_its_host(intra: str | None) -> None:
    link = case_of(made(hardware__device="a100-sxm4-40gb", hardware__intra=intra)).system.intra_node
    assert link is not None
    assert (link.kind, link.topology) == ("nvlink3", "switch")


def test_boards_whose_links_were_not_used_meet_on_the_bus() -> None:
    link = case_of(made(hardware__device="a100-sxm4-40gb", hardware__intra="PCIe 4, no NVLink3")).system.intra_node
    assert link is not None
    assert (link.kind, link.topology) == ("pcie4x16", "host-bridge")


# Devices

_DEVICES = [
    ("h100-sxm5-96gb-hbm2e", "h100-sxm5-96gb-500w"),
    ("H100 SXM5 96GB", "h100-sxm5-96gb-500w"),
    ("HGX H100 96GB", "h100-sxm5-96gb-500w"),
    ("H100 94GB", "h100-nvl-94gb"),
    ("H100 NVLink 80GB", "h100-sxm5-80gb"),
    ("H200 NVLink", "h200-sxm-141gb"),
    ("NVIDIA H100 SXM5 80GB PCIe Gen5", "h100-sxm5-80gb"),
    ("A100 SXM4 80GB (PCIe 4 host)", "a100-sxm4-80gb"),
    ("V100-SXM2-32GB PCIe 3 x16", "v100-sxm2-32gb"),
    ("DGX A100 320GB", "a100-sxm4-40gb"),
]


@pytest.mark.parametrize(("words", "device"), _DEVICES)
def test_a_device_is_read_by_form_factor_and_memory(words: str, device: str) -> None:
    assert device_of(words).id == device


@pytest.mark.parametrize("words", ["H100 SXM 64GB", "RTX 3080 12GB", "A100 48GB"])
def test_an_edition_with_other_memory_is_another_device(words: str) -> None:
    assert _refusal(made(hardware__device=words)) == "unknown device"


@pytest.mark.parametrize(
    ("words", "assumed"),
    [
        ("H100 SXM5 80GB 350W", "device: priced as at 700 W, where 350 W are told"),
        ("b200-192gb", "device: the edition with 180 GB, where 192 GB are told"),
    ],
)
def test_power_and_memory_that_differ_a_little_are_said(words: str, assumed: str) -> None:
    notes = Notes()
    device_of(words, notes)
    assert notes.assumed == [assumed]


def test_runs_on_sxm_boards_of_96_gb_are_not_priced_as_cards_on_pcie() -> None:
    boards = [run for run in shipped() if run.hardware.device == "h100-sxm5-96gb-hbm2e"]
    assert len(boards) == 30
    for run in boards:
        system = case_of(run).system
        assert system.device.id == "h100-sxm5-96gb-500w"
        assert system.intra_node is not None
        assert (system.intra_node.kind, system.intra_node.topology) == ("nvlink4", "switch")


# Work that is priced as what it is, or refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"plan__lora": {"rank": 16, "alpha": 32}}, "trains adapters only"),
        ({"plan__use_dora": True}, "trains adapters only"),
        ({"plan__adapter_size": 64}, "trains adapters only"),
        ({"plan__trainable_params": 4_194_304, "model__params_b": 8.0}, "trains some of the parameters only"),
        ({"plan__frozen_layers": 20}, "trains some of the parameters only"),
        ({"plan__load_in_4bit": True}, "quantised parameters"),
        ({"model__kv_lora_rank": 512}, "latent attention"),
        ({"model__mla": "q_lora 1536 kv_lora 512"}, "latent attention of unknown sizes"),
        ({"model__name": "longcat-flash"}, "latent attention of unknown sizes"),
        ({"model__name": "deepseek-v3", "model__layers": 4.0}, "experts not published"),
    ],
)
def test_work_without_formulas_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    assert _refusal(made(**changes)) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"plan__lora": None},
        {"plan__lora": {}},
        {"plan__lora": False},
        {"plan__lora_rank": 0},
        {"plan__adapter": "none"},
        {"plan__trainable_params": 8_000_000_000, "model__params_b": 8.0},
        {"task": "pretrain and evaluate"},
    ],
)
def test_what_was_not_used_refuses_nothing(changes: dict[str, Any]) -> None:
    assert case_of(made(**changes)).assumed is not None


def test_no_run_of_lora_is_priced_as_a_full_one() -> None:
    tuned = [run for run in shipped() if "lora" in f"{run.id} {run.collection} {run.plan.peft}".lower()]
    assert len(tuned) > 130
    outcomes = [_trained(run) for run in tuned]
    assert outcomes.count("lora") > 115
    assert {word.split(" ")[0] for word in set(outcomes) - {"lora"}} == {"unknown"}  # devices


def _trained(run: Run) -> str:
    """What a run trained, or why it is refused."""
    try:
        return str(case_of(run).workload.train)
    except RefusedError as error:
        return error.reason


@pytest.mark.parametrize(
    ("changes", "tuning"),
    [
        ({"plan__lora_rank": 16}, (16, ("all-linear",), None)),
        ({"plan__peft": "QLoRA", "plan__quantization": "bnb.nf4-dq"}, (16, ("all-linear",), "nf4-double")),
        ({"plan__peft": "lora", "plan__lora_targets": "q_proj,v_proj"}, (16, ("q_proj", "v_proj"), None)),
        ({"plan__framework": "litgpt finetune_lora"}, (8, ("q_proj", "v_proj"), None)),
        ({"task": "lora_finetune", "plan__quantization": "bnb.int8"}, (16, ("all-linear",), "int8")),
        ({"plan__framework": "nemo 2", "plan__peft": "lora"}, (8, ("linear_qkv",), None)),
        ({"model__name": "llama3-70b-lora"}, (16, ("all-linear",), None)),
    ],
)
def test_what_a_run_tells_of_its_adapters(changes: dict[str, Any], tuning: tuple[Any, ...]) -> None:
    work = case_of(made(**changes)).workload
    assert (work.train, work.lora_rank, work.lora_targets, work.base_precision) == ("lora", *tuning)


def test_llama_2_70b_as_mlperf_tunes_it() -> None:
    case = case_of(next(run for run in shipped() if run.id == "mlperf-v4.0-llama2_70b_lora-nvidia-eos_ngc24.04_nemo"))
    work = case.workload
    assert (work.lora_rank, work.lora_targets, work.base_precision) == (16, ("attention",), "fp8")
    # 80 layers: 16 (8192 + 10240) for queries, keys and values together, 16 (8192 + 8192) for the output.
    assert counts_of(program_of(case.columns())).trained_parameters == 44_564_480


def test_litgpt_tells_as_many_trained_parameters_as_are_counted() -> None:
    told = {
        run.id: (run.plan.model_extra or {}).get("trainable_params") for run in shipped() if run.plan.peft == "lora"
    }
    runs = [run for run in shipped() if told.get(run.id)]
    assert len(runs) > 20
    counted = {run.id: counts_of(program_of(case_of(run).columns())).trained_parameters for run in runs}
    assert counted == {run.id: told[run.id] for run in runs}


# Words of a plan whose first impression is wrong

_WORDS = [
    ("shardings", "distributed data parallel", "none"),
    ("shardings", "DistributedDataParallel", "none"),
    ("shardings", "no zero", "none"),
    ("shardings", "ZeRO-0", "none"),
    ("shardings", "FSDP (NO_SHARD)", "none"),
    ("shardings", "distributed fused Adam", "zero1"),
    ("shardings", "optimizer states", "zero1"),
    ("shardings", "3", "zero3"),
    ("recomputes", "none (flash attention)", "none"),
    ("recomputes", "no recompute of attention", "none"),
    ("recomputes", "full, including attention", "full"),
    ("recomputes", "selective (attention)", "selective"),
    ("precisions", "fp32 (no tf32)", "fp32"),
    ("precisions", "bf16, no fp8", "bf16"),
    ("precisions", "fp32, TF32 disabled", "fp32"),
    ("optimizers", "distributed fused adam", "adamw"),
]


@pytest.mark.parametrize(("kind", "words", "meant"), _WORDS)
def test_words_that_deny_or_belong_to_something_else(kind: str, words: str, meant: str) -> None:
    assert meaning(kind, words) == meant


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"plan__recompute": "selective: half of the layers"}, "recomputes some of the layers"),
        ({"plan__recompute": "every 7 layers"}, "recomputes some of the layers"),
        ({"plan__recompute": "10 of 80 layers"}, "recomputes some of the layers"),
        ({"plan__recompute": "banana"}, "unknown recompute"),
        ({"plan__sharding": "banana"}, "unknown sharding"),
        (
            {"plan__remat_policy": "custom: decoder_layer_input+q/k/v offloaded to host"},
            "recomputes some parts of a layer",
        ),
        ({"plan__remat_policy": "qkv_proj_offloaded"}, "recomputes some parts of a layer"),
    ],
)
def test_words_that_no_plan_holds_are_refused(changes: dict[str, Any], reason: str) -> None:
    assert _refusal(made(**changes)) == reason


@pytest.mark.parametrize(
    ("policy", "meant"),
    [
        ("full", "full"),
        ("custom: decoder_layer_input offloaded", "full"),
        ("custom: decoder_layer_input on device, qkv remat", "full"),
        ("minimal_flash", "selective"),
        ("nothing_saveable", "full"),
    ],
)
def test_a_policy_says_more_than_a_word(policy: str, meant: str) -> None:
    assert case_of(made(plan__recompute="selective", plan__remat_policy=policy)).plan.recompute == meant


@pytest.mark.parametrize(
    ("words", "layers"),
    [("selective: every second layer", 2), ("every other layer", 2), ("each 3rd transformer block", 3)],
)
def test_words_for_some_layers(words: str, layers: int) -> None:
    plan = case_of(made(plan__recompute=words)).plan
    assert (plan.recompute, plan.recompute_method, plan.recompute_layers) == ("full", "every", layers)


@pytest.mark.parametrize(("experts", "feed_forward"), [(None, "mlp"), (8, "moe")])
def test_a_policy_that_names_what_it_keeps(experts: int | None, feed_forward: str) -> None:
    policy = "custom: decoder_layer_input+q/k/v+out_proj offloaded to host"
    sizes: dict[str, Any] = {} if experts is None else {"model__experts": experts, "model__experts_per_token": 2}
    plan = case_of(made(plan__recompute="selective", plan__remat_policy=policy, **sizes)).plan
    assert (plan.recompute, plan.recompute_modules) == ("selective", ("core_attn", "layernorm", feed_forward))


def test_an_unknown_optimizer_is_replaced_and_said() -> None:
    case = case_of(made(plan__optimizer="muon"))
    assert case.plan.optimizer == "adamw"
    assert "optimizer: the default of the software, as nobody knows 'muon'" in case.assumed


# Models whose layers differ


def test_experts_shared_and_dense_layers_are_those_of_the_row() -> None:
    scout = case_of(published("tpurec-v5p-llama4-scout-512")).model
    assert (scout.experts, scout.experts_per_token, scout.shared_experts) == (16, 1, 1)
    sizes = {"name": "ours", "family": "moe", "layers": 48, "hidden": 2048, "heads": 16, "ffn": 5120, "seq_len": 4096}
    experts = {"experts": 64, "experts_per_token": 4, "shared": 2, "moe_ffn": 1408, "first_dense": 1, "moe_every": 1}
    changes: dict[str, Any] = {f"model__{name}": value for name, value in {**sizes, **experts}.items()}
    model = case_of(made(**changes)).model
    assert (model.shared_experts, model.expert_feed_forward_size, model.feed_forward_size) == (2, 1408, 5120)
    assert (model.dense_layers_first, model.expert_period) == (1, 1)


def test_windows_are_those_of_the_row_or_of_the_name() -> None:
    assert case_of(made(model__sliding_window=1024)).model.sliding_window == 1024
    sizes = {"layers": 48, "hidden": 3840, "heads": 16, "ffn": 15360, "seq_len": 8192, "name": "gemma3-12b"}
    changes: dict[str, Any] = {f"model__{name}": value for name, value in sizes.items()}
    model = case_of(made(**changes)).model
    assert model.window_pattern == (1024, 1024, 1024, 1024, 1024, None)


# How a row was read


def test_every_field_of_every_row_is_explained() -> None:
    for run in shipped()[:: len(shipped()) // 150]:
        explained = explain(run)
        places = {row.field for row in explained.fields}
        parts = run.model_dump(exclude_unset=True)
        told = {f"{part}.{name}" for part in ("model", "hardware", "plan") for name in parts.get(part, {})}
        assert told <= places
        assert all(row.rule for row in explained.fields)
        if explained.refused is None:
            assert explained.assumed == case_of(run).assumed
        else:
            with pytest.raises(RefusedError, match=re.escape(explained.refused)):
                case_of(run)


def test_an_explanation_has_rule_word_and_result() -> None:
    run = published("mlperf-v3.0-dell-2xr750xax4a100-pcie-80gb-1opa")
    rows = {row.field: row for row in explain(run).fields}
    network = rows["hardware.inter"]
    assert network.rule.startswith("fabrics: omni")
    assert network.result == "system.inter_node = omni-path, 100 Gb/s a node"
    assert (rows["plan.precision"].word, rows["plan.precision"].result) == ("fp16", "plan.precision = fp16")
    assert rows["plan.tp"].result == "plan.tp = 1"
    assert rows["measured.step_time_s"].rule == "compared with the predicted step"


def test_what_was_not_published_is_explained_too() -> None:
    rows = {row.field: row for row in explain(made()).fields}
    assert rows["plan.sharding"].published is None
    assert rows["plan.recompute"].rule == "not published, assumed"
    assert rows["plan.sharding"].result.startswith("plan.sharding = ")


def test_a_refused_run_is_explained_as_far_as_it_was_read() -> None:
    explained = explain(published("tpurec-v5p-deepseek3-512"))
    assert (explained.refused or "").startswith("recomputes some parts of a layer: ")
    rows = {row.field: row for row in explained.fields}
    assert rows["hardware.device"].result == "system.device = tpu-v5p"
    assert rows["plan.recompute"].rule == "not read, since the run is refused"
