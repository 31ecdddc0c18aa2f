//! A recipe resolved against one checkpoint: every tensor's fate, decided, sized and
//! printable before a byte moves.
//!
//! A plan knows names, dtypes and shapes, never weights; the one exception is the count of
//! set bits in a mask file, which decides sizes.

use globset::{Glob, GlobMatcher};
use niwaki_codes::{Elastic, Grouping, Mask, Scheme, Shape, Uniform};
use niwaki_container::{Layout, META_KEY, matrix};
use niwaki_prune::Pattern;
use niwaki_quant::Fit;
use niwaki_tensors::{Checkpoint, TensorView, decodes_to_f32};

use crate::block_rows;
use crate::error::{Blame, Error, ErrorKind};
use crate::masks::MaskFiles;
use crate::recipe::{Action, MaskSource, Recipe, Rule};

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
    /// One entry for each tensor of the checkpoint, in its order.
    pub tensors: Vec<Planned>,
}

/// What becomes of one tensor.
#[derive(Debug)]
pub struct Planned {
    /// Its name in the checkpoint.
    pub name: String,
    /// How it is stored: source type, shape, scheme, kept weights.
    pub layout: Layout,
    /// How the grid of its codes is chosen, where it has codes.
    pub fit: Fit,
    /// Which weights are stored; none for all.
    pub selection: Option<Selection>,
    /// The rules that decided, as text; none for tensors that no rule names.
    pub rule: Option<String>,
    /// Rules that matched and lost to a later one.
    pub shadowed: Vec<String>,
    /// Why a tensor is carried although a rule names it.
    pub note: Option<String>,
    /// Bytes in the checkpoint.
    pub bytes_before: u64,
    /// Bytes of all its parts.
    pub bytes_after: u64,
}

/// Which weights of a masked tensor are stored.
#[derive(Debug, PartialEq)]
pub enum Selection {
    /// The largest magnitudes.
    Magnitude(Pattern),
    /// A given mask.
    Given(Mask),
}

impl Planned {
    /// The word in reports: `keep`, `quantize`, `elastic` or `sparse`.
    pub fn fate(&self) -> &'static str {
        match (self.layout.scheme, &self.selection) {
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

    /// Carries the tensor as it is after all, for the reason given.
    pub fn keep(&mut self, note: String) {
        self.layout = Layout::plain(self.layout.dtype, self.layout.shape);
        self.selection = None;
        self.note = Some(note);
        self.bytes_after = self.bytes_before;
    }
}

/// A rule with its glob compiled.
struct Matcher<'r> {
    rule: &'r Rule,
    glob: GlobMatcher,
    acted: bool,
    matched: bool,
}

fn glob(text: &str) -> Result<GlobMatcher, Error> {
    let glob = Glob::new(text).map_err(|e| ErrorKind::Glob { glob: text.to_owned(), why: e.kind().to_string() })?;
    Ok(glob.compile_matcher())
}

