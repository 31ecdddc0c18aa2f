//! Sums over examples, added in their order.

use super::Evaluation;

/// What is known of the examples so far.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    examples: u64,
    labelled: u64,
    right: u64,
    loss: f64,
    compared: u64,
    same: u64,
    kl: f64,
    cosine: f64,
}

impl Scores {
    /// Adds an example: the outputs for its classes, which of them it is, and what a reference has.
    pub(crate) fn add(&mut self, logits: &[f32], label: Option<usize>, reference: Option<&[f32]>) {
        self.examples += 1;
        if let Some(label) = label {
            self.labelled += 1;
            self.right += u64::from(largest(logits) == Some(label));
            self.loss -= log_softmax(logits).nth(label).unwrap_or(f64::NEG_INFINITY);
        }
        let Some(reference) = reference else { return };
        self.compared += 1;
        self.same += u64::from(largest(logits) == largest(reference));
        self.kl += kl(reference, logits);
        self.cosine += cosine(logits, reference);
    }

    /// Adds the examples of others behind these.
    pub(super) fn join(&mut self, others: &Self) {
        self.examples += others.examples;
        self.labelled += others.labelled;
        self.right += others.right;
        self.loss += others.loss;
        self.compared += others.compared;
        self.same += others.same;
        self.kl += others.kl;
        self.cosine += others.cosine;
    }

    pub(crate) fn evaluation(&self) -> Evaluation {
        let mean = |sum: f64, of: u64| (of > 0).then(|| sum / of as f64);
        Evaluation {
            examples: self.examples,
            accuracy: mean(self.right as f64, self.labelled),
            loss: mean(self.loss, self.labelled),
            kl: mean(self.kl, self.compared),
            agreement: mean(self.same as f64, self.compared),
            cosine: mean(self.cosine, self.compared),
            ..Evaluation::default()
        }
    }
}

/// The place of the largest, the first of equal ones.
pub(crate) fn largest(logits: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (at, x) in logits.iter().enumerate() {
        if best.is_none_or(|(_, most)| *x > most) {
            best = Some((at, *x));
        }
    }
    best.map(|(at, _)| at)
}

/// KL(p || q) in nats, p and q the softmax of the outputs of a reference and of a model.
pub(crate) fn kl(reference: &[f32], logits: &[f32]) -> f64 {
    let terms = log_softmax(reference).zip(log_softmax(logits));
    terms.map(|(p, q)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }).sum()
}

/// Logarithms of the softmax of outputs.
fn log_softmax(logits: &[f32]) -> impl Iterator<Item = f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let log: f64 = logits.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().ln();
    logits.iter().map(move |x| f64::from(*x) - most - log)
}

/// The cosine of the angle between two vectors; 1 where both are nothing.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    match (lengths > 0.0, a == b) {
        (true, _) => dot(a, b) / lengths,
        (false, same) => f64::from(u8::from(same)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_their_definitions() {
        let mut scores = Scores::default();
        let two = 2.0f32.ln();
        scores.add(&[0.0, two], Some(1), Some(&[0.0, two]));
        scores.add(&[0.0, two], Some(0), Some(&[two, 0.0]));
        let found = scores.evaluation();
        let near = |x: Option<f64>, y: f64| assert!((x.unwrap() - y).abs() < 1e-6, "{x:?} {y}");
        assert_eq!((found.examples, found.accuracy, found.agreement), (2, Some(0.5), Some(0.5)));
        near(found.loss, -((2.0f64 / 3.0).ln() + (1.0f64 / 3.0).ln()) / 2.0);
        // KL((2/3, 1/3) || (1/3, 2/3)) = ln 2 / 3.
        near(found.kl, 2.0f64.ln() / 3.0 / 2.0);
        near(found.cosine, 0.5);
    }

    #[test]
    fn the_first_of_equal_outputs_is_the_largest_and_nothing_is_like_nothing() {
        assert_eq!(largest(&[1.0, 2.0, 2.0]), Some(1));
        assert_eq!(largest(&[f32::NAN, f32::NAN]), Some(0));
        assert_eq!((cosine(&[0.0], &[0.0]), cosine(&[0.0], &[1.0])), (1.0, 0.0));
    }
}
