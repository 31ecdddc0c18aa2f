//! Losses: means over a batch, and their gradients. Sums are of doubles, in the order of the batch.

mod directions;

use rayon::prelude::*;

use crate::fault::{Fault, dims};
use crate::real::{Real, in_reals};
use crate::tensor::{Data, Dtype, Tensor};
pub use directions::directions;

/// What an example is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Of a class.
    Class(usize),
    /// Mixed of two classes: a share of the first, the rest of the second (Zhang et al., *mixup*, 2018).
    Mixed {
        /// The first class.
        first: usize,
        /// The second.
        second: usize,
        /// The share of the first, of 1.
        share: f64,
    },
    /// Nobody knows; it does not count.
    Unknown,
}

/// A loss and its gradient.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The mean over the examples that count, in nats where it is one of probabilities.
    pub mean: f64,
    /// The gradient of the mean, in the shape of the outputs.
    pub gradient: Tensor,
    /// How many examples counted.
    pub count: usize,
    /// Of them, those whose class has the largest output.
    pub right: usize,
}

/// Outputs as rows of classes: how many there are of these.
fn classes(outputs: &Tensor, count: usize) -> Result<usize, Fault> {
    if !matches!(outputs.dtype(), Dtype::F32 | Dtype::F64) {
        return Err(Fault::dtype(0, outputs, "float or double"));
    }
    let classes = outputs.shape().last().copied().unwrap_or(0);
    if classes == 0 || classes.checked_mul(count) != Some(outputs.len()) {
        return Err(Fault::shape(format!("outputs {}", dims(outputs.shape())), format!("rows for {count} examples")));
    }
    Ok(classes)
}

/// What a row adds: its loss, and whether its class has the largest output.
struct Row {
    loss: f64,
    right: bool,
}

/// The loss of rows of which `count` count: `of` makes of the number of a row and the row its loss, and its gradient,
/// which is divided by that count. Rows are worked on side by side, and added up in order.
fn over_rows<T: Real>(
    outputs: &Tensor,
    (classes, count): (usize, usize),
    of: impl Fn(usize, &[T], &mut [T]) -> Row + Sync,
) -> Result<Loss, Fault> {
    let all = outputs.get::<T>().ok_or_else(|| Fault::dtype(0, outputs, "float or double"))?;
    let mut gradient = vec![T::ZERO; all.len()];
    let rows = all.par_chunks_exact(classes).zip(gradient.par_chunks_exact_mut(classes)).enumerate();
    let rows: Vec<Row> = rows.map(|(at, (row, slope))| of(at, row, slope)).collect();
    let (sum, right) = rows.iter().fold((0.0, 0), |(sum, right), row| (sum + row.loss, right + usize::from(row.right)));
    let gradient = Tensor::of(outputs.shape(), gradient);
    let gradient = gradient.ok_or_else(|| Fault::shape("a gradient of another size", dims(outputs.shape())))?;
    Ok(Loss { mean: sum / count.max(1) as f64, gradient, count, right })
}

/// The logarithm of the softmax of a row divided by a temperature, element by element.
struct LogSoftmax {
    top: f64,
    log: f64,
    temperature: f64,
}

impl LogSoftmax {
    fn of<T: Real>(row: &[T], temperature: f64) -> Self {
        let top = row.iter().map(|x| x.wide()).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| ((x.wide() - top) / temperature).exp()).sum();
        Self { top, log: sum.ln(), temperature }
    }

    fn at<T: Real>(&self, x: T) -> f64 {
        (x.wide() - self.top) / self.temperature - self.log
    }
}

