use alloc::vec;
use alloc::vec::Vec;

use super::*;

fn marks(target: Target, heat: &[f32]) -> Vec<bool> {
    let (mut order, mut marks) = (vec![0; heat.len()], vec![true; heat.len()]);
    let kept = target.mark(heat, &mut order, &mut marks).unwrap();
    assert_eq!(kept, active(&marks));
    marks
}

fn mass(share: f64) -> Target {
    Target::Mass(Ratio::new(share).unwrap())
}

/// Numbers above 0, some of them close to it.
fn drawn(len: usize, seed: u64) -> Vec<f32> {
    crate::layers::random_scores(len, seed).into_iter().map(|x| (x * x * x) as f32).collect()
}

const POSTER: [f32; 7] = [5.5, 7.9, 0.3, 8.6, 2.2, 3.1, 0.9];

#[test]
fn the_posters_example_keeps_four() {
    assert_eq!(marks(mass(0.95), &POSTER), [true, true, false, true, false, true, false]);
}

#[test]
fn the_channel_that_crosses_the_share_is_not_kept_but_the_first_always_is() {
    // Parts of 1/2, 1/4, 1/4, exactly.
    let heat = [1.0, 2.0, 1.0];
    assert_eq!(marks(mass(0.74), &heat), [false, true, false]);
    assert_eq!(marks(mass(0.75), &heat), [true, true, false], "of equal ones the earlier");
    assert_eq!(marks(mass(0.1), &heat), [false, true, false], "it alone has more than the share");
}

#[test]
fn where_nothing_fires_one_channel_stays() {
    for target in [mass(0.5), mass(1.0), Target::Uniform(Ratio::new(0.5).unwrap())] {
        assert_eq!(marks(target, &[0.0; 4]), [true, false, false, false]);
    }
    assert_eq!(marks(mass(1.0), &[]), [false; 0]);
}

#[test]
fn a_share_of_one_drops_what_does_not_fire() {
    // 1e-5 of all is 1e-5 (1 + 2e-6): the second has less.
    assert_eq!(marks(mass(1.0), &[1.0, 1e-6, 0.0, 2e-5]), [true, false, false, true]);
}

#[test]
fn more_is_kept_for_a_larger_share() {
    for seed in 0..50 {
        let heat = drawn(1 + seed as usize * 3, seed);
        let mut before = 0;
        for step in 1..=1000 {
            let kept = active(&marks(mass(f64::from(step) / 1000.0), &heat));
            assert!(kept >= before, "seed {seed}, share {step} of 1000: {kept} after {before}");
            before = kept;
        }
        assert_eq!(before, heat.iter().filter(|a| f64::from(**a) > 1e-5 * sum(&heat)).count().max(1));
    }
}

fn sum(heat: &[f32]) -> f64 {
    heat.iter().map(|a| f64::from(*a)).sum()
}

#[test]
fn the_scale_of_what_fires_does_not_matter() {
    for seed in 0..50 {
        let heat = drawn(24, seed);
        for share in [0.3, 0.77, 0.9, 0.99, 1.0] {
            for target in [mass(share), Target::Uniform(Ratio::new(share).unwrap())] {
                // Powers of two scale without rounding.
                for power in [-20, -1, 7, 30] {
                    let by = f32::powi(2.0, power);
                    let scaled: Vec<f32> = heat.iter().map(|a| a * by).collect();
                    assert_eq!(marks(target, &scaled), marks(target, &heat), "seed {seed}, {target:?}, times {by}");
                }
            }
        }
    }
}

#[test]
fn a_uniform_target_has_as_many_of_every_layer() {
    let half = Target::Uniform(Ratio::new(0.5).unwrap());
    assert_eq!(marks(half, &[1.0, 4.0, 3.0, 2.0]), [false, true, true, false]);
    assert_eq!(marks(half, &[0.0, 4.0, 0.0, 0.0]), [false, true, false, false], "what does not fire aside");
    for seed in 0..20 {
        assert_eq!(active(&marks(half, &drawn(40, seed).iter().map(|a| a + 0.1).collect::<Vec<_>>())), 20);
    }
}

