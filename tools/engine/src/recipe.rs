//! Recipes: text that a person reviews, and the rules it holds.
//!
//! A recipe says what becomes of tensors by name. It is TOML; unknown keys are errors.
//! `keep`, `quantize` and `elastic` are one kind of rule (how a tensor is encoded) and
//! `mask` another; of each kind the last rule that matches a tensor wins. Every `patch` is laid
//! over the checkpoint first, in the order of the text; then `layers` takes blocks out of its model, and `fold` moves scales
//! from the inputs of its products into their weights.

pub(crate) mod mix;
mod nearest;
mod parse;
mod preset;

use std::fmt;
use std::path::PathBuf;

use niwaki_codes::{BlockType, Scheme};
use niwaki_prune::Pattern;
use niwaki_prune::layers::Removable;
use niwaki_quant::Fit;
use niwaki_quant::fold::{Criterion, Steps};

pub use mix::{Mix, ModelFacts};
pub(crate) use nearest::{glob_hint, no_such, unmatched};
pub use nearest::{nearest, scheme};
pub use preset::Preset;

use crate::error::{Error, ErrorKind};

/// Rules by tensor name, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Seed of whatever is random.
    pub seed: u64,
    /// What is added to the diagonal of a layer's Gram matrix for `gptq`, as a share of its mean, where it is said.
    pub damping: Option<f64>,
    /// Globs of the tensors that rules may touch; empty means all.
    pub only: Vec<String>,
    /// Signatures that the checkpoint is seen through, nearest to it first.
    pub patches: Vec<PatchRule>,
    /// The blocks that go before anything is encoded, where some do.
    pub layers: Option<LayersRule>,
    /// Scales that go from inputs into weights; of those that name a product the last counts.
    pub folds: Vec<FoldRule>,
    /// The rules in the order of the text.
    pub rules: Vec<Rule>,
}

/// Which blocks of a model go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayersRule {
    /// Their numbers, as `layers rank` gives them.
    pub remove: Vec<usize>,
    /// Whether the blocks of transformers in ONNX files are counted by their halves.
    pub halves: bool,
    /// Which blocks of an ONNX model may go, where it is said.
    pub rule: Option<Removable>,
}

/// Which products' inputs are divided by scales that their weights are multiplied by, and by which.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldRule {
    /// Glob over the names of the products' weights.
    pub tensors: String,
    /// Whether the rule may match nothing.
    pub optional: bool,
    /// What scales go by.
    pub criterion: Criterion,
    /// The exponent, from 0 to 1; none where it is searched.
    pub alpha: Option<f64>,
    /// Which numbers scales may be.
    pub steps: Steps,
}

/// A signature that is laid over the checkpoint before anything else happens to it.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchRule {
    /// Its file.
    pub signature: PathBuf,
    /// What its values are multiplied by.
    pub alpha: f64,
    /// Whether it may have been made for other weights of the same architecture.
    pub transfer: bool,
}

/// What one entry of a recipe says of the tensors that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Glob over tensor names; `*` crosses dots, `{a,b}` is either.
    pub tensors: String,
    /// Tensors of fewer dimensions are not meant.
    pub min_dims: usize,
    /// Whether the rule may match nothing.
    pub optional: bool,
    /// What happens to them.
    pub action: Action,
}

/// What a rule does to a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Carry it as it is.
    Keep,
    /// Encode it.
    Encode {
        /// What the codes mean.
        scheme: Scheme,
        /// How the grid is chosen.
        fit: Fit,
        /// Blocks for rows that those of the scheme do not fill.
        fallback: Option<BlockType>,
    },
    /// Store only some of its weights.
    Mask(MaskSource),
}

/// Where a mask comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskSource {
    /// The largest magnitudes of each tensor.
    Magnitude(Pattern),
    /// A file with a tensor `NAME.mask` for each tensor that it masks.
    File(PathBuf),
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Recipe`] with the line for text that is not a recipe,
    /// [`ErrorKind::Unsupported`] for keys that this version does not act on.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::recipe(text)
    }

    /// The same recipe, touching only tensors that one of the globs names.
    pub fn restricted(mut self, only: &[String]) -> Self {
        self.only.extend_from_slice(only);
        self
    }

    /// Refuses a damping that no fit takes, or that is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`].
    pub fn check_damping(&self) -> Result<(), Error> {
        let Some(damping) = self.damping else { return Ok(()) };
        let wrong = |what: String| Err(ErrorKind::Usage { what }.into());
        if !(damping > 0.0 && damping <= 1.0) {
            return wrong(format!("a damping of {damping}; expected more than 0, at most 1"));
        }
        let takes = |rule: &Rule| matches!(&rule.action, Action::Encode { fit, .. } if fit.needs_inputs());
        match self.rules.iter().any(takes) {
            true => Ok(()),
            false => wrong("a damping without the fit gptq or gptq_order, which takes it".to_owned()),
        }
    }

    /// The same recipe with a last rule that keeps the tensors of each glob.
    pub fn keeping(mut self, keep: &[String]) -> Self {
        self.rules.extend(keep.iter().map(|glob| Rule {
            tensors: glob.clone(),
            min_dims: 0,
            optional: false,
            action: Action::Keep,
        }));
        self
    }
}

