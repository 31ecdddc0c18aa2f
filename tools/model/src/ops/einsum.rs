//! Sums of products over named dimensions: Einsum.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{strides, walk};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, reals, rounded};
use crate::tensor::{Tensor, elements};

/// Sums of products, as an equation says it: `bij,bjk->bik`.
#[derive(Clone, Debug)]
pub struct Einsum {
    equation: String,
    terms: Vec<Vec<Label>>,
    /// None where the result has, in order, all labels that come once.
    result: Option<Vec<Label>>,
}

/// A name of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// Of the dimensions that an ellipsis stands for, counted from the last one.
    Any(usize),
    /// All that an ellipsis stands for.
    Ellipsis,
    Letter(char),
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if (definition.domain.as_str(), definition.op.as_str()) != ("", "Einsum") {
        return Ok(None);
    }
    let equation: String =
        definition.text("equation")?.unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let wrong = || Fault::shape(format!("equation `{equation}`"), "letters, commas, ellipses and one arrow");
    let terms = left.split(',').map(labels).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    let result = right.map(|right| labels(right).ok_or_else(wrong)).transpose()?;
    if let Some(result) = &result {
        let known = |label: &Label| *label == Label::Ellipsis || terms.iter().flatten().any(|other| other == label);
        let twice = result.iter().enumerate().any(|(at, label)| result[..at].contains(label));
        if twice || !result.iter().all(known) {
            return Err(wrong());
        }
    }
    some(Einsum { terms, result, equation })
}

/// The labels of one term; none where it has something else.
fn labels(text: &str) -> Option<Vec<Label>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            if found.contains(&Label::Ellipsis) {
                return None;
            }
            found.push(Label::Ellipsis);
            rest = after;
        } else if first.is_ascii_alphabetic() {
            found.push(Label::Letter(first));
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(found)
}

/// A tensor whose dimensions have labels.
struct Term<'a, T: Real> {
    labels: Vec<Label>,
    shape: Vec<usize>,
    all: Cow<'a, [T]>,
}

/// The size of every label.
type Sizes = BTreeMap<Label, usize>;

/// An equation for inputs of some shapes: ellipses are spelled out.
struct Resolved {
    terms: Vec<Vec<Label>>,
    result: Vec<Label>,
    sizes: Sizes,
}

fn shape_of(labels: &[Label], sizes: &Sizes) -> Vec<usize> {
    labels.iter().map(|label| sizes.get(label).copied().unwrap_or(1)).collect()
}

impl<T: Real> Term<'_, T> {
    /// Its elements in the order of `labels`: repeated along those that it has not, the diagonal of
    /// those that it has twice.
    fn arranged(&self, labels: &[Label], sizes: &Sizes, context: &Context<'_>) -> Result<Vec<T>, Fault> {
        let shape = shape_of(labels, sizes);
        context.len::<T>(&shape)?;
        let own = strides(&self.shape);
        let along = |label: &Label| {
            let places = self.labels.iter().enumerate().filter(|(_, other)| *other == label);
            places.map(|(at, _)| if self.shape[at] == 1 { 0 } else { own[at] }).sum()
        };
        let strides: Vec<usize> = labels.iter().map(along).collect();
        let mut out = Vec::with_capacity(elements(&shape).unwrap_or(0));
        walk(&shape, [&strides], |[at]| out.push(self.all[at]));
        Ok(out)
    }

    /// The sum over all labels but these.
    fn kept(&self, keep: &[Label], sizes: &Sizes, context: &Context<'_>) -> Result<Term<'static, T>, Fault> {
        let mut own: Vec<Label> = self.labels.clone();
        own.sort_unstable();
        own.dedup();
        let (labels, summed): (Vec<Label>, Vec<Label>) = own.into_iter().partition(|label| keep.contains(label));
        let all = self.arranged(&[labels.clone(), summed.clone()].concat(), sizes, context)?;
        let shape = shape_of(&labels, sizes);
        let over = elements(&shape_of(&summed, sizes)).unwrap_or(0);
        let all = match summed.is_empty() {
            true => all,
            false if over == 0 => vec![T::ZERO; elements(&shape).unwrap_or(0)],
            false => all.chunks(over).map(|part| part.iter().copied().sum()).collect(),
        };
        Ok(Term { labels, shape, all: Cow::Owned(all) })
    }

    /// The product with another, summed over the labels that nobody wants.
    fn times(
        &self,
        other: &Term<'_, T>,
        wanted: &[Label],
        sizes: &Sizes,
        context: &Context<'_>,
    ) -> Result<Term<'static, T>, Fault> {
        let both = |label: &Label| self.labels.contains(label) && other.labels.contains(label);
        let batch: Vec<Label> =
            self.labels.iter().filter(|label| both(label) && wanted.contains(label)).copied().collect();
        let inner: Vec<Label> =
            self.labels.iter().filter(|label| both(label) && !wanted.contains(label)).copied().collect();
        let left: Vec<Label> = self.labels.iter().filter(|label| !both(label)).copied().collect();
        let right: Vec<Label> = other.labels.iter().filter(|label| !both(label)).copied().collect();
        let labels = [batch.clone(), left.clone(), right.clone()].concat();
        let shape = shape_of(&labels, sizes);
        let mut out = T::buffer(context, &shape)?;
        let count = |labels: &[Label]| elements(&shape_of(labels, sizes)).unwrap_or(0);
        let (m, k, n) = (count(&left), count(&inner), count(&right));
        let a = self.arranged(&[batch.clone(), left, inner.clone()].concat(), sizes, context)?;
        let b = other.arranged(&[batch, inner, right].concat(), sizes, context)?;
        if !out.is_empty() {
            for (at, out) in out.chunks_mut(m * n).enumerate() {
                let a = Matrix::rows(&a[at * m * k..(at + 1) * m * k], m, k)?;
                let b = Matrix::rows(&b[at * k * n..(at + 1) * k * n], k, n)?;
                mm(Target::rows(out, m, n)?, a, b, Way::replace())?;
            }
        }
        Ok(Term { labels, shape, all: Cow::Owned(out) })
    }
}

