//! Scales that go from the inputs of a model's products into its weights: what `[[fold]]` of a recipe does.
//!
//! ```text
//! makers --x--> takers            y = W x
//! rows / s      columns · s       y = (W diag(s)) (x / s)
//! ```
//!
//! Where that changes nothing, the family of the model says ([`Pairs`]); by which scales, statistics of inputs and the
//! criterion of the rule. Nothing is written in between: whoever reads the checkpoint through them sees the scaled weights,
//! and statistics of inputs are seen divided.

mod choose;
mod scaled;

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::GlobMatcher;
use niwaki_container::Digest;
use niwaki_model::hf::{Config, Pair, Pairs, Unpaired};
use serde::Serialize;

use crate::destination::Destination;
use crate::error::{Error, ErrorKind};
use crate::layers::Fewer;
use crate::plan::glob;
use crate::progress::Progress;
use crate::recipe::{Action, FoldRule, Recipe, glob_hint};
use crate::source::{Opened, Origin, Source, SourceTensor};
use crate::stats::Stats;
use choose::{Chosen, Taker, choose};
use scaled::{Factors, Scaled};

/// The scales of a checkpoint, chosen.
#[derive(Debug)]
pub struct Folded {
    rules: Vec<FoldRule>,
    /// The digest of the statistics that they were chosen by.
    stats: Digest,
    places: Vec<Place>,
    left: Vec<Left>,
    /// By tensor.
    factors: BTreeMap<String, Factors>,
}

/// Products with the same inputs, and where their scales go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The weights that make the inputs: their rows are divided.
    pub makers: Vec<String>,
    /// The weights of the products: their columns are multiplied.
    pub takers: Vec<String>,
    /// The rule, as text.
    pub rule: String,
    /// The exponent.
    pub alpha: f64,
    /// What codes lose of the outputs without the scales and with them, as shares; none where no exponent was searched.
    pub noise: Option<[f64; 2]>,
}

/// Products that a rule names and whose inputs stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Left {
    /// Their weights.
    pub takers: Vec<String>,
    /// Why.
    pub why: &'static str,
}

/// A rule with its glob compiled.
struct Matcher<'r> {
    rule: &'r FoldRule,
    glob: GlobMatcher,
    acted: bool,
    /// Why it did not act where it matched.
    why: Option<&'static str>,
}

/// The tensors of a checkpoint as the rules of a recipe know them.
struct Tensors<'t, 's> {
    source: &'t Source<'s>,
    to: &'t Destination,
    places: BTreeMap<&'t str, usize>,
    recipe: &'t Recipe,
    only: Vec<GlobMatcher>,
    /// The globs of the recipe's rules.
    rules: Vec<GlobMatcher>,
}

impl Folded {
    /// Chooses the scales that a recipe asks for.
    ///
    /// `progress` is told the places that are done, and all there are.
    ///
    /// # Errors
    ///
    /// What is no Hugging Face folder of floats, or of a family that is not supported; no statistics, or those of another
    /// checkpoint, or without what a criterion needs; rules that name nothing whose inputs can be divided; weights that are
    /// missing, of other shapes than the model says, or not finite.
    pub fn new(
        source: &Source<'_>,
        recipe: &Recipe,
        stats: Option<&Stats>,
        to: &Destination,
        progress: Progress<'_>,
    ) -> Result<Self, Error> {
        let path = source.opened().path();
        let pairs = pairs(source)?;
        let Some(stats) = stats else {
            let what = "`[[fold]]` without statistics of the layers' inputs".to_owned();
            let error = Error::from(ErrorKind::Usage { what }).at(path);
            return Err(error.hinting("`calibrate` makes them, `--stats` takes them"));
        };
        stats.check(source)?;
        let tensors = Tensors::new(source, recipe, to)?;
        let mut folded = Self {
            rules: recipe.folds.clone(),
            stats: stats.digest(),
            places: Vec::new(),
            left: Vec::new(),
            factors: BTreeMap::new(),
        };
        let mut rules = recipe.folds.iter().map(Matcher::new).collect::<Result<Vec<_>, _>>()?;
        for Unpaired { takers, why } in pairs.unpaired {
            if let Some(matcher) = last(&mut rules, &tensors, &takers) {
                folded.leave(matcher, takers, why);
            }
        }
        for (nth, pair) in pairs.found.iter().enumerate() {
            if let Some(matcher) = last(&mut rules, &tensors, &pair.takers) {
                folded.place(pair, matcher, &tensors, stats).map_err(|e| e.at(path))?;
            }
            progress(nth as u64 + 1, pairs.found.len() as u64);
        }
        match rules.iter().find(|matcher| !matcher.acted && !matcher.rule.optional) {
            Some(matcher) => Err(matcher.acts_nowhere(pairs.found.iter().flat_map(|pair| &pair.takers))),
            None => Ok(folded),
        }
    }

