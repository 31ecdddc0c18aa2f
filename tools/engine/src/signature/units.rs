//! Tensors by layer, as their names tell: a checkpoint has no graph.
//!
//! The *unit* of a tensor is its name up to the end of the first run of numbers in it, so
//! `layer1.0.conv1.weight` belongs to `layer1.0` and `features.3.weight` to `features.3`; without a
//! number it is the name without its last part. Units are ordered as a reader would: numbers by
//! value.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, SourceTensor};

/// What a tensor is to batch normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    /// Nothing.
    No,
    /// Weight or bias of one.
    Affine,
    /// Running mean or variance.
    Statistic,
}

/// The tensors of floats of a checkpoint, by unit.
#[derive(Debug, Default)]
pub(crate) struct Units {
    /// Units in order, each with the indices of its tensors.
    pub(crate) units: Vec<(String, Vec<usize>)>,
    /// Tensors of batch normalizations.
    norms: BTreeMap<usize, Norm>,
    /// Tensors of the classifier.
    classifier: BTreeSet<usize>,
}

impl Units {
    /// Of a checkpoint.
    pub(crate) fn of(source: &Source<'_>) -> Self {
        let tensors = source.tensors();
        let names: BTreeSet<&str> = tensors.iter().map(SourceTensor::name).collect();
        let mut units = Self::default();
        let mut by_unit: BTreeMap<Natural, Vec<usize>> = BTreeMap::new();
        for (index, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| tensor.is_float()) {
            by_unit.entry(Natural(unit(tensor.name()).to_owned())).or_default().push(index);
            let norm = norm(tensor.name(), &names);
            if norm != Norm::No {
                units.norms.insert(index, norm);
            }
        }
        units.units = by_unit.into_iter().map(|(Natural(name), tensors)| (name, tensors)).collect();
        // Where there are convolutions, a matrix is a classifier's.
        let dims = |tensor: &SourceTensor<'_>| tensor.shape().dims().len();
        if tensors.iter().any(|tensor| dims(tensor) == 4) {
            let matrices: BTreeSet<&str> =
                tensors.iter().filter(|tensor| dims(tensor) == 2).map(|tensor| module(tensor.name())).collect();
            let of_matrix = |tensor: &SourceTensor<'_>| matrices.contains(module(tensor.name()));
            units.classifier =
                tensors.iter().enumerate().filter(|(_, tensor)| of_matrix(tensor)).map(|(index, _)| index).collect();
        }
        units
    }

    /// What tensor number `index` is to batch normalization.
    pub(crate) fn norm(&self, index: usize) -> Norm {
        self.norms.get(&index).copied().unwrap_or(Norm::No)
    }

    /// Whether tensor number `index` belongs to the classifier of a convolutional network.
    pub(crate) fn is_classifier(&self, index: usize) -> bool {
        self.classifier.contains(&index)
    }
}

/// The name without its last part.
fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

fn unit(name: &str) -> &str {
    let (mut end, mut at, mut numbers) = (None, 0, false);
    for part in name.split('.') {
        let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if numbers && !number {
            break;
        }
        at += part.len();
        if number {
            numbers = true;
            end = Some(at);
        }
        at += 1;
    }
    end.and_then(|end| name.get(..end)).unwrap_or_else(|| module(name))
}

fn norm(name: &str, names: &BTreeSet<&str>) -> Norm {
    let Some((module, leaf)) = name.rsplit_once('.') else { return Norm::No };
    match leaf {
        "running_mean" | "running_var" => Norm::Statistic,
        "weight" | "bias" if names.contains(format!("{module}.running_mean").as_str()) => Norm::Affine,
        _ => Norm::No,
    }
}

/// A name whose numbers are compared by value.
#[derive(Debug, PartialEq, Eq)]
struct Natural(String);

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts =
            |name: &'_ str| name.split('.').map(|part| (part.parse::<u64>().ok(), part.to_owned())).collect::<Vec<_>>();
        parts(&self.0).cmp(&parts(&other.0))
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_ends_with_the_first_run_of_numbers() {
        for (name, expected) in [
            ("layer1.0.conv1.weight", "layer1.0"),
            ("layer1.0.downsample.0.weight", "layer1.0"),
            ("features.10.bias", "features.10"),
            ("features.2.1.block.0.weight", "features.2.1"),
            ("model.layers.5.self_attn.q_proj.weight", "model.layers.5"),
            ("conv1.weight", "conv1"),
            ("w", "w"),
            ("0.weight", "0"),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }

    #[test]
    fn numbers_are_ordered_by_value() {
        let mut names =
            ["features.10", "features.2", "features.2.1", "conv1", "layer2.0"].map(|n| Natural(n.to_owned()));
        names.sort();
        assert_eq!(names.map(|n| n.0), ["conv1", "features.2", "features.2.1", "features.10", "layer2.0"]);
    }

    #[test]
    fn a_normalization_is_known_by_its_statistics() {
        let names = BTreeSet::from(["bn.weight", "bn.running_mean", "ln.weight"]);
        assert_eq!(norm("bn.weight", &names), Norm::Affine);
        assert_eq!(norm("bn.running_mean", &names), Norm::Statistic);
        assert_eq!(norm("ln.weight", &names), Norm::No);
    }
}
