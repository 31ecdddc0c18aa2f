//! What a JPEG file does to a picture, without the file.
//!
//! Entropy coding loses nothing, so it is left out. What is left is done in the whole numbers of
//! the Independent JPEG Group's library (libjpeg, libjpeg-turbo): colour conversion, the
//! accurate integer cosine transform both ways (`islow`; Loeffler, Ligtenberg and Moschytz
//! 1989), the example tables of ITU-T T.81 annex K scaled by quality, chroma at half the
//! resolution and its triangular ("fancy") upsampling. So the pixels are those that
//! `PIL.Image.save(quality=q)` and `open` give.

/// Fractional digits of the transform's constants.
const CONST_BITS: u32 = 13;
/// Digits that the first pass keeps for the second.
const PASS1_BITS: u32 = 2;

/// Quantization of luma, in rows.
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Quantization of chroma, in rows.
const CHROMA: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

/// Both tables for a quality of 1 to 100.
fn tables(quality: u32) -> [[i32; 64]; 2] {
    let percent = if quality < 50 { 5000 / quality.max(1) } else { 200 - 2 * quality.min(100) };
    let scaled = |step: u16| ((u32::from(step) * percent + 50) / 100).clamp(1, 255) as i32;
    [LUMA.map(scaled), CHROMA.map(scaled)]
}

/// One component of a picture.
struct Component {
    height: usize,
    width: usize,
    samples: Vec<u8>,
}

impl Component {
    fn at(&self, y: usize, x: usize) -> u8 {
        self.samples[y.min(self.height - 1) * self.width + x.min(self.width - 1)]
    }
}

/// What is left of one or three planes of pixels at a quality of 1 to 100.
pub(super) fn round_trip(quality: u32, pixels: &[u8], size: (usize, usize), out: &mut [u8]) {
    let (height, width) = size;
    let plane = height * width;
    let [luma, chroma] = tables(quality);
    if pixels.len() == plane {
        out.copy_from_slice(&coded(&Component { height, width, samples: pixels.to_vec() }, &luma).samples);
        return;
    }
    let colours = (0..plane).map(|i| [0, 1, 2].map(|c| i32::from(pixels[c * plane + i])));
    let mut components: [Vec<u8>; 3] = Default::default();
    for (i, sample) in colours.flat_map(ycc).enumerate() {
        components[i % 3].push(sample);
    }
    let [y, cb, cr] = components.map(|samples| Component { height, width, samples });
    let y = coded(&y, &luma);
    let [cb, cr] = [cb, cr].map(|component| enlarged(&coded(&halved(&component), &chroma), size));
    for i in 0..plane {
        for (c, value) in rgb(y.samples[i], cb[i], cr[i]).into_iter().enumerate() {
            out[c * plane + i] = value;
        }
    }
}

