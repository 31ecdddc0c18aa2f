//! Boxes that do not hide each other: NonMaxSuppression.

use super::integer;
use super::sort::order;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::Tensor;

/// For each class the boxes of the best scores, but those that overlap a better one.
#[derive(Clone, Copy, Debug)]
struct NonMaxSuppression {
    /// Whether a box is its centre and sides, and not two corners.
    centre: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "NonMaxSuppression" => some(NonMaxSuppression { centre: definition.flag("center_point_box")? }),
        _ => Ok(None),
    }
}

/// Top, left, bottom, right.
type Corners = [f32; 4];

impl NonMaxSuppression {
    fn corners(&self, found: &[f32]) -> Corners {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| found.get(at).copied().unwrap_or_default());
        match self.centre {
            true => [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0],
            false => [a.min(c), b.min(d), a.max(c), b.max(d)],
        }
    }
}

/// What two boxes share of what they cover together.
fn overlap(a: &Corners, b: &Corners) -> f32 {
    let area = |x: &Corners| (x[2] - x[0]) * (x[3] - x[1]);
    let high = a[2].min(b[2]) - a[0].max(b[0]);
    let wide = a[3].min(b[3]) - a[1].max(b[1]);
    let (one, other) = (area(a), area(b));
    if high <= 0.0 || wide <= 0.0 || one <= 0.0 || other <= 0.0 {
        return 0.0;
    }
    let both = high * wide;
    both / (one + other - both)
}

fn number(inputs: &Inputs, index: usize) -> Result<Option<f32>, Fault> {
    if inputs.optional(index).is_none() {
        return Ok(None);
    }
    match inputs.elements::<f32>(index, "float")? {
        [one] => Ok(Some(*one)),
        all => Err(Fault::shape(format!("input {index} of {} numbers", all.len()), "one")),
    }
}

impl Operator for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (boxes, scores) = (inputs.elements::<f32>(0, "float")?, inputs.elements::<f32>(1, "float")?);
        let (of_boxes, of_scores) = (inputs.get(0)?.shape(), inputs.get(1)?.shape());
        let (&[batches, count, 4], &[other, classes, also]) = (of_boxes, of_scores) else {
            let found = format!("boxes of {}, scores of {}", dims(of_boxes), dims(of_scores));
            return Err(Fault::shape(found, "batch x boxes x 4, batch x classes x boxes"));
        };
        if batches != other || count != also {
            let found = format!("boxes of {}, scores of {}", dims(of_boxes), dims(of_scores));
            return Err(Fault::shape(found, "as many of both"));
        }
        let most = if inputs.optional(2).is_some() { integer(inputs, 2)?.max(0) as usize } else { 0 };
        let shared = number(inputs, 3)?.unwrap_or(0.0);
        let least = number(inputs, 4)?;
        let mut found: Vec<i64> = Vec::new();
        let batches = if count == 0 { 0 } else { batches };
        for batch in 0..batches {
            let corners: Vec<Corners> =
                boxes[batch * count * 4..][..count * 4].chunks_exact(4).map(|one| self.corners(one)).collect();
            for class in 0..classes {
                let scores = &scores[(batch * classes + class) * count..][..count];
                for one in kept(&corners, scores, (most, shared, least)) {
                    found.extend([batch as i64, class as i64, one as i64]);
                }
            }
        }
        let shape = [found.len() / 3, 3];
        Ok(vec![Tensor::of(shape, found).ok_or(Fault::Missing { input: 0 })?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

/// The boxes of one class that are kept, the best first: so many at most, of which no two share more,
/// and each has a score above the least.
fn kept(corners: &[Corners], scores: &[f32], (most, shared, least): (usize, f32, Option<f32>)) -> Vec<usize> {
    let mut all: Vec<usize> = (0..scores.len()).filter(|at| least.is_none_or(|least| scores[*at] > least)).collect();
    all.sort_by(|a, b| order(&scores[*b], &scores[*a]));
    let mut kept: Vec<usize> = Vec::new();
    for one in all {
        if kept.len() >= most {
            break;
        }
        if kept.iter().all(|better| overlap(&corners[*better], &corners[one]) <= shared) {
            kept.push(one);
        }
    }
    kept
}
