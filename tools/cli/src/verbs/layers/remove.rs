//! `layers remove`.

use std::time::Instant;

use niwaki_engine::layers::{self, Blocks, Choosing, Cost, Criterion, Healed, Healing, Network, Removable, Written};
use serde::Serialize;

use super::{by, open};
use crate::args::layers::Remove;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};
use crate::verbs::{check_output, compress, listed, note_unknown, on_threads, percent};

#[derive(Serialize)]
struct Json<'a> {
    by: Option<&'static str>,
    removed: &'a [usize],
    kept: &'a [usize],
    weights_before: u64,
    weights_after: u64,
    input_bytes: u64,
    output_bytes: u64,
    left_out: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    healed: Vec<HealedJson<'a>>,
    #[serde(flatten)]
    network: Option<Changed>,
    seconds: f64,
}

/// What the layer before a run of layers that went does of what they did.
#[derive(Serialize)]
struct HealedJson<'a> {
    removed: &'a [usize],
    block: usize,
    tensor: &'a str,
    explained: f64,
    damping: f64,
}

impl<'a> HealedJson<'a> {
    fn new(of: &'a Healed) -> Self {
        let Healed { removed, layer, tensor, explained, damping, .. } = of;
        Self { removed, block: *layer, tensor, explained: *explained, damping: *damping }
    }
}

/// How much less an example costs.
#[derive(Serialize)]
struct Changed {
    macs_before: u64,
    macs_after: u64,
    peak_bytes_before: u64,
    peak_bytes_after: u64,
    pass_seconds_before: f64,
    pass_seconds_after: f64,
    energy: Option<[Energy; 2]>,
}

/// What a million passes need by estimate: time here times power, times intensity.
#[derive(Serialize)]
struct Energy {
    kilowatt_hours: f64,
    grams_co2: Option<f64>,
}

/// What healing needs, where it is asked for.
fn healing(args: &Remove) -> Result<Option<Healing<'_>>, Stop> {
    if !args.heal {
        return Ok(None);
    }
    let missing = || Failure::usage("`--heal` needs `--data DATA`").hinting("a text, or a dataset of tokens");
    let data = args.sample.data.as_deref().ok_or_else(missing)?;
    let damping = args.damping.unwrap_or(layers::DAMPING);
    Ok(Some(Healing { sample: layers::Sample { data, limit: args.sample.limit }, damping }))
}

/// Writes a model with fewer blocks.
pub(super) fn remove(args: &Remove, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let model = &args.of.model;
    let (blocks, removable) = open(&args.of)?;
    match blocks.network() {
        None => layers::check_output(model, &args.output.output, args.output.force)?,
        Some(_) => check_output(&args.output)?,
    }
    let graph_only =
        [("--rewind", args.rewind.is_some()), ("--power", args.power.is_some()), ("--halves", args.of.halves)];
    if let (None, Some((flag, _))) = (blocks.network(), graph_only.into_iter().find(|(_, given)| *given)) {
        return Err(Failure::usage(format!("`{flag}` is for ONNX models")).into());
    }
    if blocks.network().is_some() && args.heal {
        let failure = Failure::usage("`--heal` is for Hugging Face folders");
        return Err(failure.hinting("`niwaki train` goes on with a network of fewer blocks").into());
    }
    let healing = healing(args)?;
    let (chosen, criterion) = match chosen(args, (&blocks, removable), session)? {
        Chosen::Blocks(chosen, criterion) => (chosen, criterion),
        Chosen::TooMany { count, most } => return too_many(count, most, session),
    };
    match blocks.network() {
        None => from_folder(args, (&chosen, healing), (criterion, start), session),
        Some(network) => from_network(args, (network, &chosen, removable), (criterion, start), session),
    }
}

/// What was chosen.
enum Chosen {
    Blocks(Vec<usize>, Option<Criterion>),
    TooMany { count: usize, most: usize },
}

/// The blocks to remove, and by which criterion they were chosen.
fn chosen(args: &Remove, (blocks, removable): (&Blocks, Removable), session: &Session<'_>) -> Result<Chosen, Stop> {
    let usage = |what: &str| Err(Failure::usage(what).into());
    let Some(count) = args.count else {
        if args.blocks.is_empty() {
            let failure = Failure::usage("missing `--count P` or `--blocks N`");
            return Err(failure.hinting("`niwaki layers rank` scores blocks").into());
        }
        let given = [
            ("--by", args.by.is_some()),
            ("--one-by-one", args.one_by_one),
            ("--data", args.sample.data.is_some() && !args.heal),
            ("--limit", args.sample.limit.is_some() && !args.heal),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
            return usage(&format!("`{flag}` means nothing with `--blocks`"));
        }
        blocks.check(&args.blocks, removable)?;
        return Ok(Chosen::Blocks(args.blocks.clone(), None));
    };
    if !args.blocks.is_empty() {
        return usage("`--count` and `--blocks` exclude each other");
    }
    let criterion = args.by.as_deref().map_or(Ok(Criterion::Influence), str::parse)?;
    let by = by(criterion, &args.sample, session)?;
    let most = blocks.most(removable);
    if count > most {
        return Ok(Chosen::TooMany { count, most });
    }
    let how = Choosing { removable, count, one_by_one: args.one_by_one };
    let bar = Progress::examples(session);
    let found = on_threads(session, || blocks.choose(by, how, &|done, total| bar.at(done, total)))?;
    Ok(Chosen::Blocks(found, Some(criterion)))
}