#[test]
fn wrong_lengths_and_what_is_no_heat_are_refused() {
    let (mut order, mut out) = (vec![0; 3], vec![false; 3]);
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let e = mass(0.5).mark(&[1.0, bad, 2.0], &mut order, &mut out).unwrap_err();
        assert_eq!(e.to_string(), alloc::format!("channel 1 fires {bad}; expected a finite number from 0 on"));
    }
    let e = mass(0.5).mark(&[1.0; 4], &mut order, &mut out).unwrap_err();
    assert_eq!(e.to_string(), "3 channels; expected 4");
}

#[test]
fn heat_is_the_largest_magnitude_of_a_plane() {
    let mut found = [9.0; 3];
    heat(&[1.0, -3.0, 0.0, -0.0, 2.0, f32::NAN], &mut found);
    assert_eq!(found[..2], [3.0, 0.0]);
    assert!(found[2].is_nan(), "what is no number is not passed over");
}

/// 3x3 kernels on 8x8 places.
fn layer(inputs: usize, outputs: usize, groups: usize) -> Layer {
    Layer { places: 64, taps: 9, inputs, outputs, groups }
}

#[test]
fn multiplications_of_all_channels_are_those_of_the_layer() {
    let layer = layer(16, 32, 1);
    assert_eq!(layer.dense(), 64 * 9 * 16 * 32);
    assert_eq!(layer.honest(&[true; 16], &[true; 32]).unwrap(), layer.dense());
    assert_eq!(layer.papers(8, 16), layer.dense() / 4);
    assert_eq!(layer.head(), 16 * 32);
    assert!(layer.honest(&[true; 15], &[true; 32]).is_err());
}

#[test]
fn residual_blocks_cost_more_than_the_paper_counts() {
    // Half of the channels of every mask, and sums with a shortcut that has all of them: 1/4 + 1/4 against 1/2 + 1/4.
    let (block, half) = (layer(16, 16, 1), [[true; 8], [false; 8]].concat());
    let papers = block.papers(8, 8) + block.papers(8, 8);
    let honest = block.honest(&[true; 16], &half).unwrap() + block.honest(&half, &half).unwrap();
    assert_eq!((papers * 4, honest * 8), (2 * block.dense(), 3 * 2 * block.dense()));
}

#[test]
fn depth_wise_convolutions_are_free_in_the_paper_and_not_here() {
    let depth_wise = layer(16, 16, 16);
    let most = [vec![true; 15], vec![false]].concat();
    assert_eq!(depth_wise.papers(15, 15), 0);
    assert_eq!(depth_wise.honest(&most, &most).unwrap() * 16, depth_wise.dense() * 15);
    // Of four groups, pairs count within a group alone.
    let grouped = layer(8, 4, 4);
    let inputs = [true, true, true, false, false, false, false, true];
    assert_eq!(grouped.honest(&inputs, &[true, true, true, false]).unwrap(), 64 * 9 * 3);
}

#[test]
fn a_watch_tells_prediction_from_habit() {
    let mut watch = Watch::new(2);
    // The first channel is always to be, the second every other time, and both are always predicted right.
    for nth in 0..4 {
        watch.add(&[true, nth % 2 == 0], &[true, nth % 2 == 0]).unwrap();
    }
    let all = (watch.accuracy(), watch.majority(), watch.majority_by_channel(), watch.active(), watch.variation());
    assert_eq!((watch.inputs(), all), (4, (1.0, 0.75, 0.75, 0.75, 0.25)));
    let mut habit = Watch::new(2);
    for nth in 0..4 {
        habit.add(&[true, false], &[true, nth == 0]).unwrap();
    }
    assert_eq!((habit.accuracy(), habit.majority_by_channel(), habit.variation()), (0.875, 0.875, 0.0));
    assert!(habit.add(&[true], &[true, false]).is_err());
}
