//! `plan`: every tensor's fate, before a byte is written.

use niwaki_engine::Folded;
use niwaki_engine::fold::{Left, Place};
use niwaki_engine::plan::{Plan, Planned};
use niwaki_engine::source::SourceTensor;
use serde::Serialize;

use super::patches::Open;
use super::{listed, open, percent, selection, shape_text};
use crate::args;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Json<'a> {
    input_bytes: u64,
    output_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Gone<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folded: Option<Scales<'a>>,
    tensors: Vec<Tensor<'a>>,
    dropped: Vec<Dropped<'a>>,
}

/// Blocks that go before anything else is done.
#[derive(Serialize)]
struct Gone<'a> {
    blocks: &'a [usize],
    bytes: u64,
}

/// Scales that go into weights.
#[derive(Serialize)]
struct Scales<'a> {
    places: &'a [Place],
    left: &'a [Left],
}

/// A tensor that is not written.
#[derive(Serialize)]
struct Dropped<'a> {
    name: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    shape: Vec<usize>,
    fate: &'static str,
    scheme: Option<String>,
    rule: Option<&'a str>,
    bytes_before: u64,
    bytes_after: u64,
    shadowed: &'a [String],
    note: Option<&'a str>,
}

#[derive(Serialize)]
struct RecipeText {
    recipe: String,
}

impl<'a> From<&'a Planned> for Tensor<'a> {
    fn from(t: &'a Planned) -> Self {
        Self {
            name: &t.name,
            shape: t.layout.shape.dims().to_vec(),
            fate: t.fate(),
            scheme: t.layout.scheme.map(|s| s.to_string()),
            rule: t.rule.as_deref(),
            bytes_before: t.bytes_before,
            bytes_after: t.bytes_after,
            shadowed: &t.shadowed,
            note: t.note.as_deref(),
        }
    }
}

/// Prints the plan, or the recipe that it follows.
pub(crate) fn run(args: &args::Plan, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let opened = open(&args.ckpt)?;
    let source = opened.source(None, selection::names(&args.selection.to))?;
    let given = selection::given(&args.selection)?;
    let fewer = selection::fewer(&opened, given.as_ref())?;
    let whole: u64 = source.tensors().iter().map(SourceTensor::stored_bytes).sum();
    let source = selection::without(fewer.as_ref(), source)?;
    let (destination, recipe) = selection::resolve(&source, &args.selection, given, session)?;
    if args.print_recipe {
        let recipe = recipe.to_string();
        if session.global.json {
            session.json(&RecipeText { recipe })?;
        } else {
            session.write(recipe.as_bytes())?;
        }
        return Ok(Answer::Yes);
    }
    let patches = Open::of_recipe(&recipe)?;
    let source = patches.over(&opened, None, selection::names(&args.selection.to))?;
    let source = selection::without(fewer.as_ref(), source)?;
    let gone = fewer.as_ref().map(|fewer| {
        let stays: u64 = source.tensors().iter().map(SourceTensor::stored_bytes).sum();
        Gone { blocks: fewer.removed(), bytes: whole.saturating_sub(stays) }
    });
    let folded = selection::folded(&source, &recipe, (&args.selection, &destination), session)?;
    let source = selection::over(folded.as_ref(), source);
    let plan = selection::plan(&source, recipe, &args.selection, destination, session)?;
    let (before, after) = (plan.bytes_before(), plan.bytes_after());
    if session.global.json {
        let tensors = plan.tensors.iter().map(Tensor::from).collect();
        let dropped = plan.dropped.iter().map(|(name, why)| Dropped { name, why }).collect();
        let folded = folded.as_ref().map(|folded| Scales { places: folded.places(), left: folded.left() });
        session.json(&Json { input_bytes: before, output_bytes: after, removed: gone, folded, tensors, dropped })?;
        return Ok(Answer::Yes);
    }
    session.say_all(table(&plan).lines())?;
    if let Some(Gone { blocks, bytes }) = gone {
        session.say(format!("without {}, {}", listed(blocks), human(bytes)))?;
    }
    if let Some(folded) = &folded {
        session.say(scales(folded))?;
    }
    Ok(Answer::Yes)
}

/// What becomes of every tensor, and of all together.
fn table(plan: &Plan) -> Table {
    let (before, after) = (plan.bytes_before(), plan.bytes_after());
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("shape", Side::Left),
        ("fate", Side::Left),
        ("before", Side::Right),
        ("after", Side::Right),
        ("rule", Side::Left),
    ]);
    for t in &plan.tensors {
        table.row([
            t.name.clone(),
            shape_text(t.layout.shape.dims()),
            t.fate().to_owned(),
            human(t.bytes_before),
            human(t.bytes_after),
            reason(t),
        ]);
    }
    for (name, why) in &plan.dropped {
        let none = || "-".to_owned();
        table.row([name.clone(), none(), "drop".to_owned(), none(), none(), (*why).to_owned()]);
    }
    table.row(["total".to_owned(), String::new(), String::new(), human(before), human(after), percent(after, before)]);
    table
}

/// Where scales go, and their exponents.
fn scales(folded: &Folded) -> String {
    let alphas = || folded.places().iter().map(|place| place.alpha);
    let (least, most) = (alphas().fold(1.0, f64::min), alphas().fold(0.0, f64::max));
    let between = if least < most { format!("alpha {least} to {most}") } else { format!("alpha {most}") };
    match folded.places().len() {
        0 => "no scales folded".to_owned(),
        1 => format!("scales folded at 1 place, {between}"),
        places => format!("scales folded at {places} places, {between}"),
    }
}

/// The rule that decided, what it overrules, and why a tensor is carried all the same.
fn reason(t: &Planned) -> String {
    let mut text = t.rule.clone().unwrap_or_else(|| match t.note {
        Some(_) => String::new(),
        None => "no rule names it".to_owned(),
    });
    if t.elements() == 0 && t.rule.is_some() {
        text += "; it has no weights";
    }
    if let Some(note) = &t.note {
        text = if text.is_empty() { note.clone() } else { format!("{text}; {note}") };
    }
    if !t.shadowed.is_empty() {
        text = format!("{text} (over {})", t.shadowed.join(", "));
    }
    text
}
