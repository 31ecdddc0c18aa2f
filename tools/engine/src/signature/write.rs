//! From computed tensors to a signature file.

use std::path::Path;

use niwaki_codes::Scheme;
use niwaki_prune::{Pattern, Ratio};
use niwaki_quant::Fit;
use niwaki_tensors::Dtype;

use super::about::About;
use crate::compress::{Options, compress};
use crate::destination::Destination;
use crate::error::{Error, ErrorKind};
use crate::plan::{Plan, Tail};
use crate::recipe::{Action, MaskSource, Recipe, Rule, scheme};
use crate::report::Report;
use crate::source::{Source, SourceTensor};

/// How values are stored: of vectors as `float`, of the others as the rest says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// The type of values that are not codes: F32, F16 or BF16.
    pub float: Dtype,
    /// What codes of tensors with two or more dimensions mean; none for floats.
    pub scheme: Option<Scheme>,
    /// How their grids are chosen.
    pub fit: Fit,
    /// The share of their values that is stored, the largest magnitudes of each tensor; none for
    /// all of them.
    pub keep: Option<Ratio>,
}

impl Default for Encoding {
    fn default() -> Self {
        Self { float: Dtype::F32, scheme: None, fit: Fit::MinMax, keep: None }
    }
}

impl Encoding {
    /// The encoding that `text` names: a scheme, or `f32`, `f16`, `bf16`.
    ///
    /// # Errors
    ///
    /// Text that is neither, with the nearest spelling as hint.
    pub fn of_text(text: &str) -> Result<Self, Error> {
        let float = match text {
            "f32" => Dtype::F32,
            "f16" => Dtype::F16,
            "bf16" => Dtype::BF16,
            _ => return Ok(Self { scheme: Some(scheme(text)?), ..Self::default() }),
        };
        Ok(Self { float, ..Self::default() })
    }

    fn recipe(&self) -> Recipe {
        let rule = |action| Rule { tensors: "*".to_owned(), min_dims: 2, optional: true, action };
        let mut rules = Vec::new();
        if let Some(scheme) = self.scheme {
            rules.push(rule(Action::Encode { scheme, fit: self.fit, fallback: None }));
        }
        if let Some(keep) = self.keep {
            rules.push(rule(Action::Mask(MaskSource::Magnitude(Pattern::Keep(keep)))));
        }
        Recipe { rules, ..Recipe::default() }
    }
}

/// Writes `tensors` as a signature; `source` is a checkpoint that they are computed from.
pub(super) fn write<'a>(
    source: &Source<'a>,
    tensors: Vec<SourceTensor<'a>>,
    about: &About,
    encoding: &Encoding,
    out: &Path,
    (options, progress): (&Options, &(dyn Fn(u64, u64) + Sync)),
) -> Result<Report, Error> {
    if tensors.is_empty() {
        return Err(ErrorKind::Usage { what: "no tensor is left for the signature".to_owned() }.into());
    }
    let source = source.of_made(tensors);
    let mut plan = Plan::new(&source, encoding.recipe(), Tail::Short, Destination::default())?;
    plan.signature = Some(about.to_value());
    compress(&source, &mut plan, out, options, progress)
}
