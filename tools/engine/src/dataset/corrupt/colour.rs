//! Brightness, contrast and saturation.

use super::{Severity, byte};

/// `clip((x - m) c + m)` with the mean `m` of each channel, `c` = 0.75, 0.5, 0.4, 0.3, 0.15.
pub(super) fn contrast(severity: Severity, pixels: &[u8], plane: usize, out: &mut [u8]) {
    let c = severity.of([0.75, 0.5, 0.4, 0.3, 0.15]);
    for (pixels, out) in pixels.chunks(plane).zip(out.chunks_mut(plane)) {
        let sum: u64 = pixels.iter().map(|pixel| u64::from(*pixel)).sum();
        let mean = sum as f64 / (255 * pixels.len() as u64) as f64;
        for (out, pixel) in out.iter_mut().zip(pixels) {
            *out = byte((f64::from(*pixel) / 255.0 - mean) * c + mean);
        }
    }
}

/// `V` of HSV becomes `clip(V + c)`, `c` = 0.05, 0.1, 0.15, 0.2, 0.3. Grey is all `V`.
pub(super) fn brightness(severity: Severity, pixels: &[u8], plane: usize, out: &mut [u8]) {
    let c = severity.of([0.05, 0.1, 0.15, 0.2, 0.3]);
    if pixels.len() == plane {
        for (out, pixel) in out.iter_mut().zip(pixels) {
            *out = byte(f64::from(*pixel) / 255.0 + c);
        }
        return;
    }
    recolour(pixels, plane, out, |[h, s, v]| [h, s, (v + c).clamp(0.0, 1.0)]);
}

/// `S` of HSV becomes `clip(S a + b)`, `(a, b)` = (0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1),
/// (2.5, 0.2). For images of three channels only.
pub(super) fn saturate(severity: Severity, pixels: &[u8], plane: usize, out: &mut [u8]) {
    let (a, b) = severity.of([(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)]);
    recolour(pixels, plane, out, |[h, s, v]| [h, (s * a + b).clamp(0.0, 1.0), v]);
}

/// Changes each pixel of three channels in the space of hue, saturation and value.
fn recolour(pixels: &[u8], plane: usize, out: &mut [u8], change: impl Fn([f64; 3]) -> [f64; 3]) {
    for at in 0..plane {
        let channel = |c: usize| pixels.get(c * plane + at).copied().unwrap_or(0);
        let rgb = rgb(change(hsv([channel(0), channel(1), channel(2)].map(|x| f64::from(x) / 255.0))));
        for (c, x) in rgb.into_iter().enumerate() {
            if let Some(out) = out.get_mut(c * plane + at) {
                *out = byte(x);
            }
        }
    }
}

/// Hue, saturation and value, each 0 to 1 (Smith 1978). Of equal channels the last decides.
fn hsv([r, g, b]: [f64; 3]) -> [f64; 3] {
    let v = r.max(g).max(b);
    let delta = v - r.min(g).min(b);
    if delta == 0.0 {
        return [0.0, 0.0, v];
    }
    let h = if b == v {
        4.0 + (r - g) / delta
    } else if g == v {
        2.0 + (b - r) / delta
    } else {
        (g - b) / delta
    };
    let h = h / 6.0;
    [h - h.floor(), delta / v, v]
}

/// The way back.
fn rgb([h, s, v]: [f64; 3]) -> [f64; 3] {
    let sector = (h * 6.0).floor();
    let f = h * 6.0 - sector;
    let (p, q, t) = (v * (1.0 - s), v * (1.0 - f * s), v * (1.0 - (1.0 - f) * s));
    match sector as u32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_have_their_places_on_the_circle() {
        assert_eq!(hsv([1.0, 0.0, 0.0]), [0.0, 1.0, 1.0]);
        assert_eq!(hsv([0.0, 0.5, 0.0]), [1.0 / 3.0, 1.0, 0.5]);
        assert_eq!(hsv([0.25, 0.25, 1.0]), [4.0 / 6.0, 0.75, 1.0]);
        assert_eq!(hsv([0.3, 0.3, 0.3]), [0.0, 0.0, 0.3]);
    }

    #[test]
    fn every_colour_comes_back() {
        for code in 0..4096u32 {
            let colour = [code & 15, code >> 4 & 15, code >> 8].map(|x| f64::from(x) / 15.0);
            let again = rgb(hsv(colour));
            assert!(colour.iter().zip(again).all(|(a, b)| (a - b).abs() < 1e-12), "{colour:?} {again:?}");
        }
    }
}
