use alloc::string::ToString;
use alloc::vec;

use super::*;

#[test]
fn a_block_that_adds_nothing_has_no_influence_and_one_that_turns_around_has_two() {
    let x = [0.3f32, -1.7, 2.5e-3, 1e20, 7.0, -0.1];
    let mut same = Influence::default();
    same.add(&x, &x, 3).unwrap();
    assert_eq!((same.score(), same.tokens()), (Some(0.0), 2));
    let mut around = Influence::default();
    around.add(&x, &x.map(|x| -x), 3).unwrap();
    assert_eq!(around.score(), Some(2.0));
    // Only directions count.
    let mut longer = Influence::default();
    longer.add(&x, &x.map(|x| x * 4.0), 3).unwrap();
    assert_eq!(longer.score(), Some(0.0));
}

#[test]
fn influence_is_one_minus_the_mean_cosine_over_all_tokens() {
    let mut influence = Influence::default();
    assert_eq!(influence.score(), None);
    // Cosines 0, 3/5, and 0 with nothing; 1 between nothing and nothing.
    influence.add(&[1.0, 0.0, 1.0, 0.0], &[0.0, 2.0, 3.0, 4.0], 2).unwrap();
    influence.add(&[0.0, 0.0, 0.0, 0.0], &[5.0, 0.0, 0.0, 0.0], 2).unwrap();
    let expected = (1.0 + (1.0 - 0.6) + 1.0 + 0.0) / 4.0;
    assert!((influence.score().unwrap() - expected).abs() < 1e-15, "{influence:?}");
    influence.add(&[f32::NAN], &[1.0], 1).unwrap();
    assert!(influence.score().unwrap().is_nan());
}

#[test]
fn tokens_may_come_in_any_pieces() {
    let before: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7 - 3.0) * 1.3).collect();
    let after: Vec<f32> = (0..60).map(|i| (i * i % 17) as f32 - 4.0).collect();
    let (mut whole, mut parts) = (Influence::default(), Influence::default());
    whole.add(&before, &after, 5).unwrap();
    for range in [0..5, 5..40, 40..40, 40..60] {
        parts.add(&before[range.clone()], &after[range], 5).unwrap();
    }
    assert_eq!(whole, parts);
}

#[test]
fn states_of_different_sizes_are_refused() {
    let mut influence = Influence::default();
    for (before, after, width) in [(4, 6, 2), (5, 5, 2), (4, 4, 0)] {
        let error = influence.add(&vec![1.0; before], &vec![1.0; after], width).unwrap_err();
        assert_eq!(
            error.to_string(),
            alloc::format!("hidden states of {before} and {after} numbers; expected as many, in rows of {width}")
        );
    }
    assert_eq!(influence, Influence::default());
}

#[test]
fn random_scores_are_the_seeds_and_lie_between_zero_and_one() {
    let scores = random_scores(1000, 7);
    assert!(scores.iter().all(|score| 0.0 < *score && *score < 1.0));
    assert_eq!(scores[..30], random_scores(30, 7)[..]);
    assert_ne!(scores, random_scores(1000, 8));
    // The mean of 1000 is within five of its deviations, 1 / sqrt(12 * 1000).
    let mean = scores.iter().sum::<f64>() / 1000.0;
    assert!((mean - 0.5).abs() < 5.0 / 12_000f64.sqrt(), "{mean}");
}

#[test]
fn the_lowest_go_first_and_of_equal_ones_the_earlier() {
    let scores = [0.5, 0.1, 0.5, 0.1, 0.0, -0.0];
    assert_eq!(order(&scores).unwrap(), [4, 5, 1, 3, 0, 2]);
    assert_eq!(lowest(&scores, 1).unwrap(), [4]);
    // In the order in which they run.
    assert_eq!(lowest(&scores, 3).unwrap(), [1, 4, 5]);
    assert_eq!(lowest(&scores, 5).unwrap(), [0, 1, 3, 4, 5]);
}

#[test]
fn what_cannot_be_removed_is_refused_in_one_sentence() {
    let text = |error: Error| error.to_string();
    assert_eq!(text(lowest(&[0.1, f64::NAN], 1).unwrap_err()), "block 1 has the score NaN; expected a finite number");
    assert_eq!(text(lowest(&[0.1, 0.2], 2).unwrap_err()), "2 of 2 blocks to remove; at least one has to stay");
    assert_eq!(text(lowest(&[0.1, 0.2], 0).unwrap_err()), "no block to remove; expected one or more");
    assert_eq!(text(kept(3, &[]).unwrap_err()), "no block to remove; expected one or more");
    assert_eq!(text(kept(3, &[0, 3]).unwrap_err()), "no block 3; there are 0 to 2");
    assert_eq!(text(kept(3, &[2, 0, 2]).unwrap_err()), "block 2 is named twice");
    assert_eq!(text(kept(2, &[1, 0]).unwrap_err()), "2 of 2 blocks to remove; at least one has to stay");
    assert_eq!(text(kept(0, &[0]).unwrap_err()), "no block 0; there are none");
    assert_eq!(kept(4, &[2, 0]).unwrap(), [1, 3]);
}