    /// The rules that the scales are those of.
    pub fn rules(&self) -> &[FoldRule] {
        &self.rules
    }

    /// Where scales go, layer by layer.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What the rules name and where no scales go.
    pub fn left(&self) -> &[Left] {
        &self.left
    }

    /// The checkpoint with the scales in its weights.
    pub fn over<'a>(&'a self, source: Source<'a>) -> Source<'a> {
        let seen = |tensor: &SourceTensor<'a>| match self.factors.get(tensor.name()) {
            Some(factors) => {
                let scaled = Scaled { base: tensor.clone(), factors };
                tensor.folded(Arc::new(scaled), factors.how.join(", "))
            }
            None => tensor.clone(),
        };
        let tensors = source.tensors().iter().map(seen).collect();
        source.folding(tensors, self)
    }

    /// The digest of the statistics that they were chosen by.
    pub(crate) fn stats(&self) -> Digest {
        self.stats
    }

    /// Statistics of the inputs that its layers have with the scales.
    pub(crate) fn over_stats(&self, stats: Stats, source: &Source<'_>) -> Result<Stats, Error> {
        if stats.digest() != self.stats {
            stats.check(source)?;
        }
        let divisors = self.factors.iter().filter_map(|(name, factors)| Some((name.clone(), factors.columns.clone()?)));
        Ok(stats.divided(divisors.collect()))
    }

    fn leave(&mut self, matcher: &mut Matcher<'_>, takers: Vec<String>, why: &'static str) {
        matcher.why.get_or_insert(why);
        self.left.push(Left { takers, why });
    }

    /// Chooses the scales of a place by the rule that names it.
    fn place(
        &mut self,
        pair: &Pair,
        matcher: &mut Matcher<'_>,
        tensors: &Tensors<'_, '_>,
        stats: &Stats,
    ) -> Result<(), Error> {
        if !tensors.allowed(pair) {
            self.leave(matcher, pair.takers.clone(), "`only` does not name all tensors that scales would change");
            return Ok(());
        }
        let takers = tensors.check(pair)?;
        let Some(Chosen { alpha, scales, noise }) = choose(pair, matcher.rule, &takers, stats)? else {
            self.leave(
                matcher,
                pair.takers.clone(),
                "nothing encodes them, so nothing tells an exponent; `alpha` does",
            );
            return Ok(());
        };
        matcher.acted = true;
        let (makers, takers, rule) = (pair.makers.clone(), pair.takers.clone(), matcher.rule.to_string());
        self.places.push(Place { makers, takers, rule, alpha, noise });
        if scales.iter().all(|scale| *scale == 1.0) {
            return Ok(());
        }
        let by = format!("{} {alpha}", matcher.rule.criterion);
        let columns: Vec<f32> = (0..pair.columns()).map(|column| scales[pair.channel(column)]).collect();
        for maker in &pair.makers {
            let factors = self.factors.entry(maker.clone()).or_default();
            factors.rows = Some(scales.clone());
            factors.how.push(format!("rows by {by}"));
        }
        for taker in &pair.takers {
            let factors = self.factors.entry(taker.clone()).or_default();
            factors.columns = Some(columns.clone());
            factors.how.push(format!("columns by {by}"));
        }
        Ok(())
    }
}

/// What makes the inputs of a model's products.
fn pairs(source: &Source<'_>) -> Result<Pairs, Error> {
    let path = source.opened().path();
    let unlike = |what: &str, hint: &str| {
        let what = what.to_owned();
        Err(Error::from(ErrorKind::Unsupported { what }).at(path).hinting(hint))
    };
    if !matches!(source.opened(), Opened::Tensors(_)) || !path.join("config.json").is_file() {
        let hint = "of an ONNX model, a GGUF file or bare tensors it is not known what makes the inputs of a product";
        return unlike("`[[fold]]` of what is no Hugging Face folder", hint);
    }
    if *source.origin() != Origin::Plain {
        return unlike("`[[fold]]` of a checkpoint that is compressed", "fold scales first, then compress");
    }
    let config = match source.fewer().and_then(Fewer::config) {
        Some(text) => Config::parse(text.as_bytes()),
        None => Config::open(path),
    };
    let config = config.map_err(|e| e.at(path))?;
    Ok(Pairs::of(&config, &|name| source.get(name).is_some()).map_err(|e| e.at(path))?)
}

