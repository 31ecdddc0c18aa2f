//! `inspect`: what is inside a file.

use niwaki_engine::inspect::{Inspection, TensorInspection, Value, dims_text, inspect};
use niwaki_engine::{Names, Opened};
use serde::Serialize;

use super::patches::Open;
use super::{counted, on_threads, open, shape_text};
use crate::args::Inspect;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    found: Inspection,
    #[serde(flatten)]
    origin: Origin,
}

/// Where a container comes from; nothing for plain checkpoints.
#[derive(Serialize)]
struct Origin {
    digest: Option<String>,
    source: Option<String>,
    recipe: Option<String>,
    /// Patches that were merged into it, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    patches: Vec<Merged>,
}

/// A patch that was merged into a container.
#[derive(Serialize)]
struct Merged {
    name: String,
    alpha: f64,
}

impl Origin {
    fn of(opened: &Opened) -> Self {
        let artifact = opened.artifact();
        let meta = artifact.and_then(|artifact| artifact.metas().first());
        let gguf = match opened {
            Opened::Gguf(gguf) => gguf.metadata().text("niwaki.recipe").map(str::to_owned),
            Opened::Tensors(_) | Opened::Onnx(_) => None,
        };
        Self {
            digest: artifact.and_then(niwaki_container::Artifact::digest).map(|d| d.to_string()),
            source: artifact.and_then(niwaki_container::Artifact::source_digest).map(|d| d.to_string()),
            recipe: meta.and_then(|m| m.recipe.clone()).or(gguf),
            patches: meta.map(|m| m.patches.as_slice()).unwrap_or_default().iter().map(Merged::of).collect(),
        }
    }
}

impl Merged {
    fn of(patch: &niwaki_container::Patch) -> Self {
        Self { name: patch.name.clone(), alpha: patch.alpha }
    }
}

/// Lists tensors, and where the file comes from.
pub(crate) fn run(args: &Inspect, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let opened = open(&args.file)?;
    let origin = Origin::of(&opened);
    // Whether they fit; what is stored stays what it is.
    let patches = Open::new(&args.patches)?;
    patches.over(&opened, None, Names::Own)?;
    let found = on_threads(session, || inspect(&opened))?;
    if session.global.json {
        session.json(&Json { found, origin })?;
        return Ok(Answer::Yes);
    }
    session.say(heading(&found))?;
    for (word, digest) in [("digest", &origin.digest), ("made from", &origin.source)] {
        if let Some(digest) = digest {
            session.say(format!("{word} {digest}"))?;
        }
    }
    for Merged { name, alpha } in &origin.patches {
        session.say(format!("patched with {name}@{alpha}"))?;
    }
    session.say_all(model(&found))?;
    session.say("")?;
    session.say_all(table(&found).lines())?;
    if session.global.verbose > 0
        && let Some(recipe) = &origin.recipe
    {
        session.say("")?;
        session.say_all(recipe.lines().map(str::to_owned))?;
    }
    Ok(Answer::Yes)
}

fn heading(found: &Inspection) -> String {
    let tensors = counted(found.tensors.len());
    let kind = match found.kind.as_str() {
        "niwaki" => "compressed by niwaki".to_owned(),
        "safetensors" => "plain safetensors".to_owned(),
        "gguf" => "GGUF".to_owned(),
        "onnx" => "ONNX".to_owned(),
        tool => format!("quantized, {tool}"),
    };
    let mut text = format!("{kind}: {tensors}, {} weights, {}", found.parameters, human(found.bytes));
    if found.kind != "safetensors" && found.parameters > 0 {
        text += &format!(", {:.2} bits per weight", found.bytes as f64 * 8.0 / found.parameters as f64);
    }
    text
}

/// What there is to say of a model besides its tensors.
fn model(found: &Inspection) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(graph) = &found.graph {
        let mut operators: Vec<_> = graph.operators.iter().collect();
        operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
        let each: Vec<_> = operators.iter().map(|(name, count)| format!("{count} {name}")).collect();
        lines.push(format!("{} nodes: {}", graph.operators.values().sum::<usize>(), each.join(", ")));
        // The caches of a decoder are many and all alike.
        let own = |value: &&Value| !value.name.starts_with("cache.");
        let line = |way: &str, value: &Value| {
            let dims = value.dims.as_deref().map(dims_text);
            let rest: Vec<_> = value.dtype.iter().chain(&dims).map(|text| format!(" {text}")).collect();
            format!("{way:<6} {}{}", value.name, rest.concat())
        };
        lines.extend(graph.inputs.iter().filter(own).map(|value| line("input", value)));
        lines.extend(graph.outputs.iter().filter(own).map(|value| line("output", value)));
    }
    if let (Some(macs), Some(example)) = (found.macs, &found.macs_for) {
        lines.push(format!("{macs} MACs for {example}"));
    }
    if let Some(why) = &found.macs_unknown {
        lines.push(format!("MACs are not known: {why}"));
    }
    lines
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
    match t.widths[..] {
        [] => {}
        [only] => text += &format!(", readable at {only} bits"),
        [first, .., last] if (last - first) as usize + 1 == t.widths.len() => {
            text += &format!(", readable at {first} to {last} bits");
        }
        _ => {
            let all: Vec<_> = t.widths.iter().map(ToString::to_string).collect();
            text += &format!(", readable at {} bits", all.join(", "));
        }
    }
    text
}