impl Plan {
    /// Decides every tensor's fate.
    ///
    /// # Errors
    ///
    /// Inputs that are quantized already, rules that match nothing they could act on, globs
    /// and masks that are wrong, and under [`Tail::Refuse`] groups that do not divide.
    pub fn new(checkpoint: &Checkpoint, recipe: Recipe, tail: Tail) -> Result<Self, Error> {
        if let Some(foreign) = checkpoint.foreign() {
            let error = Error::from(ErrorKind::AlreadyQuantized { format: foreign.kind().to_string() });
            return Err(error.of(foreign.tensor()).at(checkpoint.path()).hinting(foreign.hint()));
        }
        if checkpoint.metadata().contains_key(META_KEY) {
            let error = Error::from(ErrorKind::AlreadyQuantized { format: "niwaki".to_owned() }).at(checkpoint.path());
            return Err(error.hinting("`niwaki export --to safetensors` decodes it"));
        }
        let only = recipe.only.iter().map(|g| glob(g)).collect::<Result<Vec<_>, _>>()?;
        let mut rules = Vec::with_capacity(recipe.rules.len());
        for rule in &recipe.rules {
            rules.push(Matcher { rule, glob: glob(&rule.tensors)?, acted: false, matched: false });
        }
        let mut only_matched = vec![false; only.len()];
        let mut masks = MaskFiles::default();
        let mut tensors = Vec::new();
        for view in checkpoint.tensors() {
            let name = view.name();
            let mut allowed = only.is_empty();
            for (glob, matched) in only.iter().zip(&mut only_matched) {
                let hit = glob.is_match(name);
                allowed |= hit;
                *matched |= hit;
            }
            let planned = decide(&view, allowed, &mut rules, &mut masks)?;
            check_tail(&planned, tail)?;
            tensors.push(planned);
        }
        if let Some(i) = only_matched.iter().position(|m| !m) {
            return Err(ErrorKind::NoMatch { rule: format!("only `{}`", recipe.only[i]) }.into());
        }
        if let Some(m) = rules.iter().find(|m| !m.rule.optional && !m.acted) {
            return Err(no_match(m));
        }
        Ok(Self { recipe, tensors })
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

fn no_match(m: &Matcher<'_>) -> Error {
    let error = Error::from(ErrorKind::NoMatch { rule: m.rule.to_string() });
    if m.matched {
        error.hinting("the tensors it names are not floats, or have fewer dimensions than `min_dims`")
    } else {
        error.hinting("`niwaki inspect` lists the names; `optional = true` allows a rule to match nothing")
    }
}

fn decide(
    view: &TensorView<'_>,
    allowed: bool,
    rules: &mut [Matcher<'_>],
    masks: &mut MaskFiles,
) -> Result<Planned, Error> {
    let dtype = view.dtype();
    let shape = Shape::new(view.shape()).map_err(|e| Error::below(e, Blame::Input).of(view.name()))?;
    let float = decodes_to_f32(dtype);
    let (mut encode, mut mask) = (None, None);
    let (mut shadowed, mut note) = (Vec::new(), None);
    for m in rules.iter_mut().filter(|m| m.glob.is_match(view.name())) {
        m.matched = true;
        if shape.dims().len() < m.rule.min_dims {
            continue;
        }
        if !float && m.rule.action != Action::Keep {
            note = Some(format!("{} is carried as it is", dtype));
            continue;
        }
        if !allowed {
            note = Some("not named by `only`".to_owned());
            continue;
        }
        m.acted = true;
        let slot = if matches!(m.rule.action, Action::Mask(_)) { &mut mask } else { &mut encode };
        if let Some(loser) = slot.replace(m.rule) {
            shadowed.push(loser.to_string());
        }
    }
    let codes = encode.and_then(|rule: &Rule| match rule.action {
        Action::Encode { scheme, fit } => Some((scheme, fit)),
        Action::Keep | Action::Mask(_) => None,
    });
    let mut selection = match mask.map(|rule: &Rule| &rule.action) {
        _ if shape.elements() == 0 => None,
        Some(Action::Mask(MaskSource::Magnitude(pattern))) => Some(Selection::Magnitude(*pattern)),
        Some(Action::Mask(MaskSource::File(path))) => {
            Some(Selection::Given(masks.mask(path, view.name(), matrix(&shape))?))
        }
        _ => None,
    };
    let texts: Vec<String> = [encode, mask].into_iter().flatten().map(ToString::to_string).collect();
    let scheme = codes.map(|(scheme, _)| scheme).filter(|_| shape.elements() > 0);
    let fit = codes.map_or(Fit::MinMax, |(_, fit)| fit);
    if let Some(Scheme::Block(kind)) = scheme {
        // A mask that keeps all is none.
        selection = selection.filter(|s| s.kept(&shape) < shape.elements());
        block_rows::check(kind, matrix(&shape).1, fit, selection.is_some()).map_err(|e| e.of(view.name()))?;
    }
    let layout = Layout { dtype, shape, scheme, kept: selection.as_ref().map(|s| s.kept(&shape)) };
    Ok(Planned {
        name: view.name().to_owned(),
        layout,
        fit,
        selection,
        rule: (!texts.is_empty()).then(|| texts.join(", ")),
        shadowed,
        note,
        bytes_before: view.bytes().len() as u64,
        bytes_after: layout.bytes().map_err(|e| Error::from(e).of(view.name()))?,
    })
}

impl Selection {
    /// How many weights of a tensor it keeps.
    fn kept(&self, shape: &Shape) -> usize {
        let (rows, cols) = matrix(shape);
        match self {
            Self::Magnitude(pattern) => pattern.kept_count(rows, cols) as usize,
            Self::Given(mask) => mask.kept(),
        }
    }
}

fn check_tail(t: &Planned, tail: Tail) -> Result<(), Error> {
    let group = match t.layout.scheme {
        Some(Scheme::Uniform(Uniform { grouping: Grouping::Group(group), .. })) => group.get(),
        Some(Scheme::Elastic(Elastic { group, .. })) => group.get(),
        _ => return Ok(()),
    };
    let (_, row) = t.layout.matrix();
    if tail == Tail::Refuse && t.selection.is_none() && !row.is_multiple_of(group) {
        let error = Error::from(ErrorKind::Tail { row, group });
        return Err(error.of(&t.name).hinting("`--tail short` ends such rows in a short last group"));
    }
    Ok(())
}
