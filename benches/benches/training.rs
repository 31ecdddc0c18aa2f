//! A training step, forward and back, without the update of weights: `cargo bench -p niwaki-benches --bench training --
//! [NET …] [--threads N] [--passes N]`.
//!
//! | net | what |
//! |---|---|
//! | `resnet20` | ResNet-20 with projection shortcuts, 64 images of 32x32, batch normalization by the batch |
//! | `depthwise` | one depthwise 3x3 convolution of 32x96x28x28 |
//! | `encoder` | an encoder layer, 256 wide, 4 heads, on 8 texts of 128 tokens |
//!
//! Prints for each the median time of a pass forward, and of one forward and back, in ms, and the most memory of
//! values. `tests/scripts/time_training.py` runs it by turns with PyTorch.

#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]

use std::time::Instant;

use niwaki_conformance::nets::Net;
use niwaki_model::{Tape, Tensor};

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn time(name: &str, net: Net, passes: usize) {
    let x = net.x;
    let tape = Tape::new(net.graph, net.wanted).expect("a net that trains");
    let (mut forward, mut both, mut peak) = (Vec::new(), Vec::new(), 0);
    for pass in 0..=passes {
        let start = Instant::now();
        let there = tape.forward(vec![x.clone()], None).expect("images that fit");
        let half = start.elapsed();
        let y = &there.outputs[0];
        let gradient = Tensor::of(y.shape(), vec![1.0 / 64.0f32; y.len()]);
        let back = tape.backward(there, vec![gradient]).expect("gradients that fit");
        let finite = |g: &Option<Tensor>| {
            g.as_ref().and_then(|g| g.get::<f32>()).is_some_and(|g| g.iter().all(|x| x.is_finite()))
        };
        assert!(back.gradients.iter().all(finite), "{name}: a gradient that is missing or no number");
        if pass > 0 {
            forward.push(half.as_secs_f64() * 1e3);
            both.push(start.elapsed().as_secs_f64() * 1e3);
        }
        peak = back.peak_bytes;
    }
    let (forward, both) = (median(forward), median(both));
    let rate = x.shape()[0] as f64 / both * 1e3;
    println!("{name}: forward {forward:.2} ms, both {both:.2} ms, {rate:.0} examples/s, {:.1} MB", peak as f64 / 1e6);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |flag: &str, default: usize| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (threads, passes) = (number("--threads", 1), number("--passes", 20));
    let asked = |name: &str| {
        args.iter().all(|arg| arg.starts_with("--") || arg.parse::<usize>().is_ok())
            || args.iter().any(|arg| arg == name)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        if asked("resnet20") {
            time("resnet20", Net::resnet20(64, false), passes);
        }
        if asked("depthwise") {
            time("depthwise", Net::depthwise([32, 96, 28, 28]), passes);
        }
        if asked("encoder") {
            time("encoder", Net::encoder([8, 128], 256, 4, false), passes);
        }
    });
}
