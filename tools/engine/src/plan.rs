//! A recipe resolved against one checkpoint: every tensor's fate, decided, sized and
//! printable before a byte moves.
//!
//! A plan knows names, dtypes and shapes, never weights; the one exception is the count of
//! set bits in a mask file, which decides sizes.

mod selection;

use globset::{Glob, GlobMatcher};
use niwaki_codes::{Elastic, Grouping, Scheme, Shape, Uniform};
use niwaki_container::{Layout, matrix};
use niwaki_quant::Fit;

use crate::block_rows;
use crate::destination::{Destination, Format, Settled};
use crate::error::{Error, ErrorKind};
use crate::fold::Folded;
use crate::layers::Fewer;
use crate::part::Said;
use crate::recipe::{Action, Recipe, Rule, glob_hint, unmatched};
use crate::source::{Origin, Source, SourceTensor};
use crate::stats::Stats;
use crate::weigh::Weighing;
pub use selection::Selection;
use selection::Selector;

/// What to do where a group does not divide a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// End the row in a short last group.
    #[default]
    Short,
    /// Refuse.
    Refuse,
}

/// Every tensor's fate, in the order in which they are written.
#[derive(Debug)]
pub struct Plan {
    /// The recipe that was resolved.
    pub recipe: Recipe,
    /// Where it leads.
    pub to: Destination,
    /// One entry for each tensor to write, in the order of the checkpoint.
    pub tensors: Vec<Planned>,
    /// Tensors of the checkpoint that are not written, and why.
    pub dropped: Vec<(String, &'static str)>,
    /// Tensors whose fit asks for what is known of their layers' inputs, where nothing is.
    pub unknown: Vec<String>,
    /// What is known of the inputs of layers.
    pub(crate) stats: Option<Stats>,
    /// What the output says of itself where it is a signature.
    pub(crate) signature: Option<serde_json::Value>,
    /// Which part of a larger plan this is, where it is one.
    pub(crate) part: Option<Said>,
}

/// What becomes of one tensor.
#[derive(Debug)]
pub struct Planned {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its index in the checkpoint.
    pub index: usize,
    /// Its name in the output.
    pub written: String,
    /// How its codes were stored, where it had such, in a word.
    pub coding: Option<String>,
    /// Whether its bytes or codes are taken over as they are.
    pub taken: bool,
    /// Whether patches or scales change its weights first.
    pub changed: bool,
    /// How it is stored: source type, shape, scheme, kept weights.
    pub layout: Layout,
    /// How the grid of its codes is chosen, where it has codes.
    pub fit: Fit,
    /// How the codes hang on what is known of the layer's inputs.
    pub weighing: Option<Weighing>,
    /// Which weights are stored; none for all.
    pub selection: Option<Selection>,
    /// The rules that decided, as text; none for tensors that no rule names.
    pub rule: Option<String>,
    /// Rules that matched and lost to a later one.
    pub shadowed: Vec<String>,
    /// What the rule does not say: why a tensor is carried after all, a type that stands in for
    /// another, codes that are encoded anew.
    pub note: Option<String>,
    /// Bytes in the checkpoint.
    pub bytes_before: u64,
    /// Bytes of all its parts.
    pub bytes_after: u64,
}

impl Planned {
    /// The word in reports: `keep`, `quantize`, `elastic`, `sparse`, or `decode` for codes that
    /// become the weights themselves.
    pub fn fate(&self) -> &'static str {
        match (self.layout.scheme, &self.selection) {
            (Some(_), _) if self.taken => "keep",
            (None, None) if self.coding.is_some() && self.elements() > 0 => "decode",
            (Some(Scheme::Elastic(_)), _) => "elastic",
            (Some(_), _) => "quantize",
            (None, Some(_)) => "sparse",
            (None, None) => "keep",
        }
    }

    /// How many weights it has.
    pub fn elements(&self) -> usize {
        self.layout.shape.elements()
    }