/// Says that not so many blocks can go.
fn too_many(count: usize, most: usize, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(&serde_json::json!({"removed": null, "count": count, "most": most}))?;
    } else {
        session.say(format!("{count} blocks to remove: {most} can go at most"))?;
    }
    Ok(Answer::No)
}

fn from_folder(
    args: &Remove,
    (blocks, healing): (&[usize], Option<Healing<'_>>),
    (criterion, start): (Option<Criterion>, Instant),
    session: &mut Session<'_>,
) -> Result<Answer, Stop> {
    let options = compress::options(&args.output, session);
    let found = {
        let bar = if healing.is_some() { Progress::examples(session) } else { Progress::new(session) };
        let (model, out) = (&args.of.model, &args.output.output);
        layers::remove_from_folder(model, (blocks, healing), out, &options, &|done, total| bar.at(done, total))?
    };
    for file in &found.left_out {
        session.note(&format!("`{file}` was left out: weights of all blocks in another format"));
    }
    let json = Json {
        by: criterion.map(Criterion::name),
        removed: &found.removed,
        kept: &found.kept,
        weights_before: found.weights_before,
        weights_after: found.weights_after,
        input_bytes: found.input_bytes,
        output_bytes: found.output_bytes,
        left_out: &found.left_out,
        healed: found.healed.iter().map(HealedJson::new).collect(),
        network: None,
        seconds: start.elapsed().as_secs_f64(),
    };
    say(args, &json, session)
}

fn from_network(
    args: &Remove,
    (network, blocks, removable): (&Network, &[usize], Removable),
    (criterion, start): (Option<Criterion>, Instant),
    session: &mut Session<'_>,
) -> Result<Answer, Stop> {
    let rewind = args.rewind.as_deref().map(crate::verbs::open).transpose()?;
    let place = (args.output.output.as_path(), args.output.overwrite());
    let found = on_threads(session, || network.remove((blocks, removable), rewind.as_ref(), place))?;
    let Written { removed, kept, costs, bytes, replaced } = &found;
    if let Some(replaced) = replaced {
        note_unknown(replaced, args.rewind.as_deref(), session);
    }
    let energy = |cost: &Cost| {
        let kilowatt_hours = cost.seconds * 1e6 * args.power.unwrap_or_default() / 3.6e6;
        Energy { kilowatt_hours, grams_co2: args.intensity.map(|grams| grams * kilowatt_hours) }
    };
    let [before, after] = costs;
    let changed = Changed {
        macs_before: before.macs,
        macs_after: after.macs,
        peak_bytes_before: before.peak_bytes,
        peak_bytes_after: after.peak_bytes,
        pass_seconds_before: before.seconds,
        pass_seconds_after: after.seconds,
        energy: args.power.map(|_| [energy(before), energy(after)]),
    };
    let json = Json {
        by: criterion.map(Criterion::name),
        removed,
        kept,
        weights_before: before.weights,
        weights_after: after.weights,
        input_bytes: bytes[0],
        output_bytes: bytes[1],
        left_out: &[],
        healed: Vec::new(),
        network: Some(changed),
        seconds: start.elapsed().as_secs_f64(),
    };
    say(args, &json, session)
}

fn say(args: &Remove, found: &Json<'_>, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(found)?;
        return Ok(Answer::Yes);
    }
    let why = found.by.map_or_else(String::new, |criterion| format!(", chosen by {criterion}"));
    let blocks = found.removed.len() + found.kept.len();
    session.say(format!("removed {} of {blocks}{why}", listed(found.removed)))?;
    let (before, after) = (found.weights_before, found.weights_after);
    session.say(format!("{before} weights became {after} ({})", percent(after, before)))?;
    for one in &found.healed {
        let (gone, explained) = (listed(one.removed), one.explained * 100.0);
        session.say(format!("block {} does {explained:.1} % of what {gone} added (squares)", one.block))?;
    }
    if let Some(changed) = &found.network {
        say_changed(changed, session)?;
    }
    session.say(format!("wrote {}, {}", args.output.output.display(), human(found.output_bytes)))?;
    Ok(Answer::Yes)
}

/// What an example costs before and after.
fn say_changed(changed: &Changed, session: &mut Session<'_>) -> Result<(), Stop> {
    let columns = [("one example", Side::Left), ("before", Side::Right), ("after", Side::Right), ("left", Side::Right)];
    let mut table = Table::new(&columns);
    let share = |before: f64, after: f64| format!("{:.1} %", 100.0 * after / before);
    let mut row = |what: &str, [before, after]: [f64; 2], text: &dyn Fn(f64) -> String| {
        table.row([what.to_owned(), text(before), text(after), share(before, after)]);
    };
    let whole = |x: f64| format!("{x:.0}");
    row("MACs", [changed.macs_before as f64, changed.macs_after as f64], &whole);
    let bytes = [changed.peak_bytes_before as f64, changed.peak_bytes_after as f64];
    row("most bytes of values", bytes, &whole);
    let milliseconds = [changed.pass_seconds_before * 1e3, changed.pass_seconds_after * 1e3];
    row("milliseconds", milliseconds, &|x| format!("{x:.3}"));
    if let Some([before, after]) = &changed.energy {
        let each = [before.kilowatt_hours, after.kilowatt_hours];
        row("kWh of a million, estimated", each, &|x| format!("{x:.4}"));
        if let (Some(before), Some(after)) = (before.grams_co2, after.grams_co2) {
            row("g CO2 of a million, estimated", [before, after], &|x| format!("{x:.2}"));
        }
    }
    session.say_all(table.lines())?;
    Ok(())
}