/// The class of the largest output, the first of equal ones.
fn best<T: Real>(row: &[T]) -> usize {
    (1..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

/// Cross entropy of the softmax of outputs `[.., classes]`, with a share `smoothing` of each target spread over all
/// classes (Szegedy et al., *Rethinking the Inception Architecture*, 2016, section 7).
///
/// # Errors
///
/// Outputs that are not as many rows as targets, and classes that they do not have.
pub fn cross_entropy(outputs: &Tensor, targets: &[Target], smoothing: f64) -> Result<Loss, Fault> {
    in_reals!(outputs.dtype(), T => of_targets::<T>(outputs, targets, smoothing))
}

/// The classes of a target with the share of each.
fn shares(target: Target) -> Option<[(usize, f64); 2]> {
    match target {
        Target::Class(class) => Some([(class, 1.0), (class, 0.0)]),
        Target::Mixed { first, second, share } => Some([(first, share), (second, 1.0 - share)]),
        Target::Unknown => None,
    }
}

fn of_targets<T: Real>(outputs: &Tensor, targets: &[Target], smoothing: f64) -> Result<Loss, Fault> {
    let classes = classes(outputs, targets.len())?;
    let count = targets.iter().filter(|target| **target != Target::Unknown).count();
    let named = targets.iter().filter_map(|target| shares(*target)).flatten();
    if let Some((class, _)) = named.into_iter().find(|(class, _)| *class >= classes) {
        return Err(Fault::shape(format!("class {class}"), format!("one of {classes}")));
    }
    let (even, over) = (smoothing / classes as f64, 1.0 / count.max(1) as f64);
    over_rows::<T>(outputs, (classes, count), |at, row, slope| {
        let Some(shares) = shares(targets[at]) else { return Row { loss: 0.0, right: false } };
        let logs = LogSoftmax::of(row, 1.0);
        let mut loss = 0.0;
        for (at, (slope, x)) in slope.iter_mut().zip(row).enumerate() {
            let share: f64 = shares.iter().filter(|(class, _)| *class == at).map(|(_, share)| share).sum();
            let (log, target) = (logs.at(*x), (1.0 - smoothing) * share + even);
            // What is impossible, and nobody says it is so, is no loss.
            if target != 0.0 {
                loss -= target * log;
            }
            *slope = T::near((log.exp() - target) * over);
        }
        let class = if shares[0].1 >= shares[1].1 { shares[0].0 } else { shares[1].0 };
        Row { loss, right: best(row) == class }
    })
}

/// KL(teacher || outputs) of softmaxes at a temperature T, times T², so that its gradients are as large as those of
/// cross entropy (Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015).
///
/// # Errors
///
/// Outputs of different shapes.
pub fn divergence(outputs: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Loss, Fault> {
    in_reals!(outputs.dtype(), T => of_teacher::<T>(outputs, teacher, temperature))
}

fn of_teacher<T: Real>(outputs: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Loss, Fault> {
    if outputs.shape() != teacher.shape() {
        return Err(Fault::shape(format!("a teacher's outputs {}", dims(teacher.shape())), dims(outputs.shape())));
    }
    let count = outputs.len() / outputs.shape().last().copied().unwrap_or(1).max(1);
    let classes = classes(outputs, count)?;
    let theirs = T::widened(teacher.data()).ok_or_else(|| Fault::dtype(1, teacher, "floats"))?;
    over_rows::<T>(outputs, (classes, count), |at, row, slope| {
        let theirs = &theirs[at * classes..(at + 1) * classes];
        let (ours, aims) = (LogSoftmax::of(row, temperature), LogSoftmax::of(theirs, temperature));
        let mut loss = 0.0;
        for ((slope, x), y) in slope.iter_mut().zip(row).zip(theirs) {
            let (q, p) = (ours.at(*x), aims.at(*y));
            if p > f64::NEG_INFINITY {
                loss += p.exp() * (p - q) * temperature * temperature;
            }
            *slope = T::near((q.exp() - p.exp()) * temperature / count as f64);
        }
        Row { loss, right: best(row) == best(theirs) }
    })
}

/// A loss of each output by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Each {
    /// Cross entropy of the sigmoid of the output and a target between 0 and 1.
    Binary,
    /// (y - t)².
    Square,
    /// (y - t)² / 2β where that is below |y - t| - β/2, else this (Girshick, *Fast R-CNN*, 2015).
    Smooth {
        /// Where the parabola ends, above 0.
        beta: f64,
    },
}

/// The mean of a loss of each output by itself; `right` counts those nearer to the target than a half.
///
/// # Errors
///
/// Targets that are not as many as outputs.
pub fn each(outputs: &Tensor, targets: &[f32], kind: Each) -> Result<Loss, Fault> {
    let all: Vec<f64> = match outputs.data() {
        Data::F32(all) => all.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::F64(all) => all.as_slice().to_vec(),
        _ => return Err(Fault::dtype(0, outputs, "float or double")),
    };
    let count = all.len();
    if count != targets.len() {
        return Err(Fault::shape(
            format!("outputs {}", dims(outputs.shape())),
            format!("{} as targets", targets.len()),
        ));
    }
    let (mut sum, mut right, mut gradient) = (0.0, 0, vec![0.0; count]);
    for ((y, t), slope) in all.iter().zip(targets).zip(&mut gradient) {
        let t = f64::from(*t);
        let sigmoid = 1.0 / (1.0 + (-y).exp());
        let off = y - t;
        let (loss, by) = match kind {
            Each::Binary => (y.max(0.0) - y * t + (-y.abs()).exp().ln_1p(), sigmoid - t),
            Each::Square => (off * off, 2.0 * off),
            Each::Smooth { beta } if off.abs() < beta => (0.5 * off * off / beta, off / beta),
            Each::Smooth { beta } => (off.abs() - 0.5 * beta, off.signum()),
        };
        sum += loss;
        *slope = by / count as f64;
        let far = if kind == Each::Binary { (sigmoid - t).abs() } else { off.abs() };
        right += usize::from(far < 0.5);
    }
    let gradient = match outputs.data() {
        Data::F64(_) => Tensor::of(outputs.shape(), gradient),
        _ => Tensor::of(outputs.shape(), gradient.into_iter().map(|x| x as f32).collect::<Vec<_>>()),
    };
    let gradient = gradient.ok_or_else(|| Fault::shape("a gradient of another size", dims(outputs.shape())))?;
    Ok(Loss { mean: sum / count.max(1) as f64, gradient, count, right })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::reverse::check::random;

    /// Compares gradients with central differences, in f64.
    fn check(y: &Tensor, of: impl Fn(&Tensor) -> Loss) {
        let found = of(y);
        let gradient = found.gradient.get::<f64>().unwrap();
        for at in 0..y.len() {
            let moved = |by: f64| {
                let mut all = y.get::<f64>().unwrap().to_vec();
                all[at] += by;
                of(&Tensor::of(y.shape(), all).unwrap()).mean
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - gradient[at]).abs() < 1e-9, "{at}: {}, {slope} expected", gradient[at]);
        }
        let single = y.get::<f64>().unwrap().iter().map(|x| *x as f32).collect();
        let single = of(&Tensor::of(y.shape(), single).unwrap());
        assert!((single.mean - found.mean).abs() < 1e-6 && single.gradient.get::<f32>().is_some());
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let y = random(&[4, 5], 1).unwrap();
        let mixed = Target::Mixed { first: 0, second: 3, share: 0.3 };
        for smoothing in [0.0, 0.1] {
            let targets = [Target::Class(2), mixed, Target::Unknown, Target::Class(4)];
            check(&y, |y| cross_entropy(y, &targets, smoothing).unwrap());
        }
        let teacher = random(&[4, 5], 2).unwrap();
        for temperature in [1.0, 4.0] {
            check(&y, |y| divergence(y, &teacher, temperature).unwrap());
        }
        let targets: Vec<f32> = (0..20).map(|k| (k % 3) as f32 / 2.0).collect();
        for kind in [Each::Binary, Each::Square, Each::Smooth { beta: 0.5 }] {
            check(&y, |y| each(y, &targets, kind).unwrap());
        }
    }

    #[test]
    fn vectors_of_texts_are_drawn_to_their_aims() {
        let (hidden, aims) = (random(&[3, 4, 5], 3).unwrap(), random(&[3, 5], 4).unwrap());
        check(&hidden, |hidden| directions(hidden, &[4, 1, 2], &aims).unwrap());
        // Aims of any length; a text whose vector is its aim has no loss, one across from it a loss of 1.
        let hidden = Tensor::of([2, 2, 2], vec![1.0f64, 0.0, 3.0, 0.0, 0.0, 2.0, 9.0, 9.0]).unwrap();
        let aims = Tensor::of([2, 2], vec![0.5f64, 0.0, 7.0, 0.0]).unwrap();
        let found = directions(&hidden, &[2, 1], &aims).unwrap();
        assert!((found.mean - 0.5).abs() < 1e-15 && (found.count, found.right) == (2, 2));
        assert_eq!(found.gradient.get::<f64>().unwrap()[6..], [0.0, 0.0], "what fills up does not count");
        assert!(directions(&hidden, &[2], &aims).is_err() && directions(&hidden, &[2, 3], &aims).is_err());
        assert!(directions(&hidden, &[2, 0], &aims).is_err());
    }

    #[test]
    fn losses_are_those_of_the_formulas() {
        let y = Tensor::of([2, 2], vec![0.0f64, 0.0, 2.0, 0.0]).unwrap();
        let found = cross_entropy(&y, &[Target::Class(1), Target::Class(0)], 0.0).unwrap();
        let expected = (2f64.ln() + (1.0 + (-2f64).exp()).ln()) / 2.0;
        assert!((found.mean - expected).abs() < 1e-12 && (found.count, found.right) == (2, 1));
        assert!(divergence(&y, &y, 2.0).unwrap().mean.abs() < 1e-15);
        let far = Tensor::vector(vec![3.0f64, 0.25]);
        assert!(
            (each(&far, &[0.0, 0.0], Each::Smooth { beta: 1.0 }).unwrap().mean - (2.5 + 0.03125) / 2.0).abs() < 1e-12
        );
        assert!((each(&far, &[1.0, 0.25], Each::Square).unwrap().mean - 2.0).abs() < 1e-12);
        let none = cross_entropy(&y, &[Target::Unknown; 2], 0.0).unwrap();
        assert_eq!((none.mean, none.count), (0.0, 0));
        // A class mixed with itself is that class, and what is impossible by nobody's word is no loss.
        let hard = Tensor::of([1, 3], vec![0.0f64, 1.0, f64::NEG_INFINITY]).unwrap();
        let mixed = [Target::Mixed { first: 1, second: 1, share: 0.3 }];
        let (mixed, plain) = (cross_entropy(&hard, &mixed, 0.0), cross_entropy(&hard, &[Target::Class(1)], 0.0));
        let (mixed, plain) = (mixed.unwrap(), plain.unwrap());
        assert!((mixed.mean - plain.mean).abs() < 1e-15 && plain.mean.is_finite());
        assert_eq!(mixed.gradient.get::<f64>(), plain.gradient.get::<f64>());
        let wrong = cross_entropy(&y, &[Target::Class(2), Target::Class(0)], 0.0).unwrap_err();
        assert_eq!(wrong.to_string(), "class 2, one of 2 expected");
        assert!(cross_entropy(&y, &[Target::Class(0)], 0.0).is_err());
    }
}