    /// Stores the weights themselves after all, for the reason given.
    pub(crate) fn keep(&mut self, tensor: &SourceTensor<'_>, plain: Settled, why: &str) -> Result<(), Error> {
        self.layout = plain.layout;
        self.selection = None;
        self.weighing = None;
        self.taken = tensor.takes_over(&self.layout);
        let decoded = self.coding.as_ref().map(|coding| format!("{coding} is decoded to {}", self.layout.dtype));
        let notes = [Some(why.to_owned()), decoded, plain.note];
        self.note = Some(notes.into_iter().flatten().collect::<Vec<_>>().join("; "));
        self.bytes_after = self.layout.bytes()?;
        Ok(())
    }
}

/// A rule with its glob compiled.
struct Matcher<'r> {
    rule: &'r Rule,
    glob: GlobMatcher,
    acted: bool,
    matched: bool,
    /// Whether `only` left a tensor out that it matches.
    excluded: bool,
}

/// A glob over names of tensors.
pub(crate) fn glob(text: &str) -> Result<GlobMatcher, Error> {
    let glob = Glob::new(text).map_err(|e| ErrorKind::Glob { glob: text.to_owned(), why: e.kind().to_string() })?;
    Ok(glob.compile_matcher())
}

impl Plan {
    /// Decides every tensor's fate.
    ///
    /// # Errors
    ///
    /// Rules that match nothing they could act on, globs and masks that are wrong, schemes
    /// that the destination does not hold, and under [`Tail::Refuse`] groups that do not
    /// divide. Containers of ours have been compressed already and are exported instead.
    pub fn new(source: &Source<'_>, recipe: Recipe, tail: Tail, to: Destination) -> Result<Self, Error> {
        if *source.origin() == Origin::Niwaki && !(recipe.rules.is_empty() && to.format() != Format::Safetensors) {
            let error = Error::from(ErrorKind::AlreadyQuantized { format: "niwaki".to_owned() });
            let hint = "`niwaki export --to safetensors` decodes it; `--to gguf` and others take its codes over";
            return Err(error.at(source.opened().path()).hinting(hint));
        }
        source.check_complete()?;
        if source.seals().len() != recipe.patches.len() {
            let (has, needs) = (source.seals().len(), recipe.patches.len());
            let what = format!("the recipe has {needs} patches, and the checkpoint is seen through {has}");
            return Err(ErrorKind::Usage { what }.into());
        }
        if source.fewer().map(Fewer::rule) != recipe.layers.as_ref() {
            let what = "the recipe removes blocks, and the checkpoint still has them, or has others".to_owned();
            return Err(ErrorKind::Usage { what }.into());
        }
        if source.folded().map_or(&[][..], Folded::rules) != recipe.folds {
            let what = "the recipe folds scales into weights, and the checkpoint has none, or others".to_owned();
            return Err(ErrorKind::Usage { what }.into());
        }
        recipe.check_damping()?;
        let only = recipe.only.iter().map(|g| glob(g)).collect::<Result<Vec<_>, _>>()?;
        let mut rules = Vec::with_capacity(recipe.rules.len());
        for rule in &recipe.rules {
            rules.push(Matcher { rule, glob: glob(&rule.tensors)?, acted: false, matched: false, excluded: false });
        }
        let mut only_matched = vec![false; only.len()];
        let mut selector = Selector::new(source, &recipe.rules);
        let (mut tensors, mut dropped) = (Vec::new(), Vec::new());
        for (index, tensor) in source.tensors().iter().enumerate() {
            let names = Named { own: tensor.name(), written: to.name(index, tensor.name()) };
            let mut allowed = only.is_empty();
            for (glob, matched) in only.iter().zip(&mut only_matched) {
                let hit = names.hit(glob);
                allowed |= hit;
                *matched |= hit;
            }
            let planned = decide((index, tensor), (&to, &names), allowed, &mut rules, &mut selector);
            let planned = planned.map_err(|e| e.of(tensor.name()).at(source.opened().path()))?;
            match names.written {
                Err(why) => dropped.push((tensor.name().to_owned(), why)),
                Ok(_) => {
                    let across = to.across(index, tensor.coding().is_some());
                    check_tail(&planned, tail, across.unwrap_or(planned.layout.matrix().1))?;
                    tensors.push(planned);
                }
            }
        }
        if !to.carries_all() {
            dropped.extend(source.left_out().iter().map(|(name, why)| ((*name).to_owned(), *why)));
        }
        if let Some(i) = only_matched.iter().position(|m| !m) {
            let names = source.tensors().iter().map(SourceTensor::name);
            return Err(unmatched(format!("only `{}`", recipe.only[i]), &recipe.only[i], names));
        }
        if let Some(m) = rules.iter().find(|m| !m.rule.optional && !m.acted) {
            return Err(no_match(m, source));
        }
        Ok(Self { recipe, to, tensors, dropped, unknown: Vec::new(), stats: None, signature: None, part: None })
    }

