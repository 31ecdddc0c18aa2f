//! `inspect`: what is inside a file.

use niwaki_engine::inspect::{Inspection, TensorInspection, inspect};

use super::shape_text;
use crate::args::Inspect;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

/// Lists tensors.
pub(crate) fn run(args: &Inspect, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let found = inspect(&args.file)?;
    if session.global.json {
        session.json(&found)?;
        return Ok(Answer::Yes);
    }
    session.say(heading(&found))?;
    session.say("")?;
    session.say_all(table(&found).lines())?;
    Ok(Answer::Yes)
}

fn heading(found: &Inspection) -> String {
    let tensors = match found.tensors.len() {
        1 => "1 tensor".to_owned(),
        n => format!("{n} tensors"),
    };
    let kind = if found.kind == "niwaki" { "compressed by niwaki" } else { "plain safetensors" };
    let mut text = format!("{kind}: {tensors}, {} weights, {}", found.parameters, human(found.bytes));
    if found.kind == "niwaki" && found.parameters > 0 {
        text += &format!(", {:.2} bits per weight", found.bytes as f64 * 8.0 / found.parameters as f64);
    }
    text
}

fn table(found: &Inspection) -> Table {
    let mut columns = vec![("name", Side::Left), ("type", Side::Left), ("shape", Side::Left), ("size", Side::Right)];
    if found.kind == "niwaki" {
        columns.push(("stored as", Side::Left));
    }
    let mut table = Table::new(&columns);
    for t in &found.tensors {
        table.row(
            [t.name.clone(), t.dtype.clone(), shape_text(&t.shape), human(t.bytes), stored_as(t)]
                .into_iter()
                .take(columns.len()),
        );
    }
    table
}

fn stored_as(t: &TensorInspection) -> String {
    let mut text = t.scheme.clone().unwrap_or_else(|| if t.masked { "sparse" } else { "as it was" }.to_owned());
    if t.masked && t.scheme.is_some() {
        text += ", sparse";
    }
    if let (Some(first), Some(last)) = (t.widths.first(), t.widths.last()) {
        text += &format!(", readable at {first} to {last} bits");
    }
    text
}
