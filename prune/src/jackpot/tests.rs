#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;

const RATES: Rates = Rates { rate: 0.1, momentum: 0.9, decay: 0.0, scale: 1.0 };

/// Numbers from -1 to 1, the same every time.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
    };
    (0..len).map(|_| next()).collect()
}

fn first(rows: usize, cols: usize, count: usize) -> Mask {
    Mask::from_fn(rows, cols, |row, col| row * cols + col < count).unwrap()
}

#[test]
fn without_restriction_the_highest_scores_are_kept_at_every_step() {
    let weights = numbers(60, 1);
    let mut search = Search::new(&first(6, 10, 20), Slots::Count(20), 0.99).unwrap();
    let mut effective = vec![0.0; 60];
    search.apply(&weights, &mut effective);
    let (mut scores, mut velocity) = (vec![0.99f32; 60], vec![0.0f32; 60]);
    scores[..20].fill(1.0);
    let rates = Rates { decay: 5e-4, scale: 0.5, ..RATES };
    let mut flips = 0;
    for step in 0..30 {
        let gradient = numbers(60, 100 + step);
        let found = search.step(&gradient, &weights, &mut effective, rates, 1.0).unwrap();
        assert_eq!(found.wanted, found.done);
        flips += found.done;
        for at in 0..60 {
            velocity[at] = 0.9 * velocity[at] + (gradient[at] * 0.5 * weights[at] + 5e-4 * scores[at]);
            scores[at] -= 0.1 * velocity[at];
        }
        let mut order: Vec<usize> = (0..60).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mask = search.mask().unwrap();
        for (rank, at) in order.into_iter().enumerate() {
            assert_eq!(mask.view().keeps(at / 10, at % 10), Some(rank < 20), "step {step}, weight {at}");
        }
        assert_eq!(search.differs(&weights, &effective), None);
        assert_eq!(mask.view().kept(), 20);
    }
    assert!(flips > 0);
}

#[test]
fn a_share_of_the_exchanges_is_done_those_that_gain_most_first() {
    // Weights 0 to 2 are kept; 3, 4 and 5 want to enter, 5 the most, and 0 is to leave first.
    let weights = vec![1.0; 6];
    let gradient = [0.3, 0.2, 0.1, -0.1, -0.2, -0.3];
    let after = |share: f64| {
        let mut search = Search::new(&first(1, 6, 3), Slots::Count(3), 0.99).unwrap();
        let mut effective = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        let flips = search.step(&gradient, &weights, &mut effective, RATES, share).unwrap();
        (flips.wanted, flips.done, effective)
    };
    assert_eq!(after(1.0), (3, 3, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]));
    assert_eq!(after(0.5), (3, 2, [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]));
    // Rounded up: as long as there are some that want to, one does.
    assert_eq!(after(0.01), (3, 1, [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]));
    assert_eq!(after(0.0), (3, 0, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]));
}

#[test]
fn of_equal_scores_the_kept_ones_stay() {
    let weights = vec![1.0; 4];
    let mut search = Search::new(&first(1, 4, 2), Slots::Count(2), 1.0).unwrap();
    let mut effective = [1.0, 1.0, 0.0, 0.0];
    let flips = search.step(&[0.0; 4], &weights, &mut effective, RATES, 1.0).unwrap();
    assert_eq!((flips, effective), (Flips::default(), [1.0, 1.0, 0.0, 0.0]));
    // One that falls is replaced by the first of those that are equal.
    let flips = search.step(&[0.0, 1.0, 0.0, 0.0], &weights, &mut effective, RATES, 1.0).unwrap();
    assert_eq!((flips, effective), (Flips { wanted: 1, done: 1 }, [1.0, 0.0, 1.0, 0.0]));
}

#[test]
fn runs_keep_their_number_and_exchange_within_themselves() {
    let run = NofM::new(2, 4).unwrap();
    let mask = Mask::from_fn(3, 10, |_, col| col % 4 < 2).unwrap();
    let mut search = Search::new(&mask, Slots::NofM(run), 0.99).unwrap();
    let weights = numbers(30, 3);
    let mut effective = vec![0.0; 30];
    search.apply(&weights, &mut effective);
    let mut flips = 0;
    for step in 0..20 {
        let found =
            search.step(&numbers(30, 200 + step), &weights, &mut effective, RATES, if step < 10 { 1.0 } else { 0.2 });
        let found = found.unwrap();
        assert_eq!(found.done, if step < 10 { found.wanted } else { allowed(found.wanted, 0.2) });
        flips += found.done;
        let mask = search.mask().unwrap();
        for row in 0..3 {
            for start in [0, 4, 8] {
                let kept =
                    (start..(start + 4).min(10)).filter(|col| mask.view().keeps(row, *col) == Some(true)).count();
                assert_eq!(kept, 2, "step {step}, row {row}, from {start}");
            }
        }
        assert_eq!(search.differs(&weights, &effective), None);
    }
    assert!(flips > 0);
}

