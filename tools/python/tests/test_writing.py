"""Compressing, slicing and patching, file to file."""

import re
from pathlib import Path

import niwaki
import numpy as np
import pytest
from conftest import read_f32, write_f32


@pytest.fixture
def source(tmp_path):
    random = np.random.default_rng(5)
    path = tmp_path / "source.safetensors"
    write_f32(path, {"a": random.normal(size=(32, 64)), "b": random.normal(size=(64, 64)), "bias": np.ones(8)})
    return path


def test_a_scheme_compresses_all_weights(source, tmp_path):
    out = tmp_path / "out.safetensors"
    report = niwaki.compress(source, out, scheme="int8/row/sym", threads=2)
    model = niwaki.open(out)
    assert report["digest"] == model.digest and report["output_bytes"] == out.stat().st_size
    assert [t["name"] for t in report["tensors"]] == ["a", "b", "bias"]
    assert (model["a"].scheme, model["bias"].scheme) == ("int8/row/sym", "dense")
    assert model.verify() == [] and "int8/row/sym" in model.recipe
    for name, weights in read_f32(source).items():
        decoded = model[name].dequantize()
        # Codes run from -128 to 127: half a step, and at one end a whole one.
        step = np.abs(weights).max(axis=-1, keepdims=True) / 127
        assert (np.abs(decoded - weights) <= step).all()
        assert (decoded != weights).any() == (name != "bias")


def test_a_recipe_compresses_by_name(source, tmp_path):
    out = tmp_path / "out.safetensors"
    recipe = 'version = 1\n[[quantize]]\ntensors = "b"\nscheme = "int4/g32/sym"\nfit = "clip"\n'
    niwaki.compress(source, out, recipe=recipe)
    model = niwaki.open(out)
    assert (model["a"].scheme, model["b"].scheme) == ("dense", "int4/g32/sym")
    assert model.recipe == recipe.replace("\n", "\nseed = 0\n\n", 1)


def test_a_recipe_lays_signatures_over(golden, tmp_path):
    base, signature, out = tmp_path / "base.safetensors", golden / "example-signature.safetensors", tmp_path / "out.safetensors"
    write_f32(base, {"w": np.arange(6.0).reshape(2, 3), "e": np.ones(4)})
    recipe = f'version = 1\n[[patch]]\nsignature = "{signature}"\nalpha = 0.5\ntransfer = %s\n[[keep]]\ntensors = "*"\n'
    with pytest.raises(niwaki.Error) as caught:
        niwaki.compress(base, out, recipe=recipe % "false")
    assert caught.value.blame == "input" and not out.exists()
    niwaki.compress(base, out, recipe=recipe % "true")
    overlay = niwaki.Overlay([(niwaki.open(signature), 0.5)])
    laid = niwaki.open(base)["w"].dequantize(overlay=overlay)
    assert (niwaki.open(out)["w"].dequantize() == laid).all()
    assert (laid != niwaki.open(base)["w"].dequantize()).any()


def test_bytes_do_not_hang_on_threads(source, tmp_path):
    outs = [tmp_path / f"{threads}.safetensors" for threads in (1, 2, 3)]
    for threads, out in zip((1, 2, 3), outs):
        niwaki.compress(source, out, scheme="int4/g16/affine", fit="lsq", threads=threads)
    assert outs[0].read_bytes() == outs[1].read_bytes() == outs[2].read_bytes()


def test_an_elastic_file_is_cut(source, tmp_path):
    wide, narrow = tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors"
    niwaki.compress(source, wide, scheme="elastic/g16")
    model = niwaki.open(wide)
    assert model.widths == (2, 3, 4, 5, 6, 7, 8)
    said = model.slice(4, narrow)
    cut = niwaki.open(narrow)
    assert said == {"digest": cut.digest, "input_bytes": wide.stat().st_size, "output_bytes": narrow.stat().st_size}
    assert cut.widths == (2, 3, 4)
    assert (cut["a"].dequantize() == model["a"].dequantize(width=4)).all()


def test_patches_come_and_go(golden, tmp_path):
    base, signature = golden / "example.safetensors", golden / "example-signature.safetensors"
    patched, restored = tmp_path / "patched.safetensors", tmp_path / "restored.safetensors"
    said = niwaki.apply(base, [(signature, 1.0)], patched, transfer=True, allow_loss=True)
    assert [patch["name"] for patch in said["patches"]] == ["example-signature"]
    assert niwaki.patches(patched)["patches"] == said["patches"]
    assert (niwaki.open(patched)["w"].dequantize() != niwaki.open(base)["w"].dequantize()).any()
    assert niwaki.remove(patched, "example-signature", restored)["patches"] == []
    assert restored.read_bytes() == base.read_bytes()
    assert niwaki.patches(base)["patches"] == []


def test_what_cannot_be_is_refused_and_nothing_is_written(source, golden, tmp_path):
    out = tmp_path / "out.safetensors"
    refused = [
        (lambda: niwaki.compress(source, out), "one of `scheme` and `recipe` is needed"),
        (lambda: niwaki.compress(source, out, scheme="int9/row/sym"), "int9"),
        (lambda: niwaki.compress(source, out, scheme="int4/row/sym", fit="best"), "fit `best`: expected one of"),
        (lambda: niwaki.compress(source, out, recipe="nonsense"), "recipe"),
        (lambda: niwaki.compress(source, source, scheme="int4/row/sym"), "source.safetensors"),
        (lambda: niwaki.apply(source, [(golden / "example-signature.safetensors", 1.0)], out), "source.safetensors"),
        (lambda: niwaki.remove(source, "no", out), "no patch `no`"),
        (lambda: niwaki.open(source).slice(4, out), "is no niwaki container"),
    ]
    before = source.read_bytes()
    for call, message in refused:
        with pytest.raises(niwaki.Error) as caught:
            call()
        assert message in str(caught.value)
    assert not out.exists() and source.read_bytes() == before
    niwaki.compress(source, out, scheme="int4/row/sym")
    with pytest.raises(niwaki.Error, match="exists"):
        niwaki.compress(source, out, scheme="int4/row/sym")
    niwaki.compress(source, out, scheme="int8/row/sym", force=True)


def test_the_example_of_the_readme_runs(fashion, tmp_path, monkeypatch):
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text()
    section = readme.split("\n## Link it\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    root = Path(__file__).resolve().parents[3]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").symlink_to(root / "tests")
    exec(compile(example, "README.md", "exec"), {})
