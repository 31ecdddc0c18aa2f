"""Writes tests/golden/corruptions.safetensors: pictures and what the corruptions of CIFAR-10-C make of
them, by Pillow, SciPy and NumPy. Random ones take our random numbers, drawn here anew.

    python tests/scripts/corruptions_golden.py tests/golden/corruptions.safetensors

Made with Pillow 13.0.0, SciPy 1.17.1, NumPy 2.4.6. The formulas are those of the paper's program,
written down anew; `uint8` drops fractions. Tensors: `PICTURE` U8 [C, H, W], and `PICTURE/KIND/SEVERITY`.
"""

import io
import json
import math
import struct
import sys
from statistics import NormalDist

import numpy as np
from PIL import Image
from scipy import ndimage


def colours(h, w):
    y, x = np.mgrid[0:h, 0:w]
    r = (x * x * 7 + y * 13) % 256
    g = np.where((x // 4 + y // 3) % 2, 230, 20) + (x * y) % 17
    b = (255 + x * y * 5 - y * y * 7) % 256
    return np.stack([r, g, b], -1).astype(np.uint8)


def pictures():
    yield "colour-20x20", colours(20, 20)
    yield "grey-28x28", colours(28, 28)[..., 1].copy()
    for h, w in [(17, 23), (9, 5), (3, 2), (1, 1), (28, 28)]:
        yield f"odd-{h}x{w}", colours(h, w)


def dropped(x):
    return np.uint8(np.clip(x, 0, 1) * 255)


def jpeg(x, quality):
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def pixelate(x, c):
    h, w = x.shape[:2]
    small = Image.fromarray(x).resize((max(int(w * c), 1), max(int(h * c), 1)), Image.BOX)
    return np.array(small.resize((w, h), Image.BOX))


def gaussian_blur(x, sigma):
    sigmas = (sigma, sigma) + (0,) * (x.ndim - 2)
    return dropped(ndimage.gaussian_filter(x / 255.0, sigmas, mode="nearest", truncate=4.0))


def defocus_blur(x, c):
    radius, sigma = c
    at = np.arange(-8, 9)
    disk = (at[:, None] ** 2 + at[None, :] ** 2 <= radius**2).astype(float)
    disk /= disk.sum()
    line = np.exp(-0.5 * (np.array([-1, 0, 1]) / sigma) ** 2)
    line /= line.sum()
    disk = ndimage.convolve(disk, np.outer(line, line), mode="constant")
    planes = x[..., None] if x.ndim == 2 else x
    # SciPy's mirror is OpenCV's BORDER_REFLECT_101.
    out = [ndimage.correlate(planes[..., i] / 255.0, disk, mode="mirror") for i in range(planes.shape[2])]
    return dropped(np.stack(out, -1).reshape(x.shape))


def zoom_blur(x, factors):
    x = (x / 255.0).astype(np.float32)
    h = x.shape[0]
    total = np.zeros_like(x)
    for factor in factors:
        part = int(np.ceil(h / factor))
        top = (h - part) // 2
        large = ndimage.zoom(x[top : top + part, top : top + part], (factor, factor) + (1,) * (x.ndim - 2), order=1)
        trim = (large.shape[0] - h) // 2
        total += large[trim : trim + h, trim : trim + h]
    return dropped((x + total) / np.float32(len(factors) + 1))


def contrast(x, c):
    x = x / 255.0
    mean = x.mean(axis=(0, 1), keepdims=True)
    return dropped((x - mean) * c + mean)


def recolour(x, change):
    # The standard library's conversion, pixel by pixel.
    import colorsys

    out = np.empty(x.shape)
    for at in np.ndindex(x.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(x[at] / 255.0))
        out[at] = colorsys.hsv_to_rgb(*change(h, s, v))
    return dropped(out)


def brightness(x, c):
    if x.ndim == 2:
        return dropped(x / 255.0 + c)
    return recolour(x, lambda h, s, v: (h, s, min(v + c, 1)))


def saturate(x, c):
    return recolour(x, lambda h, s, v: (h, min(max(s * c[0] + c[1], 0), 1), v))


STRENGTHS = {
    jpeg: [80, 65, 58, 50, 40],
    pixelate: [0.95, 0.9, 0.85, 0.75, 0.65],
    gaussian_blur: [0.4, 0.6, 0.7, 0.8, 1],
    defocus_blur: [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    zoom_blur: [np.arange(1, end, 0.01) for end in (1.06, 1.11, 1.16, 1.21, 1.26)],
    contrast: [0.75, 0.5, 0.4, 0.3, 0.15],
    brightness: [0.05, 0.1, 0.15, 0.2, 0.3],
    saturate: [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
}


class Draws:
    """splitmix64 in streams, for seed 5 and item 7."""

    mask, step = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def __init__(self, kind, severity):
        mixed, step = self.mixed, self.step
        purpose = kind << 8 | severity
        self.state = mixed(mixed(mixed(5 + step) ^ purpose * step) ^ 7 * step)

    def mixed(self, x):
        x &= self.mask
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & self.mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & self.mask
        return x ^ (x >> 31)

    def bits(self):
        self.state = (self.state + self.step) & self.mask
        return self.mixed(self.state)

    def unit(self):
        return ((self.bits() >> 11) + 0.5) / 2**53

    def normal(self):
        return NormalDist().inv_cdf(self.unit())

    def uniform(self, low, high, shape):
        return np.array([low + (high - low) * self.unit() for _ in range(np.prod(shape))]).reshape(shape)

    def poisson(self, mean):
        u, p, k = self.unit(), math.exp(-mean), 0
        total = p
        while total <= u:
            k += 1
            p = p * mean / k
            total += p
        return k


def each(x, new):
    """A new value for each number, channel by channel."""
    return dropped(np.array([new(v / 255.0) for v in x.ravel().tolist()]).reshape(x.shape))


def gaussian_noise(x, c, draws):
    return each(x, lambda v: v + c * draws.normal())


def shot_noise(x, c, draws):
    return each(x, lambda v: draws.poisson(v * c) / c)


def impulse_noise(x, c, draws):
    def new(v):
        changed, white = draws.unit() < c, draws.unit() < 0.5
        return float(white) if changed else v

    return each(x, new)


def speckle_noise(x, c, draws):
    return each(x, lambda v: v + v * (c * draws.normal()))


def plasma(side, decay, draws):
    m, step, wibble = np.zeros((side, side)), side, 100.0

    def mean(total):
        return total / 4 + wibble * draws.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = m[::step, ::step]
        left = corners + np.roll(corners, -1, 0)
        m[half::step, half::step] = mean(left + np.roll(left, -1, 1))
        middles = m[half::step, half::step]
        m[::step, half::step] = mean((middles + np.roll(middles, 1, 0)) + (corners + np.roll(corners, -1, 1)))
        m[half::step, ::step] = mean((middles + np.roll(middles, 1, 1)) + (corners + np.roll(corners, -1, 0)))
        step, wibble = half, wibble / decay
    m -= m.min()
    return m / m.max()


def fog(x, c, draws):
    h, w = x.shape[1:]
    x = x / 255.0
    return dropped((x + c[0] * plasma(32, c[1], draws)[:h, :w]) * x.max() / (x.max() + c[0]))


def glass_blur(x, c, draws):
    sigma, times = c
    blur = lambda x: np.stack([gaussian_blur(plane, sigma) for plane in x])
    x = blur(x)
    for _ in range(times):
        for i in range(x.shape[1] - 1, 1, -1):
            for j in range(x.shape[2] - 1, 1, -1):
                # Of 2^64 by 2 nothing is left over, so a draw below 2 is the highest bit.
                dx = 1 - (draws.bits() >> 63)
                dy = 1 - (draws.bits() >> 63)
                x[:, i, j] = x[:, i - dy, j - dx]
    return blur(x)


def along(plane, radius, sigma, degrees):
    """ImageMagick's motion blur of a channel of bytes."""
    weights = np.exp(-np.arange(2 * radius + 1) ** 2 / (2 * sigma**2))
    weights /= weights.sum()
    h, w = plane.shape
    total = np.zeros((h, w))
    for i, weight in enumerate(weights):
        down, right = (math.ceil(i * f(math.radians(degrees)) - 0.5) for f in (math.sin, math.cos))
        rows, columns = np.clip(np.arange(h) + down, 0, h - 1), np.clip(np.arange(w) + right, 0, w - 1)
        total += weight * plane[np.ix_(rows, columns)]
    return np.uint8(total + 0.5)


def motion_blur(x, c, draws):
    degrees = draws.uniform(-45, 45, (1,))[0]
    return np.stack([along(plane, *c, degrees) for plane in x])


def snow(x, c, draws):
    mean, deviation, factor, least, radius, sigma, stays = c
    h, w = x.shape[1:]
    layer = np.array([mean + deviation * draws.normal() for _ in range(h * w)]).reshape(h, w)
    part = int(np.ceil(h / factor))
    top = (h - part) // 2
    layer = ndimage.zoom(layer[top : top + part, top : top + part], (factor, factor), order=1)
    trim = (layer.shape[0] - h) // 2
    layer = layer[trim : trim + h, trim : trim + h]
    layer = along(dropped(np.where(layer < least, 0, layer)), radius, sigma, draws.uniform(-135, -45, (1,))[0]) / 255.0
    x = x / 255.0
    grey = x[0] if len(x) == 1 else 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
    x = stays * x + (1 - stays) * np.maximum(x, grey * 1.5 + 0.5)
    return dropped(x + layer + layer[::-1, ::-1])


# With each kind's number in the paper's program.
RANDOM = {
    motion_blur: (6, [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)]),
    snow: (8, [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ]),
    gaussian_noise: (1, [0.04, 0.06, 0.08, 0.09, 0.10]),
    shot_noise: (2, [500, 250, 100, 75, 50]),
    impulse_noise: (3, [0.01, 0.02, 0.03, 0.05, 0.07]),
    glass_blur: (5, [(0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)]),
    fog: (10, [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)]),
    speckle_noise: (16, [0.06, 0.10, 0.12, 0.16, 0.20]),
}


def planes(x):
    return np.ascontiguousarray(x[None] if x.ndim == 2 else x.transpose(2, 0, 1))


def main(path):
    tensors = {}
    for name, picture in pictures():
        tensors[name] = planes(picture)
        for kind, strengths in STRENGTHS.items():
            if name.startswith("odd") and kind not in (jpeg, pixelate):
                continue
            if kind is saturate and picture.ndim == 2:
                continue
            for severity, strength in enumerate(strengths, 1):
                tensors[f"{name}/{kind.__name__}/{severity}"] = planes(kind(picture, strength))
        if not name.startswith("odd"):
            for kind, (number, strengths) in RANDOM.items():
                for severity in (2, 5):
                    draws = Draws(number, severity)
                    found = kind(planes(picture), strengths[severity - 1], draws)
                    tensors[f"{name}/{kind.__name__}/{severity}"] = found
    # What `dataset import images --size 20x24` makes of 37x53: the shorter side becomes 8/7 of 24, and
    # the middle is cut out.
    large = colours(37, 53)
    tensors["picture-37x53"] = planes(large)
    for name, filter in [("", Image.BILINEAR), ("-bicubic", Image.BICUBIC), ("-box", Image.BOX)]:
        scaled = Image.fromarray(large).resize((27 * 53 // 37, 27), filter)
        tensors[f"picture-37x53-20x24{name}"] = planes(np.array(scaled)[4:24, 7:31])
    header, data = {}, b""
    for name, tensor in tensors.items():
        start = len(data)
        data += tensor.tobytes()
        header[name] = {"dtype": "U8", "shape": list(tensor.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


main(sys.argv[1])