#[test]
fn runs_down_columns_are_those_of_the_transpose() {
    let (run, rows, cols) = (NofM::new(2, 4).unwrap(), 10, 3);
    let turned = |all: &[f32]| -> Vec<f32> { (0..30).map(|at| all[at % rows * cols + at / rows]).collect() };
    let mask = Mask::from_fn(rows, cols, |row, _| row % 4 < 2).unwrap();
    let along = Mask::from_fn(cols, rows, |_, col| col % 4 < 2).unwrap();
    let mut down = Search::new(&mask, Slots::NofMDown(run), 0.99).unwrap();
    let mut along = Search::new(&along, Slots::NofM(run), 0.99).unwrap();
    // Weights and gradients of two values each: many pairs gain the same.
    let signs = |seed: u64| -> Vec<f32> { numbers(30, seed).iter().map(|x| x.signum()).collect() };
    let weights = signs(3);
    let (mut effective, mut other) = (vec![0.0; 30], vec![0.0; 30]);
    down.apply(&weights, &mut effective);
    along.apply(&turned(&weights), &mut other);
    let mut flips = 0;
    for step in 0..20 {
        let gradient = signs(300 + step);
        let share = if step < 10 { 1.0 } else { 0.3 };
        let found = down.step(&gradient, &weights, &mut effective, RATES, share).unwrap();
        let same = along.step(&turned(&gradient), &turned(&weights), &mut other, RATES, share).unwrap();
        assert_eq!((found, turned(&effective)), (same, other.clone()), "step {step}");
        assert_eq!(down.state().map(|all| turned(&all)), along.state(), "step {step}");
        flips += found.done;
    }
    assert!(flips > 0);
    // Columns of ten rows end in runs of two, which keep both.
    let short = Mask::from_fn(rows, cols, |row, _| row % 4 < 2 && row < 9).unwrap();
    assert_eq!(*Search::new(&short, Slots::NofMDown(run), 0.99).unwrap_err().kind(), ErrorKind::Slots);
}

#[test]
fn a_search_goes_on_where_another_one_was() {
    let weights = numbers(24, 5);
    let begin = || Search::new(&first(4, 6, 7), Slots::Count(7), 0.99).unwrap();
    let (mut whole, mut effective) = (begin(), vec![0.0; 24]);
    whole.apply(&weights, &mut effective);
    for step in 0..6 {
        whole.step(&numbers(24, step), &weights, &mut effective, RATES, 0.7).unwrap();
        whole = begin().restored(whole.state()).unwrap();
    }
    let mut other = begin();
    let mut effective = vec![0.0; 24];
    other.apply(&weights, &mut effective);
    for step in 0..6 {
        other.step(&numbers(24, step), &weights, &mut effective, RATES, 0.7).unwrap();
    }
    assert_eq!(whole, other);
    let [kept, scores, velocity] = other.state();
    assert!(begin().restored([vec![1.0; 24], scores.clone(), velocity.clone()]).is_err());
    assert!(begin().restored([kept.clone(), vec![f32::NAN; 24], velocity.clone()]).is_err());
    assert!(begin().restored([kept, scores, vec![0.0; 23]]).is_err());
}

#[test]
fn what_does_not_fit_is_refused_and_a_changed_weight_is_found() {
    assert_eq!(*Search::new(&first(2, 2, 3), Slots::Count(2), 0.9).unwrap_err().kind(), ErrorKind::Slots);
    let runs = Slots::NofM(NofM::new(1, 2).unwrap());
    assert_eq!(*Search::new(&first(2, 2, 2), runs, 0.9).unwrap_err().kind(), ErrorKind::Slots);
    let mut search = Search::new(&first(2, 2, 2), Slots::Count(2), 0.9).unwrap();
    let (weights, mut effective) = ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 0.0, 0.0]);
    assert_eq!(search.differs(&weights, &effective), None);
    assert_eq!(search.differs(&weights, &[1.0, 2.5, 0.0, 0.0]), Some(1));
    assert_eq!(search.differs(&weights, &[1.0, 2.0, 0.0, 4.0]), Some(3));
    assert!(search.step(&[0.0; 3], &weights, &mut effective, RATES, 1.0).is_err());
    let error = search.step(&[f32::NAN, 0.0, 0.0, 0.0], &weights, &mut effective, RATES, 1.0).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFinite { index: 0, .. }));
}

#[test]
fn restrictions_fall_from_one_to_none() {
    let near = |x: f64, y: f64| assert!((x - y).abs() < 1e-12, "{x} {y}");
    for (restriction, middle) in [(Restriction::None, 1.0), (Restriction::Poly(4), 0.0625), (Restriction::Cosine, 0.5)]
    {
        near(restriction.share(0.0), 1.0);
        near(restriction.share(0.5), middle);
        near(restriction.share(1.0), if restriction == Restriction::None { 1.0 } else { 0.0 });
    }
    near(Restriction::Cosine.share(1.0 / 3.0), 0.75);
    near(Restriction::Cosine.share(2.0 / 3.0), 0.25);
}
