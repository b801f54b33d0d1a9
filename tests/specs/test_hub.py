"""Models by the names that people type: aliases, folders, the hub's cache and the hub, a server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.specs import loading
from simulator.specs.huggingface import hub
from simulator.specs.loading import load_model, names, scenario_of
from simulator.specs.naming import aliases, best_first, model_named, names_of, squeezed

_CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 100,
}
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """Of all files of the hub, the configuration of one model."""

    def _answer(self, *, whole: bool) -> None:
        here = self.path.split("?")[0] == "/someone/Tiny-Qwen3/resolve/main/config.json"
        body = json.dumps(_CONFIG).encode() if here else b'{"error":"Repository not found"}'
        self.send_response(200 if here else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        if here:
            self.send_header("X-Repo-Commit", _COMMIT)
            self.send_header("ETag", '"abc123"')
        else:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if whole:
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def do_GET(self) -> None:
        self._answer(whole=True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _asked(name: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The entry of a model, from a fresh interpreter: the hub's library reads its variables once."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**kept, "HF_HOME": str(home), "NO_COLOR": "1", **variables}
    command = [sys.executable, "-m", "simulator.cli", "catalogue", "models", name, "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_a_model_of_the_hub_is_fetched_once_and_then_read_from_the_cache(endpoint: str, tmp_path: Path) -> None:
    fetched = _asked("someone/Tiny-Qwen3", tmp_path, HF_ENDPOINT=endpoint)
    assert fetched.returncode == 0, fetched.stderr
    entry = json.loads(fetched.stdout)
    assert (entry["id"], entry["hidden_size"], entry["query_key_norm"]) == ("tiny-qwen3", 64, "shared")
    nowhere = _asked("someone/Tiny-Qwen3", tmp_path, HF_ENDPOINT="http://127.0.0.1:1", HF_HUB_OFFLINE="1")
    assert json.loads(nowhere.stdout) == entry


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ("cannot be fetched from http://127.0.0.1", "check the name")),
        ({"HF_HUB_OFFLINE": "1"}, ("cannot be fetched from", "path of a config.json")),
    ],
)
def test_a_model_that_the_hub_does_not_have_gets_one_sentence(
    endpoint: str, tmp_path: Path, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    asked = _asked("someone/no-such-model", tmp_path, HF_ENDPOINT=endpoint, **variables)
    assert asked.returncode == 2
    assert asked.stdout == ""
    sentence = asked.stderr.strip().splitlines()
    assert len(sentence) == 1
    assert all(word in sentence[0] for word in ("someone/no-such-model is not in the catalogue", *words)), sentence


def test_without_the_library_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError) as caught:
        load_model("someone/Some-Model")
    words = ("someone/Some-Model is neither", str(tmp_path / "hub"), "pip install 'capsim[hub]'", "path of one")
    assert all(word in str(caught.value) for word in words)


def _snapshot(cache: Path, commit: str, hidden: int) -> Path:
    folder = cache / "models--someone--Tiny-Qwen3" / "snapshots" / commit
    folder.mkdir(parents=True)
    path = folder / "config.json"
    path.write_text(json.dumps({**_CONFIG, "hidden_size": hidden}))
    return path


def test_the_cache_is_read_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    older, newer = _snapshot(tmp_path, "a" * 40, 64), _snapshot(tmp_path, "b" * 40, 80)
    os.utime(older, (1, 1))
    assert load_model("someone/Tiny-Qwen3").hidden_size == 80
    (tmp_path / "models--someone--Tiny-Qwen3" / "refs").mkdir()
    (tmp_path / "models--someone--Tiny-Qwen3" / "refs" / "main").write_text("a" * 40)
    assert load_model("someone/Tiny-Qwen3").hidden_size == 64
    # A path into the cache, whose folder is named after a commit, still tells the model's name.
    assert load_model(newer).id == load_model(newer.parent).id == "tiny-qwen3"
    for text in ("../../elsewhere", "no commit", "c" * 40):
        (tmp_path / "models--someone--Tiny-Qwen3" / "refs" / "main").write_text(text)
        assert load_model("someone/Tiny-Qwen3").hidden_size == 80


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HF_HUB_CACHE": "/a/b"}, "/a/b"),
        ({"HF_HOME": "/a"}, "/a/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HF_HUB_CACHE": "/a/b", "HF_HOME": "/c"}, "/a/b"),
    ],
)
def test_the_cache_lies_where_the_variables_say(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub.cache_folder() == Path(folder)


def test_a_folder_means_the_configuration_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "My-Model"
    folder.mkdir()
    with pytest.raises(InputError, match=r"My-Model: is a folder without a config\.json"):
        load_model(folder)
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    assert load_model(folder).id == load_model(f"{folder}/").id == load_model(str(folder)).id == "my-model"
    (folder / "config.json").write_text(json.dumps({**_CONFIG, "_name_or_path": "someone/Their-Model"}))
    assert load_model(folder).id == "their-model"
    scenario = scenario_of(str(folder), plan={}, workload={}, system="rtx-3090")
    assert load_model(scenario.model).hidden_size == 64


def test_a_scenario_file_names_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    _snapshot(tmp_path / "cache", "a" * 40, 64)
    path = tmp_path / "scenario.yaml"
    path.write_text("model: someone/Tiny-Qwen3\nsystem: rtx-3090\n")
    assert load_model(loading.load_scenario(path).model).id == "tiny-qwen3"
    direct = scenario_of("someone/Tiny-Qwen3", plan={}, workload={}, system="rtx-3090")
    assert load_model(direct.model).id == "tiny-qwen3"


def test_aliases_mean_models_and_no_two_mean_the_same() -> None:
    known = set(names("models"))
    assert aliases().keys() <= known
    spelled = [(squeezed(alias), name) for name, more in aliases().items() for alias in more]
    assert len({alias for alias, _ in spelled}) == len(spelled)
    own = {squeezed(name): name for name in known}
    assert all(own.get(alias, name) == name for alias, name in spelled), "an alias is another model's name"


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        ("llama3-8b", "llama-3-8b"),
        ("Llama-3.1-8B", "llama-3.1-8b"),
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("qwen2.5-7b", "qwen2.5-7b"),
        ("Qwen/Qwen2.5-7B", "qwen2.5-7b"),
        ("gemma-2-9b", "gemma-2-9b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("deepseek-v3", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("kimi-k2", "kimi-k2"),
        ("modernbert-base", "modernbert-base"),
        ("answerdotai/ModernBERT-base", "modernbert-base"),
        ("bert-base-uncased", "bert-base"),
        ("google-bert/bert-large-uncased", "bert-large"),
        ("gpt2", "gpt2-124m"),
        ("LLaMA-2-70B", "llama-2-70b"),
        ("gpt-oss-20b", "gpt-oss-20b"),
    ],
)
def test_the_names_that_people_type(typed: str, model: str) -> None:
    assert model_named(typed) == model
    assert load_model(typed).id == model


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("llama 3.1", "llama-3.1-8b"),
        ("gemma-2", "gemma-2-2b"),
        ("deepseek", "deepseek-v2"),
        ("Qwen3-235B", "qwen3-235b-a22b"),
        ("meta-llama/Llama-3.1", "llama-3.1-8b"),
        ("bert-base", "bert-base"),
        ("8b llama", "llama-3-8b"),
    ],
)
def test_the_best_match_comes_first(text: str, first: str) -> None:
    assert best_first(text, names("models"))[0] == first


def test_what_means_no_model_is_no_match_and_a_name_like_one_is_proposed() -> None:
    assert best_first("zzz", names("models")) == []
    assert best_first(" ", names("models")) == []
    with pytest.raises(InputError, match=r"unknown model 'lama-3\.1-8b'; did you mean llama-3\.1-8b"):
        load_model("lama-3.1-8b")
    with pytest.raises(InputError, match=r"unknown model 'gemma2'; did you mean gemma-2b"):
        load_model("gemma2")
    assert names_of("llama-3.1-8b")[0] == "llama-3.1-8b"
