"""Tables of operators: what they say is read as columns, what is wrong is said in one sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import InputError
from simulator.profiling.tables import reading as tables

_GEMM = "device,dtype,m,n,k,us,collector\na,bf16,16,32,64,2.5,one\na,bf16,128,32,64,5,two\nb,fp16,1,2,3,4,one\n"


def _written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_products_of_one_device(tmp_path: Path, name: str) -> None:
    path = _written(tmp_path, f"# source: a paper\n\n{_GEMM}", name)
    assert tables.devices(path) == ("a", "b")
    measurements = tables.read(path, "a")
    assert measurements.products.m.tolist() == [16.0, 128.0]
    assert measurements.products.seconds.tolist() == [2.5e-6, 5e-6]
    assert measurements.products.dtype.tolist() == ["bf16", "bf16"]
    assert measurements.products.batch.tolist() == [1.0, 1.0]
    assert [len(part) for part in (measurements.attentions, measurements.streams, measurements.collectives)] == [
        0,
        0,
        0,
    ]
    assert len(measurements.attentions.where(measurements.attentions.dtype == "bf16")) == 0
    assert tables.read(path, "a", where={"collector": "two"}).products.m.tolist() == [128.0]


def test_passes_of_training(tmp_path: Path) -> None:
    text = "device,dtype,b,m,n,k,us,pass\na,bf16,4,1,2,3,4,fwd\na,bf16,1,1,2,3,4,wgrad\n"
    products = tables.read(_written(tmp_path, text)).products
    assert (products.batch.tolist(), products.weight_gradient.tolist()) == ([4.0, 1.0], [0.0, 1.0])


def test_attention_with_values_of_another_width(tmp_path: Path) -> None:
    text = (
        "device,dtype,batch,heads,kv_heads,head_dim,v_head_dim,seq_q,seq_k,causal,pass,us\n"
        "a,bf16,1,8,2,192,128,512,1024,1,bwd,100\n"
    )
    attentions = tables.read(_written(tmp_path, text)).attentions
    assert (attentions.head_size.tolist(), attentions.queries.tolist(), attentions.keys.tolist()) == (
        [160.0],
        [512.0],
        [1024.0],
    )
    assert (attentions.causal.tolist(), attentions.backward.tolist(), attentions.kernel.tolist()) == (
        [1.0],
        [1.0],
        ["unnamed"],
    )


def test_streams_have_the_names_of_records(tmp_path: Path) -> None:
    text = (
        "device,dtype,op,rows,cols,bytes,us\n"
        "a,fp16,act,10,100,6000,3\na,fp16,act,10,100,4000,3\na,fp16,input_layernorm,10,100,4000,3\na,fp16,add,1,1,6,2\n"
    )
    streams = tables.read(_written(tmp_path, text)).streams
    assert streams.operation.tolist() == ["silu_gate", "gelu", "rms_norm", "add"]
    assert streams.moved_bytes.tolist() == [6000.0, 4000.0, 4000.0, 6.0]


def test_collectives(tmp_path: Path) -> None:
    text = "device,op,dtype,n_devices,nodes,bytes,us\na,send_recv,fp16,2,1,64,9\na,all_reduce,fp16,16,2,128,20\n"
    collectives = tables.read(_written(tmp_path, text)).collectives
    assert collectives.kind.tolist() == ["send", "all_reduce"]
    assert (collectives.degree.tolist(), collectives.nodes.tolist()) == ([2.0, 16.0], [1.0, 2.0])


def test_short_calls_are_left_out(tmp_path: Path) -> None:
    file = _written(tmp_path, "device,dtype,m,n,k,us\na,fp32,1,2,3,29\na,fp32,4,5,6,300\na,fp32,7,8,9,301\n")
    assert tables.read(file, shortest=300e-6).products.m.tolist() == [4.0, 7.0]
    assert len(tables.read(file).products) == 3


def test_every_table_that_is_shipped_is_read_whole_and_names_its_licence() -> None:
    kinds: dict[str, int] = {}
    for name in tables.shipped():
        text = gzip.decompress((tables.SHIPPED / name).read_bytes()).decode()
        # A licence, or figures alone, which have none, with the page that each row is from.
        assert any(words in text.splitlines()[0] for words in ("Apache-2.0", "MIT", "figures only, from public pages"))
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        read = 0
        for device in tables.devices(name):
            measurements = tables.read(name, device)
            for kind in ("products", "attentions", "streams", "collectives"):
                part = getattr(measurements, kind)
                read += len(part)
                kinds[kind] = kinds.get(kind, 0) + len(part)
                assert np.all(np.isfinite(part.seconds) & (part.seconds > 0.0))
        assert read == len(lines) - 1
        assert name.removesuffix(".csv.gz") in (tables.SHIPPED / "README.md").read_text()
    assert min(kinds.values()) > 5000
    assert sum(path.stat().st_size for path in tables.SHIPPED.iterdir()) < 2_500_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no rows"),
        ("# only a comment\n", "has no rows"),
        ("device,dtype,m,n,k,us\n", "has no rows"),
        (
            "device,dtype,m,n,us\na,bf16,1,2,3\n",
            "column k is missing; a table of products has device, dtype, m, n, k, us",
        ),
        ("device,dtype,m,m,n,k,us\na,bf16,1,2,3,4,5\n", ":1: has the column 'm' twice"),
        ("device,dtype,m,n,k,us\na,bf16,1,2,3\n", ":2: has 5 values for 6 columns"),
        ("#\ndevice,dtype,m,n,k,us\na,bf16,1,2,3,4\n\na,bf16,x,2,3,4\n", ":5: m='x' is no number from 1"),
        ("device,dtype,m,n,k,us\na,bf16,0,2,3,4\n", ":2: m='0' is no number from 1"),
        ("device,dtype,m,n,k,us\na,bf16,1,2,3,-4\n", ":2: us='-4' is no number"),
        ("device,dtype,m,n,k,us\na,bf16,1,2,3,nan\n", ":2: us='nan' is no number"),
        ("device,dtype,m,n,k,us\na,bf16,1,2,3,1e300\n", ":2: us='1e300' is no number from 0.001 to 1e+12"),
        ("device,dtype,m,n,k,us\na,int7,1,2,3,4\n", ":2: dtype='int7'; valid: fp32, tf32, fp16, bf16, fp8"),
        ("device,dtype,m,n,k,us,pass\na,bf16,1,2,3,4,up\n", ":2: pass='up'; valid: fwd"),
        ("device,op,n_devices,bytes,us\na,gossip,2,8,1\n", ":2: op='gossip'; valid: all_reduce"),
        ("device,op,n_devices,bytes,us\na,all_reduce,1,8,1\n", ":2: n_devices='1' is no number from 2"),
        ('device,dtype,m,n,k,us\na,"bf16"x,1,2,3,4\n', ":2: is not valid CSV"),
        (_GEMM, "has 2 devices; name one of a, b"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(InputError) as error:
        tables.read(path)
    assert said in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_unknown_names_are_corrected(tmp_path: Path) -> None:
    path = _written(tmp_path, _GEMM.replace("a,bf16", "a100-sxm4-80gb,bf16"))
    with pytest.raises(InputError, match="did you mean a100-sxm4-80gb"):
        tables.read(path, "a100")
    with pytest.raises(InputError, match="did you mean collector"):
        tables.read(path, "b", where={"colector": "one"})
    with pytest.raises(InputError, match="unknown collector"):
        tables.read(path, "b", where={"collector": "three"})


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file"):
        tables.read(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="not a regular file"):
        tables.read(tmp_path)
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(_GEMM.encode())[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        tables.read(tmp_path / "broken.csv.gz")
    (tmp_path / "text.csv.gz").write_bytes(_GEMM.encode())
    with pytest.raises(InputError, match="cannot be read"):
        tables.read(tmp_path / "text.csv.gz")
    (tmp_path / "latin.csv").write_bytes(b"device,dtype\n\xff,1\n")
    with pytest.raises(InputError, match="not UTF-8"):
        tables.read(tmp_path / "latin.csv")
    monkeypatch.setattr(tables, "MOST_BYTES", 100)
    large = _written(tmp_path, "#" + "x" * 100_000, "large.csv.gz")
    assert large.stat().st_size < 1000
    with pytest.raises(InputError, match="more than 100 bytes"):
        tables.read(large)


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.sampled_from('ab,"\n\r#\0 019.-'), max_size=60), header=st.booleans())
def test_any_text_is_read_or_refused(text: str, header: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("device,op,n_devices,bytes,us\n" * header + text, encoding="utf-8", newline="")
    said = ""
    try:
        read = len(tables.read(path).collectives)
    except InputError as error:
        read, said = 0, str(error)
    assert (read > 0) != bool(said)
    assert "\n" not in said
