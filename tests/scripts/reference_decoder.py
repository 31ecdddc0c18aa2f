"""Decodes a niwaki container by formats/FORMAT.md alone: python3 reference_decoder.py FILE [EXPECTED]
EXPECTED holds float tensors as F32, elastic ones as NAME@B for each width; any other bit is exit 1."""
import json, math, struct, sys

def f32(x):  # one rounding: f64 is wide enough that + - * of two f32 round as if once
    return struct.unpack("<f", struct.pack("<f", x))[0]
def load(path):
    raw = open(path, "rb").read()
    at = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:at])
    meta = header.pop("__metadata__", {})
    return meta, {n: (t["dtype"], raw[at + t["data_offsets"][0]:at + t["data_offsets"][1]]) for n, t in header.items()}
def numbers(dtype, raw):
    if dtype == "BF16":
        raw = b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2))
    return [f32(x) for x, in struct.iter_unpack({"F16": "<e", "BF16": "<f", "F32": "<f", "F64": "<d"}[dtype], raw)]
def codes(raw, b, streams, n):  # section 4: so many streams of n codes, flattened
    rows = [int.from_bytes(raw[s * ((n * b + 7) // 8):][:(n * b + 7) // 8], "little") for s in range(streams)]
    return [row >> i * b & (1 << b) - 1 for row in rows for i in range(n)]
def level(q, m, h, fix, b):  # section 6
    u, cell = 2 * q + 1 - 2**b, abs(h) * 2.0**(1 - b)
    A = f32(m + f32(cell * ((fix & 15) - 8) / 32))
    B = f32(abs(h) + f32(cell * ((fix >> 4) - 8) / 16))
    c0, c1, c2, c3 = A, f32(B * 2.0**-b), 0.0, 0.0
    if math.copysign(1, h) < 0:
        c0, c1 = f32(A - m * 0.5), f32(f32(B * 0.75) * 2.0**-b)
        c2, c3 = f32(m * 0.5 * 4.0**-b), f32(B * 0.25 * 8.0**-b)
    return f32(c0 + f32(u * f32(c1 + f32(u * f32(c2 + f32(u * c3))))))
def decode(name, t, file, b):
    part = lambda suffix: file[f"{name}.{suffix}" if suffix else name]
    scheme, shape, masked = t["scheme"].split("/"), t["shape"], "kept" in t
    rows, cols = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
    mask = codes(part("mask")[1], 1, rows, cols) if masked else [1] * (rows * cols)
    row = [j // cols for j, bit in enumerate(mask) if bit]
    streams, n = (1, len(row)) if masked else (rows, cols)
    g = int(scheme[1][1:]) if scheme[-1] != "dense" and scheme[1][0] == "g" else 0
    group = [j // n * -(-n // g) + j % n // g if g else row[j] if "row" in scheme else 0 for j in range(len(row))]
    if scheme[0] == "dense":
        values = numbers(*part("values" if masked else ""))
    elif scheme[0] == "elastic":
        base, fix = numbers(*part("base")), part(f"fix{b}")[1] if b < 8 else b"\x88" * len(part("base")[1])
        planes = [codes(part(f"plane{7 - i}")[1], 1, streams, n) for i in range(b)]
        q = [sum(bit << b - 1 - i for i, bit in enumerate(bits)) for bits in zip(*planes)]
        values = [level(q[j], base[2 * k], base[2 * k + 1], fix[k], b) for j, k in enumerate(group)]
    else:
        b, s = int(scheme[0][3:]), numbers(*part("scales"))
        z = part("zeros")[1] if scheme[2] == "affine" else [1 << b - 1] * len(s)
        values = [f32(s[k] * (u - z[k])) for k, u in zip(group, codes(part("codes")[1], b, streams, n))]
    kept = iter(values)
    return [next(kept) if bit else 0.0 for bit in mask]
(meta, file), wrong = load(sys.argv[1]), 0
expected = load(sys.argv[2])[1] if len(sys.argv) > 2 else {}
for name, t in json.loads(meta["niwaki"])["tensors"].items():
    widths = (t["scheme"].split("/")[2:] or ["2,3,4,5,6,7,8"])[0] if t["scheme"][0] == "e" else "0"
    for b in map(int, widths.split(",") if t["dtype"] in ("F64", "F32", "F16", "BF16") else []):
        key, x = f"{name}@{b}" if b else name, decode(name, t, file, b)
        same = not expected or expected[key][1] == struct.pack(f"<{len(x)}f", *x)
        wrong += not same
        print(key, len(x), "values", x[:4] if not expected else "equal" if same else "DIFFERENT")
sys.exit(wrong > 0)
