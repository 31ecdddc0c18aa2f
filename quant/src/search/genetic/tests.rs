use niwaki_codes::Widths;

use super::*;
use crate::forms::{LayerSize, Space};
use crate::search::allocate::{Choice, STATES, allocate};

const STYLE: Style = Style::ALL[4];

fn space(sizes: &[(u64, u64)], widths: Widths) -> Space {
    let free = sizes.iter().map(|(weights, inputs)| LayerSize { weights: *weights, inputs: *inputs, fixed: false });
    let ends = LayerSize { weights: 50, inputs: 50, fixed: true };
    Space::new(core::iter::once(ends).chain(free).chain([ends]).collect(), widths).unwrap()
}

fn sixteen() -> Space {
    let sizes: Vec<(u64, u64)> = (0..16).map(|at| (100 + 37 * at * at, 900 - 41 * at)).collect();
    space(&sizes, Widths::ALL)
}

/// What widths lose in a made-up network: a quarter for each bit.
fn loss(layer: usize, bits: Bits) -> f64 {
    (1.0 + (layer * 7 % 11) as f64) / f64::from(1u32 << (2 * bits.get()))
}

fn scores(all: &[Configuration]) -> Result<Vec<f32>, Error> {
    let one = |one: &Configuration| {
        let layers = one.layers.iter().enumerate();
        layers.map(|(at, bits)| -(loss(at, bits.weights) + loss(at + 3, bits.activations)) as f32).sum()
    };
    Ok(all.iter().map(one).collect())
}

fn small() -> Settings {
    Settings { population: 40, generations: 300, ..Settings::default() }
}

fn set(widths: &[u32]) -> Widths {
    Widths::new(widths.iter().map(|bits| Bits::new(*bits).unwrap())).unwrap()
}

#[test]
fn a_genetic_search_beats_a_random_one_and_comes_near_the_best() {
    let space = sixteen();
    let prior = Prior::new(&space, 20_000, 0);
    let bound = Bound::Each { weights: 3.5, activations: 4.0 };
    let search = Search::new(&prior, STYLE, bound, small()).unwrap();
    // What is best, by allocation: losses add up.
    let optimum: f64 = [(Side::Weights, 3.5, 0), (Side::Activations, 4.0, 3)]
        .into_iter()
        .map(|(side, bound, shift)| {
            let all: u64 = space.free().map(|layer| layer.of(side)).sum();
            let lists: Vec<Vec<Choice>> = (1..17)
                .map(|at| {
                    let cost = |bits: Bits| space.layers()[at].of(side) * u64::from(bits.get());
                    Bits::all().map(|bits| Choice { cost: cost(bits), loss: loss(at + shift, bits) }).collect()
                })
                .collect();
            let slices: Vec<&[Choice]> = lists.iter().map(Vec::as_slice).collect();
            let best = allocate(&slices, (all as f64 * bound) as u64, STATES).unwrap();
            best.loss + loss(shift, Bits::MAX) + loss(17 + shift, Bits::MAX)
        })
        .sum();
    for seed in 0..3 {
        let found = search.genetic(seed, scores).unwrap();
        let random = search.random(seed, scores).unwrap();
        assert_eq!((found.scored, random.scored), (40 * 301, 40 * 301));
        assert!(found.score > random.score, "{} {}", found.score, random.score);
        let lost = -f64::from(found.score);
        // 1e-6 is the rounding of 36 floats; three tenths more than the best are a choice of this test.
        assert!(lost >= optimum * (1.0 - 1e-6) && lost < 1.3 * optimum, "{lost} {optimum}");
        assert_eq!(scores(core::slice::from_ref(&found.best)).unwrap(), [found.score]);
        assert!(found.history.len() == 301 && found.history.is_sorted() && found.history.ends_with(&[found.score]));
        assert_eq!(search.genetic(seed, scores).unwrap(), found);
    }
    assert_ne!(search.genetic(0, scores).unwrap().best, search.genetic(1, scores).unwrap().best);
}

#[test]
fn all_that_is_scored_is_within_the_bound() {
    let space = sixteen();
    let prior = Prior::new(&space, 5000, 1);
    for c in [2.0, 2.1, 2.9, 5.0, 7.9, 8.0, 8.3] {
        let check = |bound: Bound| {
            let search = Search::new(&prior, STYLE, bound, Settings { generations: 10, tries: 3, ..small() }).unwrap();
            search.genetic(7, |all| {
                for one in all {
                    let [weights, activations] = Side::ALL.map(|side| space.average(side, one).unwrap());
                    assert!(weights > c - 0.5 && weights <= c, "{weights} {c}");
                    match bound {
                        Bound::Each { .. } => assert!(activations > c - 0.5 && activations <= c, "{activations} {c}"),
                        Bound::Same { .. } => assert!(one.layers.iter().all(|bits| bits.weights == bits.activations)),
                        Bound::Weights { activations, .. } => {
                            assert!(one.layers[1..17].iter().all(|bits| bits.activations == activations));
                        }
                    }
                    assert_eq!(
                        (one.style, one.layers[0], one.layers[17]),
                        (STYLE, LayerBits::WIDEST, LayerBits::WIDEST)
                    );
                }
                scores(all)
            })
        };
        check(Bound::Each { weights: c, activations: c }).unwrap();
        check(Bound::Same { weights: c }).unwrap();
        check(Bound::Weights { weights: c, activations: Bits::MAX }).unwrap();
    }
}