/// A constant with 16 fractional digits.
const fn fix(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

/// Luma and two chromas of a colour.
fn ycc([r, g, b]: [i32; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    const CENTRE: i32 = (128 << 16) + HALF - 1;
    let y = fix(0.29900) * r + fix(0.58700) * g + fix(0.11400) * b + HALF;
    let cb = -fix(0.16874) * r - fix(0.33126) * g + fix(0.50000) * b + CENTRE;
    let cr = fix(0.50000) * r - fix(0.41869) * g - fix(0.08131) * b + CENTRE;
    [y, cb, cr].map(|x| (x >> 16) as u8)
}

/// The colour of luma and two chromas.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + ((fix(1.40200) * cr + HALF) >> 16);
    let g = y + ((-fix(0.34414) * cb - fix(0.71414) * cr + HALF) >> 16);
    let b = y + ((fix(1.77200) * cb + HALF) >> 16);
    [r, g, b].map(|x| x.clamp(0, 255) as u8)
}

/// Half the height and width: means of four, rounded down and up in turns along a row. Rows end
/// with whole blocks: there the edge is repeated before means are taken.
fn halved(from: &Component) -> Component {
    let (height, width) = (from.height.div_ceil(2), from.width.div_ceil(16) * 8);
    let mean = |i: usize| {
        let (y, x) = (2 * (i / width), 2 * (i % width));
        let sum: u16 =
            [(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)].map(|(y, x)| u16::from(from.at(y, x))).iter().sum();
        ((sum + 1 + (i % width % 2) as u16) >> 2) as u8
    };
    Component { height, width, samples: (0..height * width).map(mean).collect() }
}

/// Twice the height and width, cut to `size`: weights 9, 3, 3 and 1 of the four nearest. A
/// component of at most two columns is repeated instead.
fn enlarged(from: &Component, (height, width): (usize, usize)) -> Vec<u8> {
    let last = width.div_ceil(2) - 1;
    let pixel = |i: usize| {
        let (y, x) = (i / width, i % width);
        if last < 2 {
            return from.at(y / 2, x / 2);
        }
        let near = y / 2;
        let other = if y % 2 == 0 { near.saturating_sub(1) } else { near + 1 };
        let column = |x: usize| 3 * u16::from(from.at(near, x)) + u16::from(from.at(other, x));
        let (this, round) = (column(x / 2), if x % 2 == 0 { 8 } else { 7 });
        let next = if x % 2 == 0 { (x / 2).saturating_sub(1) } else { (x / 2 + 1).min(last) };
        ((3 * this + column(next) + round) >> 4) as u8
    };
    (0..height * width).map(pixel).collect()
}

/// A component, block by block transformed, quantized and transformed back. Blocks that reach
/// beyond it repeat its edge.
fn coded(from: &Component, table: &[i32; 64]) -> Component {
    let mut samples = vec![0; from.samples.len()];
    for top in (0..from.height).step_by(8) {
        for left in (0..from.width).step_by(8) {
            let mut block: [i32; 64] = std::array::from_fn(|i| i32::from(from.at(top + i / 8, left + i % 8)) - 128);
            forward(&mut block);
            for (coefficient, step) in block.iter_mut().zip(table) {
                // The transform's results are eight times too large.
                let magnitude = (coefficient.abs() + step * 4) / (step * 8);
                *coefficient = coefficient.signum() * magnitude * step;
            }
            backward(&mut block);
            for (i, sample) in block.into_iter().enumerate() {
                let (y, x) = (top + i / 8, left + i % 8);
                if y < from.height && x < from.width {
                    samples[y * from.width + x] = (sample + 128).clamp(0, 255) as u8;
                }
            }
        }
    }
    Component { samples, ..*from }
}

/// `x / 2^by`, rounded.
fn descale(x: i32, by: u32) -> i32 {
    (x + (1 << (by - 1))) >> by
}

/// The four odd results of both transforms before they are scaled down: a rotation of four
/// numbers, in the order in which the forward transform has them.
fn odd([t4, t5, t6, t7]: [i32; 4]) -> [i32; 4] {
    let (z1, z2, z3, z4) = (t4 + t7, t5 + t6, t4 + t6, t5 + t7);
    let z5 = (z3 + z4) * 9633;
    let (z1, z2) = (z1 * -7373, z2 * -20995);
    let (z3, z4) = (z3 * -16069 + z5, z4 * -3196 + z5);
    [t4 * 2446 + z1 + z3, t5 * 16819 + z2 + z4, t6 * 25172 + z2 + z3, t7 * 12299 + z1 + z4]
}

/// The cosine transform of a block, times 8.
fn forward(block: &mut [i32; 64]) {
    for (first, stride, pass) in lines() {
        let d: [i32; 8] = std::array::from_fn(|i| block[first + i * stride]);
        let [s0, s1, s2, s3] = [d[0] + d[7], d[1] + d[6], d[2] + d[5], d[3] + d[4]];
        let (t10, t13, t11, t12) = (s0 + s3, s0 - s3, s1 + s2, s1 - s2);
        let (by, whole): (u32, fn(i32) -> i32) = match pass {
            Pass::First => (CONST_BITS - PASS1_BITS, |x| x << PASS1_BITS),
            Pass::Second => (CONST_BITS + PASS1_BITS, |x| descale(x, PASS1_BITS)),
        };
        let z = (t12 + t13) * 4433;
        let [o7, o5, o3, o1] = odd([d[3] - d[4], d[2] - d[5], d[1] - d[6], d[0] - d[7]]).map(|x| descale(x, by));
        let even = [whole(t10 + t11), descale(z + t13 * 6270, by), whole(t10 - t11), descale(z - t12 * 15137, by)];
        let line = [even[0], o1, even[1], o3, even[2], o5, even[3], o7];
        line.into_iter().enumerate().for_each(|(i, x)| block[first + i * stride] = x);
    }
}

/// The inverse of the cosine transform of a block.
fn backward(block: &mut [i32; 64]) {
    // Columns first.
    let (rows, columns): (Vec<_>, Vec<_>) = lines().partition(|(_, _, pass)| *pass == Pass::First);
    for (first, stride, pass) in columns.into_iter().chain(rows) {
        let c: [i32; 8] = std::array::from_fn(|i| block[first + i * stride]);
        let by = if pass == Pass::Second { CONST_BITS - PASS1_BITS } else { CONST_BITS + PASS1_BITS + 3 };
        let z = (c[2] + c[6]) * 4433;
        let (t2, t3) = (z - c[6] * 15137, z + c[2] * 6270);
        let (t0, t1) = ((c[0] + c[4]) << CONST_BITS, (c[0] - c[4]) << CONST_BITS);
        let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
        let [o0, o1, o2, o3] = odd([c[7], c[5], c[3], c[1]]);
        let odd = [o3, o2, o1, o0];
        for i in 0..4 {
            block[first + i * stride] = descale(even[i] + odd[i], by);
            block[first + (7 - i) * stride] = descale(even[i] - odd[i], by);
        }
    }
}

/// A pass of the forward transform.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Over rows.
    First,
    /// Over columns.
    Second,
}

