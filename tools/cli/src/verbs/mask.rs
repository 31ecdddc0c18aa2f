//! `mask`: which weights are kept, by criteria or by search.

use std::path::Path;
use std::time::Instant;

use niwaki_engine::dataset::{Augment, Dataset};
use niwaki_engine::jackpot::{self, Keep, Masking, Restriction, Start};
use niwaki_engine::mask::{self, Application, Applied, Compared, ComparedTensor, MaskFile, Of, Scored, Scoring};
use niwaki_engine::mask::{Update, Updated};
use niwaki_engine::train::{At, Lessons, Method, Settings, Trained};
use niwaki_engine::{Budget, NofM, Options, Ratio, Recalibration};
use serde::Serialize;

use super::train::{Done, Lesson, measured, settings, watched};
use super::{check_output, compress, has_graph, load, on_threads, open, shape_text};
use crate::args::mask as args;
use crate::args::train::Optimizer;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

/// Does what was asked.
pub(crate) fn run(args: &args::Mask, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        args::Mask::Search(args) => search(args, session),
        args::Mask::Score(args) => score(args, session),
        args::Mask::Apply(args) => apply(args, session),
        args::Mask::Compare(args) => compare(args, session),
    }
}

/// Which weights are kept.
fn kept(flags: &args::Kept) -> Result<Keep, Stop> {
    if let Some(text) = &flags.pattern {
        let wrong = || Failure::usage(format!("`--pattern {text}`: expected N:M, such as 2:4"));
        let (n, m) = text.split_once(':').ok_or_else(wrong)?;
        let (n, m) = (n.parse().map_err(|_| wrong())?, m.parse().map_err(|_| wrong())?);
        let run = NofM::new(n, m).map_err(|e| Failure::usage(format!("`--pattern {text}`: {e}")))?;
        return Ok(Keep::NofM(run));
    }
    let sparsity = flags.sparsity.unwrap_or_default();
    let share = Ratio::new(1.0 - sparsity).map_err(|e| Failure::usage(format!("`--sparsity {sparsity}`: {e}")))?;
    let budget = match flags.budget {
        args::Budget::L1 | args::Budget::Own => Budget::Global,
        args::Budget::Uniform => Budget::Uniform,
        args::Budget::Erk => Budget::Erk,
    };
    Ok(Keep::Share(share, budget))
}

