//! Bit-planes, fake quantization, masks and signatures: those of the CPU.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod device;

use device::{TYPES, card, numbers};
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Mask, planes};
use niwaki_cuda::{Error, Learned, Numbers, Rates, Search, Slopes};
use niwaki_prune::jackpot;
use niwaki_prune::{Pattern, Ratio, Rule, Step};
use niwaki_quant::{fake_quant, signature};

#[test]
fn planes_are_those_of_codes_and_come_together_again() {
    let Some(card) = card() else { return };
    for len in [0usize, 1, 7, 8, 9, 1000, 4099] {
        let codes: Vec<u8> = (0..len).map(|i| (i * 7919 % 251 + i / 3) as u8).collect();
        let found = card.split_planes(&codes).unwrap();
        let mut want = vec![0; len.div_ceil(8)];
        for (bit, found) in found.iter().enumerate() {
            planes::split(Level::best(), bit as u32, &codes, &mut want).unwrap();
            assert_eq!(*found, want, "bit {bit} of {len}");
        }
        for first in 0..8 {
            let some: Vec<&[u8]> = found[first..].iter().map(Vec::as_slice).collect();
            let want: Vec<u8> = codes.iter().map(|code| code >> first).collect();
            assert_eq!(card.merge_planes(&some, len).unwrap(), want);
        }
    }
    assert!(card.merge_planes(&[&[0u8][..]; 9], 8).is_err() && card.merge_planes(&[&[0, 0]], 8).is_err());
}

#[test]
fn learned_grids_and_their_slopes_are_those_of_the_cpu() {
    let Some(card) = card() else { return };
    for (bits, signed, step, offset) in [(2, true, 0.3, 0.0), (4, false, 0.11, -0.4), (8, true, 0.007, 0.013)] {
        let grid = fake_quant::Learned::new(Bits::new(bits).unwrap(), signed, step, offset);
        let (low, high) = grid.codes();
        let learned = Learned { step: grid.step(), offset: grid.offset(), low, high };
        for len in [0, 1, 17, 1024, 1025, 9000] {
            let mut x = numbers(len, u64::from(bits));
            let mut want = vec![0.0; len];
            fake_quant::fake_quantize(Level::best(), grid, &x, &mut want);
            assert_eq!(card.fake_quantize(learned, &x).unwrap(), want);
            let (mut there, mut here) = (numbers(len, 50), numbers(len, 50));
            let slopes = fake_quant::fake_quantize_back(Level::best(), grid, &x, &mut here);
            let found = card.fake_quantize_back(learned, &x, &mut there).unwrap();
            assert_eq!(found, Slopes { step: slopes.step, offset: slopes.offset }, "{len} values");
            assert_eq!(there, here);
            if let Some(x) = x.first_mut() {
                *x = f32::NAN;
                assert!(card.fake_quantize(learned, &[*x]).unwrap()[0].is_nan());
            }
        }
    }
    let grid = Learned { step: 1.0, offset: 0.0, low: -2.0, high: 1.0 };
    assert!(card.fake_quantize_back(grid, &[1.0], &mut []).is_err());
}

#[test]
fn thresholds_are_those_of_the_cpu() {
    let Some(card) = card() else { return };
    let x = numbers(5003, 8);
    for of in TYPES {
        let bytes = of.bytes(&x);
        let floats = of.floats(&bytes);
        for keep in [0.0001, 0.001, 0.1, 0.5, 0.99, 1.0] {
            let ratio = Ratio::new(keep).unwrap();
            let mut step = Pattern::Keep(ratio).select(1, x.len());
            while let Step::Observe(pass) = step {
                let mut counts = pass.counts();
                counts.observe(Level::best(), 0, &floats).unwrap();
                step = pass.advance(&counts).unwrap();
            }
            let Step::Done(Rule::Threshold { bits, ties }) = step else { unreachable!("a threshold was asked for") };
            let found = card.threshold(of.numbers(&bytes), ratio.of(x.len() as u64)).unwrap();
            assert_eq!(found, (bits, ties), "{keep} of {of:?}");
        }
    }
    assert_eq!(card.threshold(Numbers::of(&[1.0, f32::NAN]), 1), Err(Error::NotFinite));
    assert!(card.threshold(Numbers::of(&[1.0]), 2).is_err() && card.threshold(Numbers::of(&[]), 0).is_err());
}