impl fmt::Display for Rule {
    /// How a report names the rule: ``quantize `*.weight` int4/g64/sym``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let glob = &self.tensors;
        match &self.action {
            Action::Keep => write!(f, "keep `{glob}`"),
            Action::Encode { scheme: scheme @ Scheme::Elastic(_), .. } => write!(f, "elastic `{glob}` {scheme}"),
            Action::Encode { scheme, .. } => write!(f, "quantize `{glob}` {scheme}"),
            Action::Mask(MaskSource::Magnitude(pattern)) => write!(f, "mask `{glob}` {pattern}"),
            Action::Mask(MaskSource::File(path)) => write!(f, "mask `{glob}` from `{}`", path.display()),
        }
    }
}

impl fmt::Display for FoldRule {
    /// How a plan names the rule: ``fold `*` awq``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fold `{}` {}", self.tensors, self.criterion)
    }
}

impl fmt::Display for Recipe {
    /// The canonical text: what travels in outputs and what `plan --print-recipe` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = 1\nseed = {}", self.seed)?;
        if let Some(damping) = self.damping {
            writeln!(f, "damping = {}", toml::Value::Float(damping))?;
        }
        if !self.only.is_empty() {
            let globs: Vec<_> = self.only.iter().map(|g| quoted(g)).collect();
            writeln!(f, "only = [{}]", globs.join(", "))?;
        }
        for PatchRule { signature, alpha, transfer } in &self.patches {
            let path = quoted(&signature.to_string_lossy());
            writeln!(f, "\n[[patch]]\nsignature = {path}\nalpha = {}", toml::Value::Float(*alpha))?;
            if *transfer {
                writeln!(f, "transfer = true")?;
            }
        }
        if let Some(LayersRule { remove, halves, rule }) = &self.layers {
            writeln!(f, "\n[[layers]]\nremove = {remove:?}")?;
            if *halves {
                writeln!(f, "halves = true")?;
            }
            if let Some(rule) = rule {
                writeln!(f, "rule = \"{}\"", removable_name(*rule))?;
            }
        }
        self.folds.iter().try_for_each(|rule| f.write_str(&rule.text()))?;
        for rule in &self.rules {
            let (kind, body) = rule.text();
            writeln!(f, "\n[[{kind}]]\ntensors = {}", quoted(&rule.tensors))?;
            if rule.min_dims > 0 {
                writeln!(f, "min_dims = {}", rule.min_dims)?;
            }
            if rule.optional {
                writeln!(f, "optional = true")?;
            }
            f.write_str(&body)?;
        }
        Ok(())
    }
}

impl FoldRule {
    /// The table, as canonical text.
    fn text(&self) -> String {
        let Self { tensors, optional, criterion, alpha, steps } = self;
        let mut text = format!("\n[[fold]]\ntensors = {}\n", quoted(tensors));
        if *optional {
            text += "optional = true\n";
        }
        text += &format!("criterion = \"{criterion}\"\n");
        if let Some(alpha) = alpha {
            text += &format!("alpha = {}\n", toml::Value::Float(*alpha));
        }
        text + &format!("power_of_two = {}\n", *steps == Steps::PowersOfTwo)
    }
}

impl Rule {
    /// The table's name and its lines beyond those that all rules share.
    fn text(&self) -> (&'static str, String) {
        match &self.action {
            Action::Keep => ("keep", String::new()),
            Action::Encode { scheme: Scheme::Elastic(e), fit, .. } => {
                let widths = e.widths.to_string().replace(',', ", ");
                ("elastic", format!("widths = [{widths}]\ngroup = {}\nfit = \"{fit}\"\n", e.group.get()))
            }
            Action::Encode { scheme, fallback: Some(fallback), .. } => {
                ("quantize", format!("scheme = \"{scheme}\"\nfallback = \"{fallback}\"\n"))
            }
            Action::Encode { scheme, fit, .. } => ("quantize", format!("scheme = \"{scheme}\"\nfit = \"{fit}\"\n")),
            Action::Mask(MaskSource::Magnitude(Pattern::Keep(ratio))) => {
                ("mask", format!("pattern = {{ keep = {} }}\n", ratio.get()))
            }
            Action::Mask(MaskSource::Magnitude(Pattern::NofM(of))) => {
                ("mask", format!("pattern = {{ n = {}, m = {} }}\n", of.n(), of.m()))
            }
            Action::Mask(MaskSource::File(path)) => {
                ("mask", format!("pattern = {{ file = {} }}\n", quoted(&path.to_string_lossy())))
            }
        }
    }
}

/// The words for which blocks may go.
const REMOVABLE: [(&str, Removable); 3] =
    [("code", Removable::Code), ("paper", Removable::Paper), ("any", Removable::Any)];

fn removable_name(rule: Removable) -> &'static str {
    REMOVABLE.iter().find(|(_, other)| *other == rule).map_or("any", |(name, _)| name)
}

/// Text as a TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
