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
def e4m3(code):
    e, m = code >> 3 & 15, code & 7
    x = math.nan if code & 127 == 127 else (m / 8 if e == 0 else 1 + m / 8) * 2.0**(max(e, 1) - 7)
    return -x if code & 128 else x
def numbers(dtype, raw):
    if dtype == "F8_E4M3":
        return [e4m3(code) for code in raw]
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
UNEVEN = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]
def fields(B, *sizes):
    return [B[sum(sizes[:i]):sum(sizes[:i]) + n] for i, n in enumerate(sizes)]
def split(run):
    return [q & 15 for q in run] + [q >> 4 for q in run]
def six(s):  # eight scales and eight minima in twelve bytes
    return ([s[j] & 63 for j in range(4)] + [s[j + 8] & 15 | s[j] >> 6 << 4 for j in range(4)],
            [s[j + 4] & 63 for j in range(4)] + [s[j + 8] >> 4 | s[j + 4] >> 6 << 4 for j in range(4)])
def block(kind, B):  # section 13
    half = lambda raw: struct.unpack("<e", raw)[0]
    if kind == "mxfp4":
        return [f32(2.0**(B[0] - 128) * E2M1[q]) for q in split(B[1:])]
    if kind in ("q4_0", "q5_0", "q8_0", "iq4_nl"):
        d, high, q = half(B[:2]), B[2:6] if kind == "q5_0" else bytes(4), B[6:] if kind == "q5_0" else B[2:]
        high = int.from_bytes(high, "little")
        q = {"q4_0": lambda: [u - 8 for u in split(q)], "iq4_nl": lambda: [UNEVEN[u] for u in split(q)],
             "q5_0": lambda: [(u | (high >> j & 1) << 4) - 16 for j, u in enumerate(split(q))],
             "q8_0": lambda: struct.unpack("<32b", q)}[kind]()
        return [f32(d * x) for x in q]
    if kind in ("q4_1", "q5_1"):
        d, m, high, q = half(B[:2]), half(B[2:4]), int.from_bytes(B[4:8], "little"), split(B[-16:])
        high = high if kind == "q5_1" else 0
        return [f32(f32(d * (u | (high >> j & 1) << 4)) + m) for j, u in enumerate(q)]
    if kind == "q2_k":
        s, q, d, m = fields(B, 16, 64, 2, 2)
        u = [q[i // 128 * 32 + i % 32] >> 2 * (i // 32 % 4) & 3 for i in range(256)]
        s, m = [f32(half(d) * (x & 15)) for x in s], [f32(half(m) * (x >> 4)) for x in s]
        return [f32(f32(s[i // 16] * x) - m[i // 16]) for i, x in enumerate(u)]
    if kind == "q3_k":
        high, q, s, d = fields(B, 32, 64, 12, 2)
        u = [(q[i // 128 * 32 + i % 32] >> 2 * (i // 32 % 4) & 3) + (high[i % 32] >> i // 32 & 1) * 4 - 4 for i in range(256)]
        s = [(s[j % 8] >> 4 * (j // 8) & 15 | (s[8 + j % 4] >> 2 * (j // 4) & 3) << 4) - 32 for j in range(16)]
        return [f32(f32(half(d) * s[i // 16]) * x) for i, x in enumerate(u)]
    if kind in ("q4_k", "q5_k"):
        d, m, s, high, q = fields(B, 2, 2, 12, 32 if kind == "q5_k" else 0, 128)
        s, low = six(s)
        s, low = [f32(half(d) * x) for x in s], [f32(half(m) * x) for x in low]
        u = [q[i // 64 * 32 + i % 32] >> 4 * (i // 32 % 2) & 15 for i in range(256)]
        u = [x + 16 * (high[i % 32] >> i // 32 & 1) if high else x for i, x in enumerate(u)]
        return [f32(f32(s[i // 32] * x) - low[i // 32]) for i, x in enumerate(u)]
    if kind == "q6_k":
        q, high, s, d = fields(B, 128, 64, 16, 2)
        u = [(q[i // 128 * 64 + i % 64] >> 4 * (i // 64 % 2) & 15 | (high[i // 128 * 32 + i % 32] >> 2 * (i // 32 % 4) & 3) << 4) - 32
             for i in range(256)]
        return [f32(f32(half(d) * struct.unpack("<16b", s)[i // 16]) * x) for i, x in enumerate(u)]
    d, high, low, q = fields(B, 2, 2, 4, 128)  # iq4_xs
    s = [(low[j // 2] >> 4 * (j % 2) & 15 | (int.from_bytes(high, "little") >> 2 * j & 3) << 4) - 32 for j in range(8)]
    return [f32(f32(half(d) * s[j]) * UNEVEN[x]) for j in range(8) for x in split(q[16 * j:16 * j + 16])]
SIZES = dict(q4_0=18, q4_1=20, q5_0=22, q5_1=24, q8_0=34, q2_k=84, q3_k=110, q4_k=144, q5_k=176, q6_k=210,
             iq4_nl=18, iq4_xs=136, mxfp4=17)
NF4 = [f32(x) for x in (-1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0, 0.0795803,
                        0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1)]
def floats(scheme, part, rows, cols):  # section 14
    raw, s = part("codes")[1], numbers(*part("scales"))
    if scheme[0] == "fp8_e4m3":
        n = int(scheme[1][1:]) if scheme[1][0] == "b" else 0
        group = [r // n * -(-cols // n) + c // n if n else r if "row" in scheme else 0 for r in range(rows) for c in range(cols)]
        return [f32(x * s[k]) for x, k in zip(numbers("F8_E4M3", raw), group)]
    g, table = int((scheme + ["g16"])[1][1:]), NF4
    if scheme[0] == "nvfp4":
        table = [math.copysign(x / 2, 7 - q) for q, x in enumerate(E2M1)]
        s = [f32(x / numbers(*part("factor"))[0]) for x in s]
    return [f32(table[q] * s[j // cols * -(-cols // g) + j % cols // g]) for j, q in enumerate(codes(raw, 4, rows, cols))]
def positions(raw, n, K):  # section 15
    k = (n // K).bit_length() - 1 if K else 0
    m = K + (n - 1 >> k) + 1 if K else 0
    low, upper = codes(raw[(m + 7) // 8:], k, 1, K), [i for i, bit in enumerate(codes(raw, 1, 1, m)) if bit]
    return [(at - i << k) + low[i] for i, at in enumerate(upper)]
def decode(name, t, file, b):
    part = lambda suffix: file[f"{name}.{suffix}" if suffix else name]
    scheme, shape, masked = t["scheme"].split("/"), t["shape"], "kept" in t
    rows, cols = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
    mask = codes(part("mask")[1], 1, rows, cols) if "mask" in t["parts"] else [1 - masked] * (rows * cols)
    for at in positions(part("positions")[1], rows * cols, t["kept"]) if "positions" in t["parts"] else []:
        mask[at] = 1
    row = [j // cols for j, bit in enumerate(mask) if bit]
    streams, n = (1, len(row)) if masked else (rows, cols)
    g = int(scheme[1][1:]) if len(scheme) > 1 and scheme[1][0] == "g" else 0
    group = [j // n * -(-n // g) + j % n // g if g else row[j] if "row" in scheme else 0 for j in range(len(row))]
    if scheme[0] == "dense":
        values = numbers(*part("values" if masked else ""))
    elif scheme[0] in SIZES:
        raw, size = part("codes")[1], SIZES[scheme[0]]
        values = [x for i in range(0, len(raw), size) for x in block(scheme[0], raw[i:i + size])]
    elif scheme[0] in ("fp8_e4m3", "nvfp4", "nf4"):
        values = floats(scheme, part, rows, cols)
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
