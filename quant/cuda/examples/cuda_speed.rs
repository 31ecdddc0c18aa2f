//! How fast each kernel is, beside a copy on the device: `cargo run --release -p niwaki-cuda --example cuda_speed`.
//!
//! Numbers lie on the device; a row says how many bytes a launch reads and writes, its time, and its share of the bandwidth
//! of a copy, which reads and writes too. Without a device it says *skipped*; with NIWAKI_REQUIRE_GPU set that is an error.
//! `cuda_speed N T` takes N times 2^20 numbers instead of 64, and T launches of each kernel instead of 20.

#![allow(clippy::print_stdout, reason = "the table is the answer")]

use std::process::ExitCode;

use niwaki_codes::{Scheme, Symmetry, Uniform};
use niwaki_cuda::{Card, Error, Fit, GramSums, Learned, Numbers, Parts, Rates, Search};

/// Columns of the matrix.
const COLS: usize = 4096;

/// What is measured on one device.
struct Bench {
    card: Card,
    floats: Vec<f32>,
    halves: Vec<u8>,
    /// Bytes a second of a copy.
    copy: f64,
}

fn main() -> ExitCode {
    let mut given = std::env::args().skip(1).map(|n| n.parse().unwrap_or(0u32).max(1));
    let (millions, times) = (given.next().unwrap_or(64), given.next().unwrap_or(20).max(2));
    let card = match Card::open(0) {
        Ok(card) => card,
        Err(why) => {
            println!("skipped: {why}");
            return ExitCode::from(u8::from(std::env::var_os("NIWAKI_REQUIRE_GPU").is_some()));
        }
    };
    match Bench::new(card, (millions as usize) << 20, times).and_then(|bench| bench.all()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// The parts of encoded rows, empty.
fn parts(scheme: &Uniform, rows: usize) -> [Vec<u8>; 3] {
    let groups = scheme.groups(rows, COLS);
    let zeros = if scheme.symmetry == Symmetry::Affine { groups } else { 0 };
    [rows * scheme.row_bytes(COLS), groups * scheme.scale_type().bytes(), zeros].map(|len| vec![0; len])
}

impl Bench {
    fn new(card: Card, len: usize, times: u32) -> Result<Self, Error> {
        let floats: Vec<f32> =
            (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0).collect();
        // The upper half of a float.
        let halves = floats.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
        card.time(times);
        card.copy(4 * len)?;
        let seconds = card.timings().first().map_or(f64::INFINITY, |timing| timing.seconds);
        let copy = 8.0 * len as f64 / seconds;
        println!("{}: a copy of {} MiB goes at {:.0} GB/s (read and written)", card.name(), len >> 18, copy / 1e9);
        println!("{:30} {:>9} {:>9} {:>8} {:>7}", "kernel", "MB", "ms", "GB/s", "of copy");
        Ok(Self { card, floats, halves, copy })
    }

    /// Prints the kernels that ran, each of which reads and writes so many bytes.
    fn say(&self, bytes: &[(&str, usize)]) {
        for timing in self.card.timings() {
            let Some((_, bytes)) = bytes.iter().find(|(kernel, _)| timing.kernel == format!("niwaki_{kernel}")) else {
                continue;
            };
            let speed = *bytes as f64 / timing.seconds;
            println!(
                "{:30} {:9.1} {:9.3} {:8.0} {:6.0}%",
                timing.kernel.trim_start_matches("niwaki_"),
                *bytes as f64 / 1e6,
                1e3 * timing.seconds,
                speed / 1e9,
                100.0 * speed / self.copy
            );
        }
    }

    fn all(&self) -> Result<(), Error> {
        self.observe()?;
        for text in ["int4/g64/sym", "int4/g128/affine", "int3/g64/sym", "int8/row/sym", "int8/g32/sym"] {
            self.encode(text, Fit::MinMax)?;
        }
        self.encode("int4/g64/sym", Fit::Clip)?;
        self.decode("int4/g64/sym")?;
        self.decode("int8/row/sym")?;
        self.training()
    }

    fn observe(&self) -> Result<(), Error> {
        let (card, n, floats) = (&self.card, self.floats.len(), Numbers::of(&self.floats));
        let halves = Numbers::Bf16(&self.halves);
        card.row_ranges(floats, COLS)?;
        card.row_ranges(halves, COLS)?;
        card.column_ranges(floats, COLS)?;
        card.column_ranges(halves, COLS)?;
        card.histogram(floats)?;
        card.histogram(halves)?;
        card.second_moments(floats, COLS)?;
        card.threshold(floats, n as u64 / 2)?;
        let read = 4 * n;
        self.say(&[
            ("row_ranges_f32", read),
            ("row_ranges_bf16", read / 2),
            ("column_ranges_f32", read),
            ("column_ranges_bf16", read / 2),
            ("histogram_f32", read),
            ("histogram_bf16", read / 2),
            ("second_moments_f32", read),
            ("magnitude_digits_f32", read),
        ]);
        let inputs = (n >> 14).clamp(1, COLS);
        let rows = (n / inputs).min(2048);
        GramSums::at_a_time(card, inputs, rows)?.rows(Numbers::of(&self.floats[..rows * inputs]))?;
        for timing in card.timings() {
            let products = (rows * inputs * (inputs + 1) / 2) as f64 / timing.seconds;
            println!("{:30} {rows} rows of {inputs}: {:.2} T products/s in doubles", "gram_f32", products / 1e12);
        }
        Ok(())
    }

    fn encode(&self, text: &str, fit: Fit) -> Result<(), Error> {
        let Ok(Scheme::Uniform(scheme)) = text.parse() else { return Ok(()) };
        let rows = self.floats.len() / COLS;
        let [mut codes, mut scales, mut zeros] = parts(&scheme, rows);
        println!("{text} {fit:?}:");
        for (weights, bytes) in [(Numbers::of(&self.floats), 4), (Numbers::Bf16(&self.halves), 2)] {
            let out = Parts { codes: &mut codes, scales: &mut scales, zeros: &mut zeros };
            self.card.encode((&scheme, fit), weights, COLS, out)?;
            let read = rows * COLS * bytes;
            let all = read + codes.len() + scales.len() + zeros.len();
            let kernels = ["encode_groups_f32", "encode_groups_bf16", "encode_rows_f32", "encode_rows_bf16"];
            self.say(&kernels.map(|kernel| (kernel, all)));
        }
        Ok(())
    }

    fn decode(&self, text: &str) -> Result<(), Error> {
        let Ok(Scheme::Uniform(scheme)) = text.parse() else { return Ok(()) };
        let rows = self.floats.len() / COLS;
        let [mut codes, mut scales, mut zeros] = parts(&scheme, rows);
        let out = Parts { codes: &mut codes, scales: &mut scales, zeros: &mut zeros };
        self.card.encode((&scheme, Fit::MinMax), Numbers::of(&self.floats), COLS, out)?;
        self.card.timings();
        println!("{text}:");
        self.card.decode(&scheme, (rows, COLS), [&codes, &scales, &zeros])?;
        self.card.gemv(&scheme, (rows, COLS), [&codes, &scales, &zeros], &self.floats[..COLS])?;
        let packed = codes.len() + scales.len() + zeros.len();
        self.say(&[("decode", packed + 4 * rows * COLS), ("gemv", packed)]);
        Ok(())
    }

    fn training(&self) -> Result<(), Error> {
        let (card, n, x) = (&self.card, self.floats.len(), &self.floats[..]);
        card.split_planes(&self.halves)?;
        let grid = Learned { step: 0.1, offset: 0.0, low: -8.0, high: 7.0 };
        card.fake_quantize(grid, x)?;
        card.fake_quantize_back(grid, x, &mut x.to_vec())?;
        card.signature_moments([x, x, x])?;
        card.signature([x, x, x], 0.5)?;
        let kept = (0..n).map(|at| u8::from(at % 2 == 0)).collect();
        let mut search = Search { kept, scores: vec![1.0; n], velocity: vec![0.0; n] };
        let rates = Rates { rate: 0.1, momentum: 0.9, decay: 0.0, scale: 1.0 };
        card.jackpot_step(&mut search, [x, x], &mut vec![0.0; n], rates, |wanted| wanted / 2)?;
        println!("training:");
        self.say(&[
            ("split_planes", 4 * n),
            ("fake_quantize", 8 * n),
            ("fake_quantize_back", 12 * n),
            ("signature_moments", 12 * n),
            ("signature", 16 * n),
            ("descend", 24 * n),
            ("rank_digits", 5 * n),
            ("swap", 5 * n),
        ]);
        Ok(())
    }
}