    /// Bytes of all tensors in the checkpoint.
    pub fn bytes_before(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes_before).sum()
    }

    /// Bytes of all parts to write, without header and padding.
    pub fn bytes_after(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes_after).sum()
    }

    /// Weights of all tensors.
    pub fn elements(&self) -> u64 {
        self.tensors.iter().map(|t| t.elements() as u64).sum()
    }
}

fn no_match(m: &Matcher<'_>, source: &Source<'_>) -> Error {
    let error = Error::from(ErrorKind::NoMatch { rule: m.rule.to_string() });
    if m.excluded {
        error.hinting("`only` names none of the tensors that it matches")
    } else if m.matched {
        error.hinting("the tensors it names are not floats, or have fewer dimensions than `min_dims`")
    } else if let Some(hint) = glob_hint(&m.rule.tensors, source.tensors().iter().map(SourceTensor::name)) {
        error.hinting(hint)
    } else {
        error.hinting("`niwaki inspect` lists the names; `optional = true` allows a rule to match nothing")
    }
}

/// The names by which rules know a tensor.
struct Named<'n> {
    own: &'n str,
    /// In the output; or why it is not there.
    written: Result<&'n str, &'static str>,
}

impl Named<'_> {
    fn hit(&self, glob: &GlobMatcher) -> bool {
        glob.is_match(self.own) || self.written.is_ok_and(|name| glob.is_match(name))
    }
}

/// The rules that hold for a tensor.
#[derive(Default)]
struct Ruled<'r> {
    encode: Option<&'r Rule>,
    mask: Option<&'r Rule>,
    shadowed: Vec<String>,
    note: Option<String>,
}

/// The last rule of each kind that matches.
fn rule<'r>(tensor: &SourceTensor<'_>, names: &Named<'_>, allowed: bool, rules: &mut [Matcher<'r>]) -> Ruled<'r> {
    let mut ruled = Ruled::default();
    for m in rules.iter_mut().filter(|m| names.hit(&m.glob)) {
        m.matched = true;
        if tensor.shape().dims().len() < m.rule.min_dims {
            continue;
        }
        if !tensor.is_float() && m.rule.action != Action::Keep {
            ruled.note = Some(format!("{} is carried as it is", tensor.dtype()));
            continue;
        }
        if !allowed {
            m.excluded = true;
            ruled.note = Some("not named by `only`".to_owned());
            continue;
        }
        m.acted = true;
        let slot = if matches!(m.rule.action, Action::Mask(_)) { &mut ruled.mask } else { &mut ruled.encode };
        if let Some(loser) = slot.replace(m.rule) {
            ruled.shadowed.push(loser.to_string());
        }
    }
    ruled
}

/// The scheme that a rule gives a tensor, and a note where it is the rule's fall-back.
fn scheme_of(ruled: &Ruled<'_>, shape: &Shape) -> (Option<(Scheme, Fit)>, Option<String>) {
    let Some(Action::Encode { scheme, fit, fallback }) = ruled.encode.map(|rule| &rule.action) else {
        return (None, None);
    };
    let row = shape.dims().last().copied().unwrap_or(0);
    match (scheme, fallback) {
        _ if shape.elements() == 0 => (None, None),
        (Scheme::Block(kind), Some(fallback)) if !row.is_multiple_of(kind.elements()) => {
            let note = format!("{kind} blocks of {} do not fill rows of {row}: {fallback}", kind.elements());
            (Some((Scheme::Block(*fallback), *fit)), Some(note))
        }
        _ => (Some((*scheme, *fit)), None),
    }
}

