//! Losses: means over a batch, and their gradients. Sums are of doubles, in the order of the batch.

use crate::fault::{Fault, dims};
use crate::tensor::{Data, Tensor};

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

/// Outputs as rows of classes.
fn rows(outputs: &Tensor, count: usize) -> Result<(Vec<f64>, usize), Fault> {
    let classes = outputs.shape().last().copied().unwrap_or(0);
    let all: Vec<f64> = match outputs.data() {
        Data::F32(all) => all.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::F64(all) => all.as_slice().to_vec(),
        _ => return Err(Fault::dtype(0, outputs, "float or double")),
    };
    if classes == 0 || classes.checked_mul(count) != Some(all.len()) {
        return Err(Fault::shape(format!("outputs {}", dims(outputs.shape())), format!("rows for {count} examples")));
    }
    Ok((all, classes))
}

/// A gradient of the type and shape of outputs.
fn like(outputs: &Tensor, all: Vec<f64>) -> Result<Tensor, Fault> {
    let made = match outputs.data() {
        Data::F64(_) => Tensor::of(outputs.shape(), all),
        _ => Tensor::of(outputs.shape(), all.into_iter().map(|x| x as f32).collect::<Vec<_>>()),
    };
    made.ok_or_else(|| Fault::shape("a gradient of another size", dims(outputs.shape())))
}

/// Logarithms of the softmax of a row divided by a temperature.
fn log_softmax(row: &[f64], temperature: f64) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| ((x - top) / temperature).exp()).sum();
    row.iter().map(|x| (x - top) / temperature - sum.ln()).collect()
}

/// Cross entropy of the softmax of outputs `[.., classes]`, with a share `smoothing` of each target spread over all
/// classes (Szegedy et al., *Rethinking the Inception Architecture*, 2016, section 7).
///
/// # Errors
///
/// Outputs that are not as many rows as targets, and classes that they do not have.
pub fn cross_entropy(outputs: &Tensor, targets: &[Target], smoothing: f64) -> Result<Loss, Fault> {
    let (all, classes) = rows(outputs, targets.len())?;
    let count = targets.iter().filter(|target| **target != Target::Unknown).count();
    let (mut sum, mut right, mut gradient) = (0.0, 0, vec![0.0; all.len()]);
    for ((row, slope), target) in all.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(targets) {
        let shares = match *target {
            Target::Class(class) => [(class, 1.0), (class, 0.0)],
            Target::Mixed { first, second, share } => [(first, share), (second, 1.0 - share)],
            Target::Unknown => continue,
        };
        if let Some((class, _)) = shares.iter().find(|(class, _)| *class >= classes) {
            return Err(Fault::shape(format!("class {class}"), format!("one of {classes}")));
        }
        let logs = log_softmax(row, 1.0);
        slope
            .iter_mut()
            .zip(&logs)
            .for_each(|(slope, log)| *slope = (log.exp() - smoothing / classes as f64) / count as f64);
        for (class, share) in shares {
            sum -= (1.0 - smoothing) * share * logs[class];
            slope[class] -= (1.0 - smoothing) * share / count as f64;
        }
        sum -= smoothing / classes as f64 * logs.iter().sum::<f64>();
        let best = (0..classes).fold(0, |best, at| if row[at] > row[best] { at } else { best });
        let class = if shares[0].1 >= shares[1].1 { shares[0].0 } else { shares[1].0 };
        right += usize::from(best == class);
    }
    Ok(Loss { mean: sum / count.max(1) as f64, gradient: like(outputs, gradient)?, count, right })
}

/// KL(teacher || outputs) of softmaxes at a temperature T, times T², so that its gradients are as large as those of
/// cross entropy (Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015).
///
/// # Errors
///
/// Outputs of different shapes.
pub fn divergence(outputs: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Loss, Fault> {
    if outputs.shape() != teacher.shape() {
        return Err(Fault::shape(format!("a teacher's outputs {}", dims(teacher.shape())), dims(outputs.shape())));
    }
    let count = outputs.len() / outputs.shape().last().copied().unwrap_or(1).max(1);
    let ((all, classes), (theirs, _)) = (rows(outputs, count)?, rows(teacher, count)?);
    let (mut sum, mut right, mut gradient) = (0.0, 0, vec![0.0; all.len()]);
    for ((row, theirs), slope) in
        all.chunks_exact(classes).zip(theirs.chunks_exact(classes)).zip(gradient.chunks_exact_mut(classes))
    {
        let (q, p) = (log_softmax(row, temperature), log_softmax(theirs, temperature));
        for ((slope, q), p) in slope.iter_mut().zip(&q).zip(&p) {
            if *p > f64::NEG_INFINITY {
                sum += p.exp() * (p - q) * temperature * temperature;
            }
            *slope = (q.exp() - p.exp()) * temperature / count as f64;
        }
        let best = |row: &[f64]| (0..classes).fold(0, |best, at| if row[at] > row[best] { at } else { best });
        right += usize::from(best(row) == best(theirs));
    }
    Ok(Loss { mean: sum / count.max(1) as f64, gradient: like(outputs, gradient)?, count, right })
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
    let (all, _) =
        rows(&outputs.clone().reshaped([outputs.len(), 1]).unwrap_or_else(|| outputs.clone()), targets.len())?;
    let count = all.len();
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
    Ok(Loss { mean: sum / count.max(1) as f64, gradient: like(outputs, gradient)?, count, right })
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
        let wrong = cross_entropy(&y, &[Target::Class(2), Target::Class(0)], 0.0).unwrap_err();
        assert_eq!(wrong.to_string(), "class 2, one of 2 expected");
        assert!(cross_entropy(&y, &[Target::Class(0)], 0.0).is_err());
    }
}