/// The first place and the stride of every row, then of every column.
fn lines() -> impl Iterator<Item = (usize, usize, Pass)> {
    let rows = (0..8).map(|i| (8 * i, 1, Pass::First));
    rows.chain((0..8).map(|i| (i, 8, Pass::Second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition in T.81, A.3.3.
    fn cosines(block: &[i32; 64]) -> [f64; 64] {
        std::array::from_fn(|k| {
            let (v, u) = (k / 8, k % 8);
            let scale = |n: usize| if n == 0 { 0.5f64.sqrt() } else { 1.0 };
            let wave = |n: usize, x: usize| ((2 * x + 1) as f64 * n as f64 * std::f64::consts::PI / 16.0).cos();
            let sum: f64 = (0..64).map(|i| f64::from(block[i]) * wave(v, i / 8) * wave(u, i % 8)).sum();
            0.25 * scale(u) * scale(v) * sum
        })
    }

    #[test]
    fn the_transform_is_the_cosine_transform_and_comes_back() {
        for seed in 0..50u64 {
            let mut draws = crate::dataset::draws::Draws::new(seed, 0, 0);
            let block: [i32; 64] = std::array::from_fn(|_| draws.below(256) as i32 - 128);
            let mut ours = block;
            forward(&mut ours);
            for (x, exact) in ours.iter().zip(cosines(&block)) {
                // Two passes with a rounding error of half a unit each, in eighths.
                assert!((f64::from(*x) / 8.0 - exact).abs() < 0.25, "{x} {exact}");
            }
            let mut back = ours.map(|x| descale(x, 3));
            backward(&mut back);
            assert!(back.iter().zip(&block).all(|(a, b)| a.abs_diff(*b) <= 2), "{back:?} {block:?}");
        }
    }

    #[test]
    fn tables_follow_quality() {
        assert_eq!(tables(50), [LUMA.map(i32::from), CHROMA.map(i32::from)]);
        assert_eq!((tables(100)[0][5], tables(80)[0][0], tables(40)[1][63]), (1, 6, 124));
        assert_eq!(tables(1)[0][1], 255);
    }

    #[test]
    fn colours_come_back_within_two() {
        for i in 0..4096 {
            let colour = [i & 15, i >> 4 & 15, i >> 8].map(|x| x * 17);
            let [y, cb, cr] = ycc(colour);
            assert!(rgb(y, cb, cr).iter().zip(colour).all(|(a, b)| i32::from(*a).abs_diff(b) <= 2), "{colour:?}");
        }
    }
}