/// The last rule that names one of the products; others that do are heard too.
fn last<'m, 'r>(
    rules: &'m mut [Matcher<'r>],
    tensors: &Tensors<'_, '_>,
    takers: &[String],
) -> Option<&'m mut Matcher<'r>> {
    let named = |matcher: &&mut Matcher<'r>| takers.iter().any(|taker| tensors.hit(&matcher.glob, taker));
    let mut all = rules.iter_mut().rev().filter(named);
    let last = all.next();
    all.for_each(|matcher| matcher.acted = true);
    last
}

impl<'r> Matcher<'r> {
    fn new(rule: &'r FoldRule) -> Result<Self, Error> {
        Ok(Self { rule, glob: glob(&rule.tensors)?, acted: false, why: None })
    }

    /// The error of a rule that acts nowhere; `takers` are weights that it could act on.
    fn acts_nowhere<'n>(&self, takers: impl Iterator<Item = &'n String>) -> Error {
        let error = Error::from(ErrorKind::NoMatch { rule: self.rule.to_string() });
        match self.why {
            Some(why) => error.hinting(why),
            None => match glob_hint(&self.rule.tensors, takers.map(String::as_str)) {
                Some(hint) => error.hinting(hint),
                None => error.hinting("it names products by their weights; `*` names all that scales may go into"),
            },
        }
    }
}

impl<'t, 's> Tensors<'t, 's> {
    fn new(source: &'t Source<'s>, recipe: &'t Recipe, to: &'t Destination) -> Result<Self, Error> {
        Ok(Self {
            source,
            to,
            places: source.tensors().iter().enumerate().map(|(at, tensor)| (tensor.name(), at)).collect(),
            recipe,
            only: recipe.only.iter().map(|text| glob(text)).collect::<Result<_, _>>()?,
            rules: recipe.rules.iter().map(|rule| glob(&rule.tensors)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether a glob names a tensor, by its name here or in the output.
    fn hit(&self, glob: &GlobMatcher, name: &str) -> bool {
        let written = || self.places.get(name).and_then(|at| self.to.name(*at, name).ok());
        glob.is_match(name) || written().is_some_and(|name| glob.is_match(name))
    }

    /// Whether `only` lets rules change all tensors of a place.
    fn allowed(&self, pair: &Pair) -> bool {
        let named = |name: &String| self.only.iter().any(|glob| self.hit(glob, name));
        self.only.is_empty() || pair.makers.iter().chain(&pair.takers).all(named)
    }

    /// The products of a place, whose tensors must be there as the model says.
    fn check(&self, pair: &Pair) -> Result<Vec<Taker<'t, 's>>, Error> {
        for maker in &pair.makers {
            let dims = self.tensor(maker)?.shape().dims();
            if dims.first() != Some(&pair.channels) || dims.len() > 2 {
                let what = format!("has the shape {dims:?}; the model says {} rows", pair.channels);
                return Err(Error::from(ErrorKind::Unlike { what }).of(maker));
            }
        }
        let taker = |name: &String| {
            let tensor = self.tensor(name)?;
            let dims = tensor.shape().dims();
            if dims.len() != 2 || dims.last() != Some(&pair.columns()) {
                let what = format!("has the shape {dims:?}; the model says rows of {}", pair.columns());
                return Err(Error::from(ErrorKind::Unlike { what }).of(name));
            }
            Ok(Taker { tensor, encoding: self.encoding(tensor) })
        };
        pair.takers.iter().map(taker).collect()
    }

    fn tensor(&self, name: &str) -> Result<&'t SourceTensor<'s>, Error> {
        let found = self.places.get(name).and_then(|at| self.source.tensors().get(*at));
        let found = found.filter(|tensor| tensor.is_float());
        found.ok_or_else(|| Error::from(ErrorKind::Unlike { what: "is not there, as floats".to_owned() }).of(name))
    }

    /// How the recipe encodes a tensor, where it does: the last rule counts.
    fn encoding(&self, tensor: &SourceTensor<'_>) -> Option<(niwaki_codes::Scheme, niwaki_quant::Fit)> {
        let dims = tensor.shape().dims().len();
        let named = self.recipe.rules.iter().zip(&self.rules).filter(|(rule, glob)| {
            rule.min_dims <= dims && !matches!(rule.action, Action::Mask(_)) && self.hit(glob, tensor.name())
        });
        match named.last().map(|(rule, _)| &rule.action) {
            Some(Action::Encode { scheme, fit, .. }) => Some((*scheme, *fit)),
            _ => None,
        }
    }
}
