"""Bad input ends with one clear sentence on standard error, status 2, and nothing else."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from simulator import from_file, load_model
from tests.commands.conftest import Capsim, Outcome, assert_one_sentence

ROOT = Path(__file__).parents[2]
DEVICE = (ROOT / "hardware" / "devices" / "a100-sxm4-80gb.yaml").read_text()
SYSTEM = (ROOT / "hardware" / "systems" / "dgx-a100-640gb.yaml").read_text()
MODEL = (ROOT / "simulator" / "specs" / "models" / "bert-large.yaml").read_text()
STACK = (ROOT / "simulator" / "specs" / "stacks" / "megatron-lm.yaml").read_text()
SCENARIO = """\
title: two lines of it
model: bert-large
system: dgx-a100-640gb
plan:
  dp: 8
  micro_batch: 4
workload: {sequence_length: 128, global_batch: 64}
"""
BERT = ("estimate", "bert-large", "--system", "dgx-a100-640gb")


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ("--stack megatrom", ["unknown stack 'megatrom'; did you mean megatron"]),
        ("--stack qqq", ["unknown stack 'qqq'; capsim catalogue stacks lists all"]),
        ("--stack xla-tpu", ["stack=xla-tpu runs on a tpu and a100-sxm4-80gb is a gpu; valid: colossalai, composer"]),
        ("--objective mml", ["objective='mml': valid: 'causal', 'mlm'", "; did you mean 'mlm'?"]),
        ("--objective seq2seq", ["objective=seq2seq needs an encoder-decoder, not an encoder"]),
        ("--sharding zero4", ["sharding='zero4': valid: 'none', 'zero1'"]),
        ("--schedule 1f2b", ["schedule='1f2b': valid: '1f1b', 'gpipe'"]),
        ("--recompute half", ["recompute='half': valid: 'none', 'selective', 'operators' or 'full'"]),
        ("--precision bf61", ["precision='bf61': valid: 'fp32', 'tf32', 'fp16', 'bf16', 'fp8', 'mxfp8' or 'nvfp4'"]),
        ("--optimizer adam", ["optimizer='adam': valid: 'adamw', 'adam-bf16'"]),
        ("--placement tp-dp", ["placement: 'tp-dp' must name tp, cp, dp and pp once each"]),
        ("--placement tp-tp-dp-pp", ["'tp-tp-dp-pp' must name"]),
        ("--price lamda", ["price='lamda': no such offer of a100-sxm4-80gb", "such as lambda"]),
        ("--price -1", ["price='-1'", "'-1' is out of range"]),
        ("--price 0", ["price='0'", "out of range"]),
        ("--price nan", ["price='nan': no such offer"]),
        ("--price inf", ["price='inf': no such offer"]),
        ("--price=", ["price='': no such offer"]),
        ("--price 1e400", ["out of range"]),
        ("--price 2,50", ["'2,50' is not a price"]),
        ("--price '5 EUR/h'", ["'EUR/h' is not a unit of price; valid: USD/h"]),
        ("--grid mars", ["unknown grid 'mars'; known: au, br"]),
        ("--grid=", ["unknown grid ''"]),
        ("--overhead awz", ["unknown overhead 'awz'; did you mean aws"]),
        ("--devices 0", ["devices=0: dgx-a100-640gb has 1 to 16384 devices"]),
        ("--devices -8", ["devices=-8: dgx-a100-640gb has 1 to 16384 devices"]),
        ("--devices 16385", ["devices=16385: dgx-a100-640gb has 1 to 16384 devices"]),
        ("--tokens 1e9 --steps 10", ["tokens and steps say the same; give one of them"]),
        ("--seq-len 0", ["sequence_length=0: must be at least 1"]),
        ("--seq-len 128 --effective-tokens 129", ["effective_tokens=129 exceeds sequence_length=128"]),
        ("--effective-tokens 600", ["effective_tokens=600 exceeds sequence_length=512"]),
        ("--effective-tokens nan", ["--effective-tokens='nan': write a number"]),
        ("--effective-tokens inf", ["--effective-tokens='inf': write a number"]),
        ("--predictions 513", ["predictions=513 exceeds sequence_length=512"]),
        ("--objective causal --predictions 5", ["predictions=5 belongs to objective=mlm"]),
        ("--expert-imbalance 2", ["expert_imbalance=2 belongs to a mixture of experts; bert-large is dense"]),
        ("--expert-imbalance 0.5", ["expert_imbalance=0.5: must be at least 1"]),
        ("--expert-imbalance even", ["--expert-imbalance='even': write a number"]),
        ("--capacity-factor 1.25", ["capacity_factor=1.25 belongs to a mixture of experts"]),
        ("--capacity-factor -1", ["capacity_factor=-1: must be at least 0"]),
        ("--target-len 64", ["target_length=64 belongs to an encoder-decoder; bert-large is encoder only"]),
        ("--tokens many", ["--tokens='many': write a number such as 780e9 or 780B"]),
        ("--tokens B", ["--tokens='B': write a number"]),
        ("--tokens 1e19", ["tokens=1e+19: must be at most 1e+18"]),
        ("--tokens 1e400", ["--tokens='1e400': write a number"]),
        ("--tp 7", ["tp=7 does not divide 16 attention heads; valid: 1, 2, 4, 8, 16"]),
        ("--tp 3 --dp 2", ["tp=3 does not divide 16 attention heads; valid: 1, 2, 4, 8, 16"]),
        ("--tp 16", ["tp=16 x pp=1 x cp=1 = 16 does not divide devices=8; valid products: 1, 2, 4, 8"]),
        ("--tp 2 --pp 2 --dp 4", ["dp=4 x tp=2 x pp=2 x cp=1 = 16 is not devices=8"]),
        ("--dp 3", ["dp=3 x micro_batch=1 does not divide global_batch=256; valid products: 1, 2, 4"]),
        ("--dp 16", ["dp=16 x tp=1 x pp=1 x cp=1 = 16 is not devices=8; change a degree or leave dp open"]),
        ("--pp 25 --devices 25", ["pp=25 exceeds 24 layers"]),
        ("--cp 3 --devices 3", ["cp=3 does not divide sequence_length=512; valid: 1, 2, 4"]),
        ("--ep 2", ["ep=2 does not divide 1 experts: bert-large has no experts to share"]),
        ("--virtual-stages 2 --pp 1", ["virtual_stages=2 needs a pipeline (pp > 1)"]),
        ("--virtual-stages 5 --pp 2", ["pp=2 x virtual_stages=5 does not divide 24 layers"]),
        ("--sharding hybrid", ["sharding=hybrid needs sharding_group", "such as sharding_group=8"]),
        ("--optimizer adam8bit", ["plan.optimizer='adam8bit': valid: ", "did you mean 'adam-8bit'?"]),
        ("--base-precision int4", ["'int4': weights in 4 bits are nf4 here"]),
        ("--pp 4 --virtual-stages 5", ["does not divide 24 layers; valid virtual_stages: 2, 3, 6"]),
        ("--schedule interleaved --pp 1", ["schedule=interleaved needs a pipeline, and pp=1 has a single stage"]),
        ("--sharding-group 3", ["sharding_group=3 does not divide the 8 data-parallel ranks"]),
        ("--sharding zero2 --sharding-group 2", ["sharding_group=2 belongs to sharding=hybrid or zero1, not to"]),
        ("--micro-batch 3", ["micro_batch=3", "must divide global_batch=256"]),
        ("--global-batch 4", ["global_batch=4"]),
        ("--global-batch 100 --dp 8 --tp 1 --pp 1 --micro-batch 1", ["dp=8 x micro_batch=1 does not divide", "100"]),
        ("--precision fp8", ["precision=fp8: a100-sxm4-80gb has no units for it; valid: fp32, tf32, fp16, bf16"]),
        (
            "--seq-len 100 --tp 8 --sequence-parallel --stack megatron-lm",
            ["sequence parallelism: tp=8 does not divide the 100 tokens of a rank's sequence"],
        ),
        ("--document-lengths 0", ["workload.document_lengths.0=0: must be at least 1"]),
        ("--document-lengths long", ["document_lengths: 'long' are no lengths", "700 or 2048,1024,512,512"]),
        ("--document-lengths nan", ["'nan' are no lengths"]),
        ("--document-deviation 5", ["document_deviation=5 needs the mean length of documents"]),
        ("--document-lengths 5 --document-deviation 0", ["document_deviation=0: must be greater than 0"]),
        ("--preference dpo", ["preference=dpo compares probabilities of words that follow; bert-large has"]),
        ("--preference rlhf", ["workload.preference='rlhf': valid: 'dpo' or 'reward'"]),
        ("--preference reward --micro-batch 1", ["micro_batch=1 holds half a pair of two sequences; valid: even"]),
        ("--preference reward --global-batch 63", ["global_batch=63 sequences hold half a pair"]),
        ("--reference copy", ["reference=copy belongs to preference=dpo; leave one out"]),
        ("--teacher bert", ["unknown model 'bert'"]),
        ("--teacher gpt2-124m", ["teacher=gpt2-124m has objective=causal and bert-large objective=mlm"]),
        ("--teacher bert-base --tp 8 --stack megatron-lm", ["tp=8 does not divide the 12 attention heads of the"]),
        ("--teacher bert-base --pp 24 --devices 24 --stack megatron-lm", ["pp=24 exceeds 12 layers of the teacher"]),
        ("--no-keeps-teacher-logits", ["keeps_teacher_logits=no belongs to a teacher"]),
        ("--lora-rank 0", ["workload.lora_rank=0: must be at least 1"]),
        ("--lora-rank 1025", ["lora_rank=1025 exceeds 1024, the width of the narrowest matrix", "valid: 1 to 1024"]),
        ("--lora-targets qq_proj", ["unknown target 'qq_proj'; valid: all-linear, attention, feed-forward", "q_proj"]),
        ("--lora-targets ,", ["unknown target ''; valid: all-linear"]),
        ("--lora-dropout 1", ["workload.lora_dropout=1", "must be less than 1"]),
        ("--train some", ["workload.train='some': valid: 'full', 'lora', 'prompt', 'prefix' or 'head'"]),
        ("--train head --dora", ["dora=yes belongs to train=lora, not to train=head; leave one out"]),
        ("--lora-rank 8 --virtual-tokens 8", ["virtual_tokens=8 belongs to train=prompt or prefix, not to train=lora"]),
        ("--lora-rank 8 --dora --tp 2 --stack megatron-lm", ["dora with tp=2: magnitudes are not split; valid: 1"]),
        (
            "--train prefix --seq-len 128 --tp 2 --stack megatron-lm",
            ["train=prefix with tp=2, cp=1, pp=1: a prefix is not split"],
        ),
        (
            "--train prefix --seq-len 128 --recompute full",
            ["train=prefix: PEFT refuses prefixes beside recomputed layers"],
        ),
        ("--train prompt --seq-len 512", ["sequence_length=512 with virtual_tokens=20 exceeds the 512 rows"]),
        ("--train prompt --document-lengths 50", ["train=prompt: virtual tokens stand before one document"]),
        ("--optimizer-in-backward --clip-gradients", ["optimizer_in_backward and clip_gradients, which needs all"]),
        (
            "--optimizer-in-backward --offload-optimizer",
            ["offload_optimizer, which updates on the host; leave one out"],
        ),
        ("--optimizer-in-backward --devices 1 --micro-batch 4 --global-batch 64", ["gradients of 16 micro-batches"]),
        (
            "--optimizer-in-backward --sharding zero2 --global-batch 64 --micro-batch 8 --stack pytorch-fsdp",
            ["and 8 replicas", "sharding=zero3"],
        ),
        ("--optimizer-in-backward --stack megatron-lm", ["stack=megatron-lm has no optimizer_in_backward"]),
        (
            "--fp8-scaling current --precision bf16",
            ["fp8_scaling=current belongs to precision=fp8, not to"],
        ),
        ("--fp8-scaling rows", ["plan.fp8_scaling='rows': valid: 'delayed', 'current' or 'blockwise'"]),
        ("--multi-token", ["multi_token=yes: bert-large has no modules that predict further tokens"]),
        ("--activation-inputs-in-fp8", ["activation_inputs_in_fp8: belongs to a gated feed-forward layer whose gate"]),
        ("--lora-targets q_a_proj", ["lora_targets=q_a_proj: bert-large has none of them; valid: q_proj, k_proj"]),
        ("--train full --lora-rank 8", ["lora_rank=8 belongs to train=lora, not to train=full"]),
        ("--train head --lora-targets attention", ["lora_targets=attention belongs to train=lora, not to train=head"]),
        ("--train head", ["train=head: the head of bert-large is its table of words", "tied_head: false"]),
        ("--train full --base-precision nf4", ["base_precision=nf4", "no optimizer can update", "train=lora, prompt"]),
        ("--base-precision nf5", ["workload.base_precision='nf5': valid: 'fp8', 'int8', 'nf4' or 'nf4-double'"]),
        (
            "--base-precision nf4 --stack megatron-lm",
            ["stack=megatron-lm has no frozen weights in a few bits (base_precision)", "huggingface"],
        ),
        (
            "--train lora --tp 4 --lora-rank 6 --stack megatron-lm",
            ["tp=4 does not divide lora_rank=6", "valid: 1, 2, 3, 6"],
        ),
        ("--dp", ["--dp", "requires an argument", "--help"]),
        ("--global_batch 4", ["--global_batch", "--global-batch"]),
        ("--sytem x", ["--sytem", "--system"]),
        ("--nonsense", ["--nonsense", "see capsim estimate --help"]),
        ("extra", ["extra"]),
        ("--json=yes", ["--json"]),
    ],
)
def test_an_option_that_cannot_be(capsim: Capsim, options: str, fragments: list[str]) -> None:
    assert_one_sentence(capsim(*BERT, *shlex.split(options)), *fragments)


_WHOLE = [
    "--devices",
    "--seq-len",
    "--target-len",
    "--predictions",
    "--global-batch",
    "--steps",
    "--micro-batch",
    "--dp",
    "--tp",
    "--pp",
    "--virtual-stages",
    "--cp",
    "--ep",
    "--sharding-group",
    "--lora-rank",
]
_REAL = ["--effective-tokens", "--tokens"]


@pytest.mark.parametrize("option", [*_WHOLE, *_REAL])
@pytest.mark.parametrize("value", ["0", "-1", "-0.5", "99999999999999999999999", "1e30", "-inf"])
def test_numbers_out_of_range(capsim: Capsim, option: str, value: str) -> None:
    assert_one_sentence(capsim(*BERT, f"{option}={value}"))


@pytest.mark.parametrize("option", _WHOLE)
@pytest.mark.parametrize("value", ["abc", "1.5", "nan", "inf", "", " ", "0x10", "1;2", "1,00", "true", "two"])
def test_what_is_no_whole_number(capsim: Capsim, option: str, value: str) -> None:
    assert_one_sentence(capsim(*BERT, f"{option}={value}"), f"{option}={value!r}: write a whole number")


@pytest.mark.parametrize("option", _REAL)
@pytest.mark.parametrize("value", ["abc", "", " ", "0x10", "1;2", "1,00", "true"])
def test_what_is_no_number(capsim: Capsim, option: str, value: str) -> None:
    assert_one_sentence(capsim(*BERT, f"{option}={value}"), f"{option}={value!r}: write a number")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["estimate"], ["model", "see capsim estimate --help"]),
        (["estimate", "bert-large"], ["--system is missing", "such as --system dgx-a100-640gb"]),
        (["estimate", "bert-larg", "--system", "dgx-2"], ["unknown model 'bert-larg'; did you mean bert-large"]),
        (["estimate", "qqqq", "--system", "dgx-2"], ["unknown model 'qqqq'; known: albert"]),
        (["estimate", "", "--system", "dgx-2"], ["a model is named by a word or a file, not by ''"]),
        (["estimate", "x" * 3000, "--system", "dgx-2"], ["unknown model 'xxxx", "..."]),
        (["estimate", "bert\nlarge", "--system", "dgx-2"], [r"unknown model 'bert\nlarge'"]),
        (["estimate", "bert-large", "--system", "dgx-a100"], ["unknown system 'dgx-a100'; did you mean dgx-a100-"]),
        (["estimate", "bert-large", "--system", "a100-sxm-80gb"], ["did you mean a100-sxm4-80gb"]),
        (["estimate", "bert-large", "--system", ""], ["unknown system ''; known: aws-"]),
        (
            ["estimate", "bert-large", "--system", "none.yaml"],
            ["none.yaml: cannot be read (No such file or directory)"],
        ),
        (["estimate", "none.yaml"], ["none.yaml: cannot be read"]),
        (["estimate", "none.json", "--system", "dgx-2"], ["none.json: cannot be read"]),
        (["estimate", "/", "--system", "dgx-2"], ["/: is a folder without a config.json; give a file"]),
        (
            ["estimate", "bert-large", "--system", "v100-sxm2-16gb", "--precision", "bf16"],
            ["precision=bf16: v100-sxm2-16gb has no units for it; valid: fp32, fp16"],
        ),
        (
            ["estimate", "bert-large", "--system", "tpu-v4-pod", "--precision", "fp16"],
            ["precision=fp16: tpu-v4 has no units for it; valid: bf16"],
        ),
        (
            ["estimate", "bert-large", "--system", "tpu-v4-pod", "--stack", "megatron-lm"],
            ["stack=megatron-lm runs on a gpu and tpu-v4 is a tpu; valid:"],
        ),
        (
            ["estimate", "mixtral-8x7b", "--system", "dgx-a100-640gb", "--ep", "3", "--stack", "megatron-lm"],
            ["ep=3 does not divide 8 experts; valid: 1, 2, 4, 8"],
        ),
        (
            ["estimate", "palm-540b", "--system", "palm-2pod", "--devices", "6143"],
            ["no plan for palm-540b on 6143 devices", "global_batch=2048"],
        ),
        (["catalogue", "device"], ["unknown part of the catalogue 'device'; did you mean devices"]),
        (["catalogue", "sources"], ["unknown part of the catalogue 'sources'"]),
        (["catalogue", ""], ["unknown part of the catalogue ''; known: devices, systems"]),
        (["catalogue", "devices", "a100"], ["unknown device 'a100'; did you mean a100-"]),
        (["catalogue", "devices", "none.yaml"], ["none.yaml: cannot be read"]),
        (["catalogue", "prices", "none.yaml"], ["none.yaml: cannot be read"]),
        (["catalogue", "grids", "a/b"], ["unknown grid 'a/b'"]),
        (["catalogue", "measurements", "100000"], ["unknown measurement '100000'"]),
        (["catalogue", "measurements", "x.yaml"], ["unknown measurement 'x.yaml'"]),
        (["catalogue", "devices", "a10", "extra"], ["extra"]),
        (["catalogue", "devices", "a100", "--json"], ["unknown device 'a100'"]),
        (["estimat", "bert-large"], ["estimat", "'estimate'"]),
        (["claims", "extra"], ["extra"]),
        (["--nonsense"], ["--nonsense", "see capsim --help"]),
    ],
)
def test_a_command_that_cannot_be(capsim: Capsim, arguments: list[str], fragments: list[str]) -> None:
    assert_one_sentence(capsim(*arguments), *fragments)


def _assert_file(outcome: Outcome, path: Path, place: str, *fragments: str) -> None:
    """A sentence that begins with the file and the line."""
    assert_one_sentence(outcome, f"capsim: {path}{place}", *fragments)


@pytest.mark.parametrize(
    ("old", "new", "place", "fragment"),
    [
        ("bert-large", "bert-larg", ":2: ", "unknown model 'bert-larg'; did you mean bert-large"),
        ("bert-large", "{base: bert-large, layerz: 3}", ":2: ", "unknown key 'layerz'; did you mean 'layers'?"),
        ("bert-large", "{base: 5}", ":2: ", "a model is named by a word or a file, not by 5"),
        ("bert-large", "[bert-large]", ":2: ", "must be text or a mapping of names to values"),
        ("bert-large", "./none.yaml", ":2: ", "none.yaml: cannot be read"),
        ("bert-large", '"a\\0/b"', ":2: ", "cannot be read"),
        ("dgx-a100-640gb", "dgx-a100-641gb", ":3: ", "unknown system 'dgx-a100-641gb'; did you mean"),
        ("dp: 8", "dp: 0", ":5: ", "plan.dp=0: must be at least 1"),
        ("dp: 8", "dp: eight", ":5: ", "plan.dp='eight': must be a whole number"),
        ("dp: 8", "dp: yes", ":5: ", "plan.dp='yes': must be a whole number"),
        ("dp: 8", "dp: true", ":5: ", "plan.dp=true: must be a number"),
        ("dp: 8", "dp: .nan", ":5: ", "plan.dp=nan: must be a finite number"),
        ("dp: 8", "tp: 7", ":5: ", "tp=7 does not divide 16 attention heads; valid: 1, 2, 4, 8, 16"),
        ("dp: 8", "dp: 16", ":5: ", "dp=16 x tp=1 x pp=1 x cp=1 = 16 is not devices=8"),
        ("dp: 8", "data_parallel: 8", ":5: ", "unknown key 'plan.data_parallel'; "),
        ("dp: 8", "shrading: none", ":5: ", "unknown key 'plan.shrading'; did you mean 'sharding'?"),
        ("dp: 8", "precision: fp8", ":5: ", "precision=fp8: a100-sxm4-80gb has no units for it"),
        ("dp: 8", "placement: tp-dp", ":5: ", "'tp-dp' must name tp, cp, dp and pp once each"),
        ("micro_batch: 4", "micro_batch: 3", ":6: ", "dp=8 x micro_batch=3 does not divide global_batch=64"),
        ("micro_batch: 4", "micro_batch: 4\n  dp: 2", ":7: ", "key 'dp' is given twice"),
        ("sequence_length: 128", "sequence_length: -1", ":7: ", "workload.sequence_length=-1: must be at least 1"),
        ("sequence_length: 128", "effective_tokens: 9999", ":7: ", "effective_tokens=9999 exceeds sequence_length=512"),
        ("sequence_length: 128", "teacher: bert-bse", ":7: ", "unknown model 'bert-bse'; did you mean bert-base"),
        ("sequence_length: 128", "teacher: {base: bert-base, layerz: 2}", ":7: ", "unknown key 'layerz'"),
        ("sequence_length: 128", "document_lengths: []", ":7: ", "0 lengths; valid: 1 to 100"),
        ("sequence_length: 128", "document_lengths: [3, 0]", ":7: ", "document_lengths.1=0: must be at least 1"),
        ("title:", "titel:", ":1: ", "unknown key 'titel'; did you mean 'title'?"),
        ("title: two lines of it", "price: lamda", ":1: ", "price='lamda': no such offer"),
        ("title: two lines of it", "price: -2", ":1: ", "out of range"),
        ("title: two lines of it", "price: true", ":1: ", "price=true: must be a number or text"),
        ("title: two lines of it", "price: []", ":1: ", "price=[]: must be a number or text"),
        ("title: two lines of it", "grid: mars", ":1: ", "unknown grid 'mars'"),
        ("title: two lines of it", "overhead: awz", ":1: ", "unknown overhead 'awz'; did you mean aws"),
        ("title: two lines of it", "stack: megatrom", ":1: ", "unknown stack 'megatrom'; did you mean megatron"),
        ("title: two lines of it", "stack: pathways", ":1: ", "stack=pathways runs on a tpu"),
        ("title: two lines of it", "devices: 0", ":1: ", "devices=0: dgx-a100-640gb has 1 to 16384 devices"),
        ("title: two lines of it", "devices: 1.5", ":1: ", "devices=1.5: must be a whole number"),
        ("title: two lines of it", "title: [1]", ":1: ", "title=[1]: must be text"),
        ("title: two lines of it", "title: 'open", ":", "not valid YAML"),
        ("title: two lines of it", "title: &a x", ":1: ", "anchors and aliases are not accepted"),
        ("title: two lines of it", "title: !!python/name:os.system x", ":1: ", "the YAML tag"),
    ],
)
def test_a_wrong_scenario_file(tmp_path: Path, capsim: Capsim, old: str, new: str, place: str, fragment: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace(old, new))
    _assert_file(capsim("estimate", path), path, place, fragment)


def test_a_scenario_file_is_not_blamed_for_an_option(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace("dp: 8", "tp: 4"))
    assert_one_sentence(capsim("estimate", path, "--tp", "7"), "capsim: tp=7 does not divide 16 attention heads")
    assert_one_sentence(capsim("estimate", path, "--devices", "0"), "capsim: devices=0: dgx-a100-640gb has 1 to")


@pytest.mark.parametrize(
    ("old", "new", "place", "fragment"),
    [
        ("layers: 24", "layers: -24", ":5: ", "layers=-24: must be at least 1"),
        ("layers: 24", "layers: 24.5", ":5: ", "layers=24.5: must be a whole number"),
        ("layers: 24", "layers: true", ":5: ", "layers=true: must be a number"),
        ("layers: 24", "layrs: 24", ":5: ", "unknown key 'layrs'; did you mean 'layers'?"),
        ("kind: encoder", "kind: encodr", ":3: ", "kind='encodr': valid: 'encoder', 'decoder' or 'encoder-decoder'"),
        ("name: BERT-large\n", "", ": ", "'name' is missing"),
        ("hidden_size: 1024", "hidden_size: 1000", ": ", "attention_heads=16 does not divide hidden_size=1000"),
        ("biases: [", "biases: [qkw, ", ":", "biases.0='qkw': valid: 'qkv'"),
        ("training: {sequence_length: 512, ", "training: {", ":", "'training.sequence_length' is missing"),
    ],
)
def test_a_wrong_model_file(tmp_path: Path, capsim: Capsim, old: str, new: str, place: str, fragment: str) -> None:
    path = tmp_path / "model.yaml"
    assert old in MODEL
    path.write_text(MODEL.replace(old, new))
    _assert_file(capsim("estimate", path, "--system", "rtx-3090"), path, place, fragment)


@pytest.mark.parametrize(
    ("old", "new", "place", "fragment"),
    [
        ("300 GB/s", "300 GB", ":9: ", "intra_node.bandwidth: '300 GB': 'GB' is not a unit of bandwidth; valid: B/s"),
        ("300 GB/s", "300", ":9: ", "intra_node.bandwidth: '300' has no unit; a bandwidth is written like '300 GB/s'"),
        ("300 GB/s", "-300 GB/s", ":9: ", "'-300 GB/s' is out of range; valid: 1 B/s to 1 EB/s"),
        ("300 GB/s", "300 gb/s", ":9: ", "'gb/s' is not a unit of bandwidth"),
        ("kind: nvlink3", "kind: nvlink9", ":7: ", "unknown kind of link 'nvlink9'; did you mean nvlink"),
        ("topology: switch", "topology: swich", ":8: ", "intra_node.topology='swich': valid: 'switch'"),
        ("device: a100-sxm4-80gb", "device: a100-sxm-80gb", ":2: ", "did you mean a100-sxm4-80gb"),
        ("device: a100-sxm4-80gb", "device: ./none.yaml", ":2: ", "none.yaml: cannot be read"),
        ("device: a100-sxm4-80gb\n", "", ": ", "'device' is missing"),
        (
            "default_devices: 8",
            "default_devices: 8\nwheels: 4",
            ":6: ",
            "unknown key 'wheels'; valid: id, name, device",
        ),
        ("most_devices: 16384", "most_devices: 4", ": ", "default_devices=8 exceeds most_devices=4"),
        ("source: [a100card]", "sorce: [a100card]", ":9: ", "did you mean 'source'?"),
    ],
)
def test_a_wrong_system_file(tmp_path: Path, capsim: Capsim, old: str, new: str, place: str, fragment: str) -> None:
    path = tmp_path / "system.yaml"
    assert old in SYSTEM
    path.write_text(SYSTEM.replace(old, new))
    _assert_file(capsim("estimate", "bert-large", "--system", path), path, place, fragment)


@pytest.mark.parametrize(
    ("old", "new", "place", "fragment"),
    [
        ("2039 GB/s", "2039 GB", ":", "memory.bandwidth: '2039 GB': 'GB' is not a unit of bandwidth"),
        ("1410 MHz", "1410 Mhz", ":", "'Mhz' is not a unit of frequency; valid: Hz, kHz, MHz"),
        ("312 TFLOP/s", "312 TFLOPS", ":", "'TFLOPS' is not a unit of compute rate; valid: FLOP/s"),
        ("class: a100-sxm", "class: a100-smx", ":5: ", "unknown device class 'a100-smx'; did you mean a100-sxm"),
        ("device_class: a100-sxm", "profile: a100", ":5: ", "unknown key 'profile'; it is now called 'device_class'"),
        ("value: 108,", "value: -108,", ":", "processors=-108: must be at least 1"),
        ("memory:", "memry:", ":", "unknown key 'memry'; did you mean 'memory'?"),
    ],
)
def test_a_wrong_device_file(tmp_path: Path, capsim: Capsim, old: str, new: str, place: str, fragment: str) -> None:
    device, system = tmp_path / "device.yaml", tmp_path / "system.yaml"
    assert old in DEVICE
    device.write_text(DEVICE.replace(old, new))
    _assert_file(capsim("catalogue", "devices", device), device, place, fragment)
    system.write_text(SYSTEM.replace("device: a100-sxm4-80gb", "device: ./device.yaml"))
    _assert_file(capsim("estimate", "bert-large", "--system", system), system, ":2: ", f"{device}{place}", fragment)


@pytest.mark.parametrize(
    ("old", "new", "place", "fragment"),
    [
        ("launch: 6 us", "launch: 6", ":10: ", "launch: '6' has no unit; a time is written like '6 s'"),
        ("launch: 6 us", "launch: -6 us", ":10: ", "'-6 us' is out of range"),
        ("platform: gpu", "platform: fpga", ":3: ", "platform='fpga': valid: 'gpu', 'tpu' or 'cpu'"),
        ("eager: 0.2", "eager: .nan", ":7: ", "eager=nan: must be a finite number"),
        ("gradients: 0.7", "gradients: 1.7", ":12: ", "overlap.gradients=1.7: must be at most 1"),
        ("gradients: 0.7", "gradient: 0.7", ":12: ", "unknown key 'overlap.gradient'; did you mean 'gradients'?"),
    ],
)
def test_a_wrong_stack_file(tmp_path: Path, capsim: Capsim, old: str, new: str, place: str, fragment: str) -> None:
    path = tmp_path / "stack.yaml"
    assert old in STACK
    path.write_text(STACK.replace(old, new))
    _assert_file(capsim(*BERT, "--stack", path), path, place, fragment)


@pytest.mark.parametrize("content", [STACK, SYSTEM, DEVICE], ids=["a stack", "a system", "a device"])
def test_another_kind_of_file_than_a_model(tmp_path: Path, capsim: Capsim, content: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(content)
    _assert_file(capsim("estimate", path, "--system", "rtx-3090"), path, ":", "unknown key")


def test_a_model_where_a_scenario_is_meant_and_the_other_way_round(tmp_path: Path, capsim: Capsim) -> None:
    model, scenario = tmp_path / "model.yaml", tmp_path / "scenario.yaml"
    model.write_text(MODEL)
    scenario.write_text(SCENARIO)
    with pytest.raises(InputError, match=r"model\.yaml: holds a model, not a scenario"):
        from_file(model)
    with pytest.raises(InputError, match=r"scenario\.yaml: holds a scenario, not a model"):
        load_model(scenario)
    assert_one_sentence(capsim("estimate", model), "--system is missing")
    for path in (model, scenario):
        _assert_file(capsim("estimate", "bert-large", "--system", path), path, ":", "unknown key")
    scenario.write_text(f"model: {scenario}\nsystem: rtx-3090")
    _assert_file(capsim("estimate", scenario), scenario, ":1: ", "holds a scenario, not a model")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "must hold a mapping"),
        (b"- 1\n", "must hold a mapping"),
        (bytes(range(256)) * 9, "is not UTF-8 text"),
        ("model: x".encode("utf-16"), "is not UTF-8 text"),
        (b"a: " + b"x" * 10_000_000, "has more than 1,000,000 bytes"),
        (b"a: &a [x]\nb: [*a, *a]\n", "anchors and aliases are not accepted"),
        (b"[" * 300_000, "is nested too deeply"),
        (b"a: \0", "not valid YAML"),
    ],
    ids=["empty", "a list", "binary", "utf-16", "10 MB", "aliases", "deep", "zero byte"],
)
def test_a_file_that_is_none(tmp_path: Path, capsim: Capsim, content: bytes, fragment: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    _assert_file(capsim("estimate", path), path, ":", fragment)
    _assert_file(capsim("estimate", "bert-large", "--system", path), path, ":", fragment)
    _assert_file(capsim(*BERT, "--stack", path), path, ":", fragment)


def test_a_directory_instead_of_a_file(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "folder.yaml"
    path.mkdir()
    _assert_file(
        capsim("estimate", path, "--system", "dgx-2"), path, ": is a folder without a config.json; give a file"
    )
    _assert_file(capsim("estimate", "bert-large", "--system", path), path, ": is a directory; give a file")


def test_a_pipe_instead_of_a_file(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    _assert_file(capsim("estimate", path), path, ": is not a regular file; give a file")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ('{"model_type": "bert", ', ":1: not valid JSON"),
        ("", ":1: not valid JSON"),
        ("[]", ": must hold a mapping"),
        ("{}", ": model_type is missing"),
        ('{"model_type": "brt"}', ": unknown model_type 'brt'; did you mean bert"),
        ('{"model_type": "bert", "hidden_size": NaN}', ": NaN is not a number that can be used"),
        ('{"model_type": "bert", "model_type": "gpt2"}', ": key 'model_type' is given twice"),
        ('{"model_type": "bert", "hidden_size": -5}', "hidden_size=-5"),
        ('{"a": ' * 100_000, ": is nested too deeply"),
    ],
)
def test_a_wrong_config_of_hugging_face(tmp_path: Path, capsim: Capsim, content: str, fragment: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    _assert_file(capsim("estimate", path, "--system", "rtx-3090"), path, "", fragment)


def test_a_file_name_with_a_line_break_stays_on_one_line(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "two\nlines\x1b[31m.yaml"
    assert_one_sentence(capsim("estimate", path), r"two\nlines\x1b[31m.yaml: cannot be read")


@pytest.mark.parametrize(
    "arguments",
    [
        ["estimate", "bert-larg", "--system", "dgx-a100-640gb"],
        [*BERT, "--tp", "7"],
        [*BERT, "--dp", "many"],
        [*BERT, "--nonsense"],
        ["estimate", "/dev/zero"],
        ["catalogue", "devices", "a100"],
        ["nonsense"],
    ],
)
def test_as_a_process(arguments: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "simulator.cli", *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert_one_sentence(Outcome(process.returncode, process.stdout, process.stderr))


def test_a_mistake_of_the_program_is_no_traceback_either(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("simulator.specs.loading.scenario_of", broken)
    outcome = capsim(*BERT)
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.startswith(r"capsim: failed with ZeroDivisionError: two\nlines; CAPSIM_TRACEBACK=1 shows where")
    monkeypatch.setenv("CAPSIM_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        capsim(*BERT)


def test_a_plan_file_is_named_with_the_line_of_the_degree(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("# a plan\n\nsharding: zero1\nprecision: bf16\nmicro_batch: 4\nrecompute: full\ntp: 7\n")
    with pytest.raises(InputError) as caught:
        simulator.resolve("palm-540b", "palm-2pod", plan=path)
    assert str(caught.value) == (
        f"{path}:7: tp=7 does not divide 48 attention heads; valid: 1, 2, 3, 4, 6, 8, 12, 16, 24, 48"
    )


def test_a_workload_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "workload.yaml"
    path.write_text("global_batch: 64\npredictions: 600\n")
    with pytest.raises(InputError, match=r"workload\.yaml:2: predictions=600 exceeds sequence_length=512"):
        simulator.resolve("bert-large", "rtx-3090", workload=path)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": 5},
        {"model": None},
        {"model": {}},
        {"model": {"base": None}},
        {"system": 5},
        {"system": ["dgx-2"]},
        {"devices": "8"},
        {"devices": 8.0},
        {"devices": True},
        {"devices": 10**5000},
        {"plan": {1: 2}},
        {"plan": {"dp": object()}},
        {"plan": "a-name"},
        {"workload": {"tokens": 10**400}},
        {"stack": 5},
        {"price": math.nan},
        {"price": -math.inf},
        {"price": True},
        {"price": [1]},
        {"grid": None},
        {"grid": ["us"]},
        {"overhead": {}},
    ],
)
def test_the_python_interface_raises_the_one_exception(changes: dict[str, Any]) -> None:
    arguments = {"model": "bert-large", "system": "dgx-a100-640gb", **changes}
    with pytest.raises(InputError) as caught:
        simulator.resolve(**arguments)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
