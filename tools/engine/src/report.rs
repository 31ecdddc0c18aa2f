//! What a run did: facts, for people, for scripts, and for the output's own metadata.

use std::collections::BTreeMap;

use niwaki_quant::Distortion;
use serde::Serialize;
use serde_json::{Value, json};

use crate::job::ByWidth;
use crate::plan::{Plan, Planned};

/// What became of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Bytes of the source's files; of a part of a job those of its tensors.
    pub input_bytes: u64,
    /// Bytes of the file written.
    pub output_bytes: u64,
    /// Stored bits for each weight, over all tensors.
    pub bits_per_weight: f64,
    /// One entry for each tensor, in plan order.
    pub tensors: Vec<TensorReport>,
    /// Digest of the checkpoint written; none in formats that have no digests.
    pub digest: Option<String>,
    /// Tensors whose layers' inputs were damped more than usual.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damped: Vec<Damped>,
    /// Tensors taken over from an earlier run that was killed.
    #[serde(skip)]
    pub resumed: usize,
}

/// A tensor whose layer's inputs say less than its codes could use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damped {
    /// Its name.
    pub name: String,
    /// The share of the mean square of the inputs that was added to each, so that there was an inverse.
    pub damping: f64,
}

/// What became of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// `keep`, `quantize`, `elastic` or `sparse`.
    pub fate: &'static str,
    /// The scheme of its codes.
    pub scheme: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Bytes in the source.
    pub bytes_before: u64,
    /// Bytes in the output.
    pub bytes_after: u64,
    /// Signal to quantization noise over the stored weights, in dB; of the widest width for
    /// elastic codes. None where nothing was lost.
    pub sqnr_db: Option<f64>,
    /// The same for each width of elastic codes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub widths: BTreeMap<u32, f64>,
}

/// dB to four places: what a run prints does not hang on the last bit of a sum.
pub(crate) fn db(d: &Distortion) -> Option<f64> {
    rounded_db(d.sqnr_db())
}

/// dB to four places.
pub(crate) fn rounded_db(db: Option<f64>) -> Option<f64> {
    db.map(|db| (db * 1e4).round() / 1e4)
}

impl TensorReport {
    pub(crate) fn new(planned: &Planned, distortion: &ByWidth) -> Self {
        let widths = distortion.iter().filter(|(width, _)| *width > 0);
        Self {
            name: planned.name.clone(),
            shape: planned.layout.shape.dims().to_vec(),
            fate: planned.fate(),
            scheme: planned.layout.scheme.map(|s| s.to_string()),
            rule: planned.rule.clone(),
            bytes_before: planned.bytes_before,
            bytes_after: planned.bytes_after,
            sqnr_db: distortion.last().and_then(|(_, d)| db(d)),
            widths: widths.filter_map(|(width, d)| Some((*width, db(d)?))).collect(),
        }
    }

    /// The entry of a tensor whose noise was measured on the output.
    pub(crate) fn with_db(planned: &Planned, sqnr_db: Option<f64>) -> Self {
        Self { sqnr_db, ..Self::new(planned, &ByWidth::new()) }
    }

    /// The entry of the widest possible text, to reserve room for the header with.
    pub(crate) fn widest(planned: &Planned) -> Self {
        let widest = Distortion { signal: 1.0, noise: 1.234_567_8e300, max_abs: 0.0, elements: 0 };
        let widths: ByWidth = match planned.layout.elastic() {
            Some(elastic) => elastic.widths.iter().map(|bits| (bits.get(), widest)).collect(),
            None => vec![(0, widest)],
        };
        Self::new(planned, &widths)
    }
}

/// What all tensors of a run come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Bytes of the tensors in the source.
    pub(crate) before: u64,
    /// Bytes of their parts.
    pub(crate) after: u64,
    /// Their weights.
    pub(crate) elements: u64,
}

impl Totals {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self { before: plan.bytes_before(), after: plan.bytes_after(), elements: plan.elements() }
    }

    /// Stored bits for each weight.
    pub(crate) fn bits_per_weight(self) -> f64 {
        if self.elements == 0 { 0.0 } else { (self.after * 8) as f64 / self.elements as f64 }
    }

    /// The report as it is embedded: nothing that differs from run to run.
    pub(crate) fn embedded(self, tensors: impl Serialize) -> Value {
        json!({
            "input_bytes": self.before,
            "output_bytes": self.after,
            "bits_per_weight": self.bits_per_weight(),
            "tensors": tensors,
        })
    }
}