impl Einsum {
    /// The labels of each input, ellipses resolved, and of the result.
    fn resolve(&self, inputs: &Inputs) -> Result<Resolved, Fault> {
        let wrong = |at: usize, shape: &[usize]| {
            Fault::shape(format!("input {at} of {}", dims(shape)), format!("what `{}` says", self.equation))
        };
        if inputs.len() != self.terms.len() {
            return Err(Fault::shape(format!("{} inputs", inputs.len()), format!("{}", self.terms.len())));
        }
        let (mut terms, mut sizes, mut deepest) = (Vec::new(), Sizes::new(), 0);
        for (at, term) in self.terms.iter().enumerate() {
            let shape = inputs.get(at)?.shape();
            let named = term.iter().filter(|label| **label != Label::Ellipsis).count();
            let any = shape.len().checked_sub(named).ok_or_else(|| wrong(at, shape))?;
            let resolved = spelled(term, any);
            if resolved.len() != shape.len() {
                return Err(wrong(at, shape));
            }
            for (label, dim) in resolved.iter().zip(shape) {
                let size = sizes.entry(*label).or_insert(*dim);
                match (*size, *dim) {
                    (1, dim) => *size = dim,
                    (size, dim) if dim == size || dim == 1 => {}
                    _ => return Err(wrong(at, shape)),
                }
            }
            deepest = deepest.max(if named < term.len() { any } else { 0 });
            terms.push(resolved);
        }
        let result = match &self.result {
            Some(result) => spelled(result, deepest),
            None => {
                let once = |label: &&Label| {
                    matches!(label, Label::Letter(_))
                        && terms.iter().flatten().filter(|other| other == label).count() == 1
                };
                let letters = sizes.keys().filter(once).copied();
                (0..deepest).rev().map(Label::Any).chain(letters).collect()
            }
        };
        Ok(Resolved { terms, result, sizes })
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let Resolved { terms: labels, result, sizes } = self.resolve(inputs)?;
        let mut product: Option<Term<'_, T>> = None;
        for (at, term) in labels.iter().enumerate() {
            let shape = inputs.get(at)?.shape().to_vec();
            let term = Term { labels: term.clone(), shape, all: reals::<T>(inputs, at)? };
            // Whatever comes later, or is in the result, is kept.
            let later: Vec<Label> = labels[at + 1..].iter().flatten().chain(&result).copied().collect();
            product = Some(match product {
                None => term.kept(&later, &sizes, context)?,
                Some(product) => {
                    let own = [product.labels.clone(), later.clone()].concat();
                    let term = term.kept(&own, &sizes, context)?;
                    product.times(&term, &later, &sizes, context)?.kept(&later, &sizes, context)?
                }
            });
        }
        let product = product.ok_or(Fault::Missing { input: 0 })?;
        let all = product.arranged(&result, &sizes, context)?;
        rounded(inputs.get(0)?.dtype(), shape_of(&result, &sizes), all)
    }
}

/// Labels, an ellipsis spelled out as so many.
fn spelled(labels: &[Label], any: usize) -> Vec<Label> {
    let each = |label: &Label| match label {
        Label::Ellipsis => (0..any).rev().map(Label::Any).collect::<Vec<_>>(),
        other => vec![*other],
    };
    labels.iter().flat_map(each).collect()
}

impl Operator for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        // Of two terms, all results times what is summed over; more are counted as if at once.
        let mut sizes = Sizes::new();
        for (term, shape) in self.terms.iter().zip(inputs) {
            let Some(shape) = shape else { continue };
            let any = shape.len().saturating_sub(term.iter().filter(|label| **label != Label::Ellipsis).count());
            spelled(term, any).into_iter().zip(*shape).for_each(|(label, dim)| {
                sizes.entry(label).and_modify(|size| *size = (*size).max(*dim)).or_insert(*dim);
            });
        }
        if self.terms.len() < 2 || outputs.is_empty() {
            return 0;
        }
        sizes.values().fold(1u64, |all, size| all.saturating_mul(*size as u64))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