#[test]
fn a_bound_is_refused_only_where_nothing_meets_it() {
    let mut draws = Draws::new(3, 0, 0);
    let ladders = [set(&[2, 8]), set(&[2, 4, 8]), set(&[3]), set(&[2, 3, 8]), Widths::ALL];
    let (mut met, mut refused) = (0, 0);
    for round in 0..600 {
        let widths = ladders[round % ladders.len()];
        let power = 1 << draws.below(8);
        let sizes: Vec<(u64, u64)> = (0..1 + draws.below(4)).map(|_| (1 + draws.below(power) as u64, 1)).collect();
        let space = space(&sizes, widths);
        let c = 1.5 + draws.below(76) as f64 / 10.0;
        let ladder: Vec<u64> = widths.iter().map(|bits| bits.get().into()).collect();
        let mut sums = vec![0];
        for (size, _) in &sizes {
            sums = sums.iter().flat_map(|sum| ladder.iter().map(move |bits| sum + size * bits)).collect();
        }
        let all: u64 = sizes.iter().map(|(size, _)| size).sum();
        let within = |sum: &u64| (*sum as f64 / all as f64) > c - 0.5 && *sum as f64 / all as f64 <= c;
        match Goal::new(&space, Side::Weights, c) {
            Ok(goal) => {
                met += 1;
                for _ in 0..20 {
                    let mut picks: Vec<usize> = sizes.iter().map(|_| draws.below(ladder.len())).collect();
                    goal.lead(&mut picks, &mut draws);
                    let sum = sizes.iter().zip(&picks).map(|((size, _), pick)| size * ladder[*pick]).sum();
                    assert!(within(&sum) && goal.met(&picks));
                }
            }
            Err(error) => {
                refused += 1;
                assert!(!sums.iter().any(within), "{sizes:?} {ladder:?} {c} {error}");
            }
        }
    }
    assert!(met > 200 && refused > 50, "{met} {refused}");
}

#[test]
fn bounds_that_nothing_meets_name_the_averages_there_are() {
    let space = space(&[(90, 1), (10, 1)], set(&[2, 8]));
    let prior = Prior::new(&space, 100, 0);
    let text = |weights| Search::new(&prior, STYLE, Bound::Same { weights }, small()).unwrap_err().to_string();
    assert_eq!(text(1.9), "weights cannot average 1.9 bits; averages lie between 2 and 8");
    assert_eq!(text(8.5), "weights cannot average 8.5 bits; averages lie between 2 and 8");
    assert_eq!(
        text(5.0),
        "no widths of weights average above 4.5 and at most 5 bits; averages lie between 2 and 8, and here is a gap"
    );
}

#[test]
fn odd_settings_and_scores_are_refused() {
    let space = sixteen();
    let prior = Prior::new(&space, 100, 0);
    let bound = Bound::Same { weights: 4.0 };
    let new = |settings| Search::new(&prior, STYLE, bound, settings).map(|_| ()).unwrap_err().to_string();
    assert_eq!(new(Settings { population: 0, ..small() }), "`population` is 0; it lies between 1 and 1000000");
    assert_eq!(new(Settings { mutation: f64::NAN, ..small() }), "`mutation` is NaN; it lies between 0 and 1");
    let search = Search::new(&prior, STYLE, bound, small()).unwrap();
    let kind = |found: Result<Found, Error>| found.unwrap_err().kind();
    let short = |all: &[Configuration]| Ok::<_, Error>(vec![0.0; all.len() - 1]);
    assert_eq!(kind(search.genetic(0, short)), ErrorKind::Length { buffer: "scores", needs: 40, has: 39 });
    let odd =
        |all: &[Configuration]| Ok::<_, Error>(all.iter().enumerate().map(|(i, _)| [0.0, f32::NAN][i / 39]).collect());
    assert_eq!(kind(search.random(0, odd)), ErrorKind::Score { configuration: 39 });
    let own = |_: &[Configuration]| Err(Error::from(ErrorKind::FormText));
    assert_eq!(kind(search.genetic(0, own)), ErrorKind::FormText);
}
