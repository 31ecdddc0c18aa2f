//! What the benches share; they live in `benches/` and each says how it is run.

use std::time::{Duration, Instant};

/// Normal weights of standard deviation 0.02 (Box and Muller), the same every time.
pub fn normal(n: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut weights = Vec::with_capacity(n + 1);
    while weights.len() < n {
        let radius = 0.02 * (-2.0 * uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
        weights.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    weights.truncate(n);
    weights
}

/// Best times of two jobs, run in turns so that both meet the same machine.
pub fn in_turns(turns: usize, mut job: impl FnMut(), mut twin: impl FnMut()) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    let time = |job: &mut dyn FnMut()| {
        let start = Instant::now();
        job();
        start.elapsed()
    };
    for _ in 0..turns {
        best = (best.0.min(time(&mut job)), best.1.min(time(&mut twin)));
    }
    best
}

/// CPU time of this thread so far, where Linux tells it.
pub fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

niwaki_codes::stamp! {
    /// Adds up all bytes, by words, in sixty-four sums: about as fast as memory is read.
    pub fn read = read_body(bytes: &[u8]) -> u64;
}

#[inline(always)]
fn read_body(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 64];
    for chunk in bytes.as_chunks::<512>().0 {
        for (sum, word) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