/// Searches masks.
fn search(args: &args::Search, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    if args.epochs == 0 {
        return Err(Failure::usage("`--epochs 0`: at least one pass is needed").into());
    }
    if args.way.steps.optimizer.is_some_and(|optimizer| optimizer != Optimizer::Sgd) {
        return Err(Failure::usage("masks are searched by SGD with momentum").into());
    }
    if args.kept.budget == args::Budget::Own {
        return Err(Failure::usage("`--budget own` is for criteria; a search begins with magnitudes").into());
    }
    let at = Lesson::open(
        (&args.model, args.weights.as_deref()),
        (&args.data, args.eval_data.as_deref()),
        &args.way,
        session,
    )?;
    let settings = Settings {
        method: Method::Sgd { momentum: args.way.steps.momentum as f32, nesterov: false },
        // Scores are searched at this rate whatever the model.
        rate: args.way.steps.lr.unwrap_or(0.1),
        fresh: args.init.is_some(),
        only: args.kept.only.clone(),
        freeze: args.kept.keep.clone(),
        ..settings(args.epochs, &args.way, &at.data, session.global.seed.unwrap_or(0))?
    };
    let masking = Masking {
        keep: kept(&args.kept)?,
        start: match args.start.as_str() {
            "magnitude" => Start::Magnitude,
            "random" => Start::Random,
            path => Start::File(Path::new(path)),
        },
        gap: args.gap as f32,
        restriction: match args.restriction {
            args::Restriction::None => Restriction::None,
            args::Restriction::Poly => Restriction::Poly(4),
            args::Restriction::Cosine => Restriction::Cosine,
        },
    };
    let task = at.task(&args.output);
    let work = |tell: &mut dyn FnMut(At<'_>)| jackpot::search(&task, &settings, &masking, tell);
    let done = watched(args.epochs, session, work)?;
    say_search(args, &at.data, &done, session)
}

fn say_search(args: &args::Search, data: &Lessons, done: &Done, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(done)?;
        return Ok(Answer::Yes);
    }
    let Done { trained, items_per_second, .. } = done;
    let rows = trained.epochs.iter().map(|epoch| {
        let (eval, flips) = (measured(epoch).replace(", ", "   "), epoch.flips.unwrap_or_default());
        let percent = epoch.accuracy * 100.0;
        format!(
            "pass {:<4} loss {:.4}   accuracy {percent:.2} %   {flips:.1} exchanges a step{eval}",
            epoch.epoch, epoch.loss
        )
    });
    session.say_all(rows)?;
    let Trained { weights, tensors, steps, peak_bytes, .. } = *trained;
    note_guarded(&trained.guarded, session);
    session.say(format!("masks of {weights} weights in {tensors} tensors searched in {steps} steps"))?;
    let (most, name) = (human(peak_bytes as u64), data.name());
    session.say(format!("{items_per_second:.0} {name} a second, values took {most} at most"))?;
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

/// Makes masks by a criterion.
fn score(args: &args::Score, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let by: mask::Criterion = args.by.parse()?;
    let options: Options = compress::options(&args.output, session);
    let update = update(args, by, &options)?;
    let (model, opened);
    let of = match has_graph(&args.model) {
        true => {
            model = load(&args.model, args.weights.as_deref().into(), session)?;
            Of::Model(&model)
        }
        false => {
            opened = open(&args.model)?;
            Of::Checkpoint(&opened)
        }
    };
    let data = match (&args.data, of) {
        (Some(data), Of::Model(model)) => Some(Lessons::open(data, model)?),
        _ => None,
    };
    let settings = Settings {
        only: args.kept.only.clone(),
        freeze: args.kept.keep.clone(),
        seed: session.global.seed.unwrap_or(0),
        batch: 32,
        ..Settings::default()
    };
    let how = Scoring {
        by,
        keep: kept(&args.kept)?,
        own_budget: args.kept.budget == args::Budget::Own,
        block: args.block,
        counts_of: args.counts_of.as_deref(),
        data: data.as_ref().map(|data| (data, args.examples)),
        update,
    };
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let out = (args.output.output.as_path(), args.output.overwrite());
    let scored = on_threads(session, || mask::score(of, &settings, &how, out, &progress))?;
    drop(bar);
    if by == mask::Criterion::SparseGpt && update.updated.is_none() {
        session.note("the weights that make up for those that are dropped are not kept; `--updated` writes them");
    }
    say_scored(&scored, args, session)
}

/// What SparseGPT does besides masks.
fn update<'a>(args: &'a args::Score, by: mask::Criterion, options: &'a Options) -> Result<Update<'a>, Stop> {
    let flag = args.updated.as_ref().map(|_| "--updated").or(args.damping.map(|_| "--damping"));
    if let Some(flag) = flag.filter(|_| by != mask::Criterion::SparseGpt) {
        return Err(Failure::usage(format!("`{flag}` is for `--by sparsegpt`; {by} changes no weight")).into());
    }
    let updated = args.updated.as_deref().map(|out| Updated {
        checkpoint: args.weights.as_deref().unwrap_or(&args.model),
        out,
        options,
    });
    if updated.is_some_and(|to| to.out == args.output.output) {
        return Err(Failure::usage("`--updated` and `-o` name the same file").into());
    }
    Ok(Update { damping: args.damping.unwrap_or(0.01), updated })
}

fn say_scored(scored: &Scored, args: &args::Score, session: &mut Session<'_>) -> Result<Answer, Stop> {
    for mask::Damped { name, damping } in &scored.damped {
        session
            .note(&format!("tensor `{name}`: its inputs say too little for the damping asked for; it took {damping}"));
    }
    if session.global.json {
        session.json(scored)?;
        return Ok(Answer::Yes);
    }
    let columns = [("name", Side::Left), ("shape", Side::Left), ("kept", Side::Right), ("sparsity", Side::Right)];
    let mut table = Table::new(&columns);
    for t in &scored.tensors {
        table.row([t.name.clone(), shape_text(&t.shape), t.kept.to_string(), format!("{:.2} %", t.sparsity * 100.0)]);
    }
    let sparsity = 100.0 * (1.0 - scored.kept as f64 / scored.weights.max(1) as f64);
    table.row(["all".to_owned(), String::new(), scored.kept.to_string(), format!("{sparsity:.2} %")]);
    session.say_all(table.lines())?;
    session.say("")?;
    note_guarded(&scored.guarded, session);
    for out in [Some(&args.output.output), args.updated.as_ref()].into_iter().flatten() {
        session.say(format!("wrote {}", out.display()))?;
    }
    Ok(Answer::Yes)
}

/// Says which tensors keep more than their budget has.
fn note_guarded(guarded: &[String], session: &mut Session<'_>) {
    for name in guarded {
        session.note(&format!("tensor `{name}`: its budget is no weight at all; it keeps one"));
    }
}

#[derive(Serialize)]
struct ApplyJson {
    #[serde(flatten)]
    applied: Applied,
    seconds: f64,
}

/// Writes a checkpoint with zeros.
fn apply(args: &args::Apply, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if !args.ckpt.is_dir() {
        check_output(&args.output)?;
    }
    let start = Instant::now();
    let masks = MaskFile::open(&args.mask)?;
    let data = args.recalibrate.as_deref().map(Dataset::open).transpose()?;
    let augment = Augment { crop: args.crop, flip: args.flip, mixup: 0.0 };
    let how = Application {
        recalibrate: data.as_ref().map(|data| Recalibration { data, limit: None, augment }),
        model: args.model.as_deref(),
        transfer: args.transfer,
    };
    let options: Options = compress::options(&args.output, session);
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let applied = mask::apply(&args.ckpt, &masks, how, (&args.output.output, &options), &progress)?;
    drop(bar);
    if session.global.json {
        session.json(&ApplyJson { applied, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    let Applied { tensors, kept, weights, statistics } = applied;
    let percent = 100.0 * kept as f64 / weights.max(1) as f64;
    session.say(format!("{kept} of {weights} weights in {tensors} tensors kept ({percent:.2} %)"))?;
    if statistics > 0 {
        session.say(format!("{statistics} running statistics are those of the masked network"))?;
    }
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

/// Shows what two mask files have in common.
fn compare(args: &args::Compare, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let (first, second) = (MaskFile::open(&args.first)?, MaskFile::open(&args.second)?);
    let compared: Compared = mask::compare(&first, &second)?;
    if session.global.json {
        session.json(&compared)?;
        return Ok(Answer::Yes);
    }
    let columns = [
        ("name", Side::Left),
        ("first", Side::Right),
        ("second", Side::Right),
        ("both", Side::Right),
        ("overlap", Side::Right),
        ("chance", Side::Right),
        ("IoU", Side::Right),
        ("chance", Side::Right),
    ];
    let mut table = Table::new(&columns);
    let share = |x: f64| format!("{:.2} %", x * 100.0);
    let row = |t: &ComparedTensor| {
        let counts = [t.first, t.second, t.both].map(|count| count.to_string());
        let [first, second, both] = counts;
        [t.name.clone(), first, second, both, share(t.overlap), share(t.chance), share(t.iou), share(t.iou_chance)]
    };
    compared.tensors.iter().for_each(|tensor| table.row(row(tensor)));
    table.row(row(&compared.all));
    session.say_all(table.lines())?;
    Ok(Answer::Yes)
}