/// Refuses what no layout holds of schemes that hold every weight of a tensor.
fn check_whole(
    codes: Option<(Scheme, Fit)>,
    shape: &Shape,
    selection: &mut Option<Selection>,
    to: Format,
) -> Result<(), Error> {
    let Some((scheme @ (Scheme::Block(_) | Scheme::Float(_)), fit)) = codes else { return Ok(()) };
    // A mask that keeps all is none.
    *selection = selection.take().filter(|s| s.kept(shape).weights < shape.elements());
    match scheme {
        Scheme::Block(kind) => block_rows::check(kind, matrix(shape).1, fit, selection.is_some(), to == Format::Gguf),
        Scheme::Float(float) => block_rows::check_float(float, fit, selection.is_some()),
        _ => Ok(()),
    }
}

fn decide(
    (index, tensor): (usize, &SourceTensor<'_>),
    (to, names): (&Destination, &Named<'_>),
    allowed: bool,
    rules: &mut [Matcher<'_>],
    selector: &mut Selector,
) -> Result<Planned, Error> {
    let (shape, coding) = (tensor.shape(), tensor.coding());
    let ruled = rule(tensor, names, allowed, rules);
    let (codes, fallback) = scheme_of(&ruled, shape);
    let mut selection = match ruled.mask.map(|rule| &rule.action) {
        Some(Action::Mask(mask)) => selector.select(mask, tensor, to.format())?,
        _ => None,
    };
    check_whole(codes, shape, &mut selection, to.format())?;
    let settled = match names.written {
        Ok(_) => to.settle(index, tensor, codes)?,
        Err(_) => Settled::new(Layout::plain(tensor.dtype(), *shape), None),
    };
    let (kept, scheme) = (selection.as_ref().map(|s| s.kept(shape)), codes.map(|(scheme, _)| scheme));
    // A mask over codes that are there already stores the weights themselves.
    let layout = match kept {
        Some(_) => Layout { kept, scheme, ..settled.layout },
        None => settled.layout,
    };
    if coding.is_some() && (scheme.is_some() || kept.is_some()) {
        tensor.check_decodes()?;
    }
    // Codes that an export lays out anew have been through one rounding: the best fit is due.
    let fit = match codes {
        Some((_, fit)) => fit,
        None if coding.is_some() && to.format() != Format::Safetensors => Fit::Lsq,
        None => Fit::MinMax,
    };
    let taken = selection.is_none() && tensor.takes_over(&layout);
    let again = coding.as_ref().filter(|_| scheme.is_some() && !taken);
    let again = again.map(|coding| format!("encoded anew from {coding}"));
    let down = selection.as_ref().and_then(Selection::note);
    let others = [ruled.note, down, fallback, again, settled.note].into_iter().flatten();
    let remarks = tensor.remarks();
    let changed = !remarks.is_empty();
    let notes: Vec<String> = remarks.into_iter().chain(others).collect();
    let texts: Vec<String> = [ruled.encode, ruled.mask].into_iter().flatten().map(ToString::to_string).collect();
    Ok(Planned {
        name: tensor.name().to_owned(),
        index,
        written: names.written.unwrap_or_default().to_owned(),
        coding,
        taken,
        changed,
        layout,
        fit,
        weighing: None,
        selection,
        rule: (!texts.is_empty()).then(|| texts.join(", ")),
        shadowed: ruled.shadowed,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
        bytes_before: tensor.stored_bytes(),
        bytes_after: match settled.bytes {
            Some(bytes) => bytes,
            None => layout.bytes()?,
        },
    })
}

fn check_tail(t: &Planned, tail: Tail, row: usize) -> Result<(), Error> {
    let group = match t.layout.scheme {
        Some(Scheme::Uniform(Uniform { grouping: Grouping::Group(group), .. })) => group.get(),
        Some(Scheme::Elastic(Elastic { group, .. })) => group.get(),
        _ => return Ok(()),
    };
    if tail == Tail::Refuse && t.selection.is_none() && !row.is_multiple_of(group) {
        let error = Error::from(ErrorKind::Tail { row, group });
        return Err(error.of(&t.name).hinting("`--tail short` ends such rows in a short last group"));
    }
    Ok(())
}
