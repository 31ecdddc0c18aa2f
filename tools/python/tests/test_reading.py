"""Opening and decoding."""

import threading

import niwaki
import numpy as np
import pytest
from conftest import read_f32

NAMES = ["example", "example-floats", "example-positions", "uniform", "blocks", "floats", "elastic", "masked",
         "positions", "mixed", "mixed-sliced-4"]


def bits(array):
    return array.view(np.uint32)


@pytest.mark.parametrize("name", NAMES)
def test_golden_files_decode_to_the_bit(golden, name):
    expected = read_f32(golden / f"{name}.expected.safetensors")
    model = niwaki.open(golden / f"{name}.safetensors")
    for full, right in expected.items():
        tensor, _, width = full.partition("@")
        weights = model[tensor].dequantize(width=int(width) if width else None)
        assert weights.dtype == np.float32 and weights.shape == model[tensor].shape
        assert weights.flags.writeable
        assert (bits(weights.reshape(-1)) == bits(right.reshape(-1))).all(), full


def test_halves_are_those_of_numpy(golden):
    tensor = niwaki.open(golden / "mixed.safetensors")["up.weight"]
    weights = tensor.dequantize()
    assert (tensor.dequantize(dtype="float16") == weights.astype(np.float16)).all()
    whole = bits(weights).astype(np.uint64)
    nearest = (whole + 0x7FFF + (whole >> 16 & 1) >> 16).astype(np.uint16)
    brain = tensor.dequantize(dtype="bfloat16")
    assert brain.dtype == np.uint16 and (brain == nearest).all()


def test_rows_are_part_of_the_whole(golden):
    tensor = niwaki.open(golden / "mixed.safetensors")["up.weight"]
    assert (tensor.rows, tensor.cols) == (5, 24)
    some = tensor.dequantize(width=4, rows=(1, 3))
    assert some.shape == (2, 24)
    assert (some == tensor.dequantize(width=4)[1:3]).all()


def test_what_an_artifact_says_of_itself(golden):
    path = golden / "mixed.safetensors"
    model = niwaki.open(str(path))
    assert (model.path, model.kind, len(model)) == (str(path), "container", 12)
    assert len(model.digest) == 64 and model.verify() == [] and model.verify(threads=2) == []
    assert "up.weight" in model and "no" not in model and 3 not in model
    assert [tensor.name for tensor in model.tensors()] == list(model)
    up = model["up.weight"]
    assert (up.shape, up.dtype, up.scheme, up.widths) == ((5, 24), "BF16", "elastic/g8/2,4,8", (2, 4, 8))
    assert not up.masked and up.bytes > 0
    assert np.frombuffer(model["ids"].part(), "<i8").shape == (3,)
    assert repr(up) == "<niwaki.Tensor up.weight: BF16 5x24, elastic/g8/2,4,8>"
    plain = niwaki.open(golden / "mixed.expected.safetensors")
    assert (plain.kind, plain.digest, plain.recipe, plain.widths) == ("plain", None, None, ())
    with pytest.raises(KeyError, match="no"):
        model["no"]


def test_a_tensor_outlives_its_artifact(golden):
    tensor = niwaki.open(golden / "example.safetensors")["w"]
    assert tensor.dequantize().tolist() == [[-3.5, 3.5, 0.0], [0.0, 2.0, -2.0]]


def test_signatures_are_laid_over(golden):
    model = niwaki.open(golden / "example.safetensors")
    overlay = niwaki.Overlay([(niwaki.open(golden / "example-signature.safetensors"), 0.5)])
    assert len(overlay) == 1
    weights = model["w"].dequantize(overlay=overlay)
    assert weights.tolist() == [[-3.0, 3.5, 0.0], [0.0, 2.0, -3.0]]


def test_threads_decode_at_once(golden):
    model = niwaki.open(golden / "uniform.safetensors")
    right = {name: model[name].dequantize() for name in model}
    wrong = []

    def work():
        for _ in range(20):
            for name in model:
                if not (model[name].dequantize() == right[name]).all():
                    wrong.append(name)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_errors_say_where(golden, tmp_path):
    missing = tmp_path / "no.safetensors"
    with pytest.raises(niwaki.Error) as caught:
        niwaki.open(missing)
    assert (caught.value.blame, caught.value.path, caught.value.tensor) == ("caller", str(missing), None)
    assert str(caught.value) == f"`{missing}`: does not exist"

    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((golden / "mixed.safetensors").read_bytes()[:-1])
    with pytest.raises(niwaki.Error) as caught:
        niwaki.open(broken)
    assert (caught.value.blame, caught.value.path) == ("input", str(broken))

    model = niwaki.open(golden / "mixed.safetensors")
    with pytest.raises(niwaki.Error) as caught:
        model["up.weight"].dequantize(width=3)
    assert str(caught.value) == "tensor `up.weight`: width 3 is not served; served: 2,4,8"
    assert (caught.value.tensor, caught.value.blame) == ("up.weight", "caller")
    refused = [
        (lambda: model["up.weight"].dequantize(width=9), "width 9"),
        (lambda: model["up.weight"].dequantize(rows=(0, 6)), "rows 0..6 are not all there; there are 5"),
        (lambda: model["up.weight"].dequantize(rows=(3, 2)), "rows 3..2 are not all there; there are 5"),
        (lambda: model["up.weight"].dequantize(dtype="float64"), "dtype `float64` is not known"),
        (lambda: model["flag"].dequantize(), "BOOL is not decoded to floats"),
        (lambda: model["ids"].part("codes"), "tensor `ids` has no part `codes`; it has ``"),
        (lambda: niwaki.Overlay([(model, 1.0)]), "is no signature"),
        (lambda: niwaki.Overlay([(model, float("nan"))]), "alpha is NaN; a finite number is expected"),
    ]
    for call, message in refused:
        with pytest.raises(niwaki.Error) as caught:
            call()
        assert message in str(caught.value)


def test_a_turned_bit_is_found(golden, tmp_path):
    damaged = tmp_path / "damaged.safetensors"
    data = bytearray((golden / "mixed.safetensors").read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    assert any("content hash" in fault for fault in niwaki.open(damaged).verify())