#[test]
fn masks_change_as_those_of_the_cpu() {
    let Some(card) = card() else { return };
    let (rows, cols, count) = (7, 130, 300);
    let weights = numbers(rows * cols, 1);
    let mask = Mask::from_fn(rows, cols, |row, col| row * cols + col < count).unwrap();
    let mut here = jackpot::Search::new(&mask, jackpot::Slots::Count(count), 0.99).unwrap();
    let [kept, scores, velocity] = here.state();
    let kept = kept.iter().map(|kept| u8::from(*kept != 0.0)).collect();
    let mut there = Search { kept, scores, velocity };
    let mut effective = [vec![0.0; rows * cols], vec![0.0; rows * cols]];
    effective.iter_mut().for_each(|effective| here.apply(&weights, effective));
    let [ours, theirs] = &mut effective;
    let mut swapped = 0;
    for step in 0..8 {
        // Equal scores and gradients of 0 are among them.
        let gradient = numbers(rows * cols, 90 + step);
        let share = [1.0, 0.5, 0.01, 0.0][step as usize % 4];
        let rates = jackpot::Rates { rate: 0.1, momentum: 0.9, decay: 5e-4, scale: 0.5 };
        let flips = here.step(&gradient, &weights, ours, rates, share).unwrap();
        let rates = Rates { rate: 0.1, momentum: 0.9, decay: 5e-4, scale: 0.5 };
        let allowed = |wanted: u64| (share * wanted as f64).ceil() as u64;
        let found = card.jackpot_step(&mut there, [&gradient, &weights], theirs, rates, allowed).unwrap();
        assert_eq!(found, (flips.wanted as u64, flips.done as u64), "step {step}");
        let [kept, scores, velocity] = here.state();
        assert_eq!((&there.scores, &there.velocity), (&scores, &velocity));
        assert!(there.kept.iter().zip(&kept).all(|(there, here)| (*there == 1) == (*here != 0.0)), "step {step}");
        assert_eq!(theirs, ours);
        swapped += flips.done;
    }
    assert!(swapped > 0);
    let before = there.clone();
    let gradient = vec![f32::INFINITY; rows * cols];
    let rates = Rates { rate: 0.1, momentum: 0.9, decay: 0.0, scale: 1.0 };
    let refused = card.jackpot_step(&mut there, [&gradient, &weights], theirs, rates, |n| n);
    assert_eq!((refused, there), (Err(Error::NotFinite), before));
}

#[test]
fn signatures_are_those_of_the_cpu() {
    let Some(card) = card() else { return };
    for len in [0, 1, 100, 4096, 4097, 9000] {
        let of = [1, 2, 3].map(|seed| numbers(len, seed));
        let [init, standard, robust] = &of;
        let found = card.signature_moments([init, standard, robust]).unwrap();
        assert_eq!(found.len(), len.div_ceil(4096));
        for (nth, found) in found.into_iter().enumerate() {
            let cut = |x: &'_ [f32]| x[4096 * nth..(4096 * (nth + 1)).min(len)].to_vec();
            let want = signature::extract::Moments::of(&cut(init), &cut(standard), &cut(robust));
            let [va, aa, vv, standard, apart] = found;
            assert_eq!(signature::extract::Moments { va, aa, vv, standard, apart }, want);
        }
        for coefficient in [0.0, 1.0, 0.317] {
            let mut want = vec![0.0; len];
            signature::extract::signature(init, standard, robust, coefficient, &mut want);
            assert_eq!(card.signature([init, standard, robust], coefficient).unwrap(), want);
        }
    }
    assert!(card.signature([&[1.0], &[1.0, 2.0], &[1.0]], 1.0).is_err());
}
