//! `export --to image|c`: a model for a microcontroller.

use niwaki_codes::{Grouping, Scheme, Symmetry};
use niwaki_engine::image::{self, Codes, Taken, Zeros};
use niwaki_engine::{Names, Opened, Stats, recipe};
use niwaki_quant::Fit;
use serde::Serialize;

use super::super::{load, open};
use crate::args::{Activations, Export};
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};
use crate::size::human;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An image.
    Image,
    /// C.
    C,
}

impl Form {
    /// The one of this word.
    pub(super) fn of(to: &str) -> Option<Self> {
        match to {
            "image" => Some(Self::Image),
            "c" => Some(Self::C),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::C => "c",
        }
    }
}

#[derive(Serialize)]
struct Json {
    format: &'static str,
    #[serde(flatten)]
    taken: Taken,
}

/// How weights become codes, as the flags say it.
fn codes(args: &Export) -> Result<Codes, Stop> {
    let text = args.scheme.as_deref().unwrap_or("int8/row/sym");
    if let Some(widths) = text.strip_prefix("elastic/row") {
        return elastic(args, widths);
    }
    let bits = match recipe::scheme(text)? {
        Scheme::Uniform(scheme)
            if scheme.grouping == Grouping::Row
                && scheme.symmetry == Symmetry::Symmetric
                && matches!(scheme.bits.get(), 4 | 8) =>
        {
            scheme.bits
        }
        _ => {
            let failure = Failure::usage(format!("`--scheme {text}`: a device image holds no such codes"));
            return Err(failure.hinting("it holds `int8/row/sym`, `int4/row/sym` and `elastic/row`").into());
        }
    };
    let fit = args.fit.as_deref().map_or(Ok(Fit::MinMax), str::parse);
    let fit = fit.ok().filter(|fit: &Fit| !fit.needs_inputs()).ok_or_else(|| {
        let failure = Failure::usage(format!("`--fit {}`", args.fit.as_deref().unwrap_or_default()));
        failure.hinting("the weights of device images are fitted by min_max, clip or lsq")
    })?;
    let zeros = if args.sparse { Zeros::LeftOut } else { Zeros::Stored };
    Ok(Codes::Rows { bits, fit, zeros })
}

/// Planes for all widths, or for those behind `elastic/row`.
fn elastic(args: &Export, widths: &str) -> Result<Codes, Stop> {
    for (flag, given) in [("--fit", args.fit.is_some()), ("--sparse", args.sparse)] {
        if given {
            return Err(Failure::usage(format!("`{flag}` with `--scheme elastic/row`")).into());
        }
    }
    // The text of a checkpoint's scheme names a group, which here is the row.
    match recipe::scheme(&format!("elastic/g1{widths}")) {
        Ok(Scheme::Elastic(scheme)) => Ok(Codes::Elastic(scheme.widths)),
        _ => {
            let failure = Failure::usage(format!("`--scheme elastic/row{widths}`: a device image holds no such codes"));
            Err(failure.hinting("`elastic/row` serves 2 to 8 bits, `elastic/row/2,4,8` these").into())
        }
    }
}

/// Refuses flags of other formats.
fn check_flags(args: &Export) -> Result<(), Stop> {
    let other = [
        (args.bits.is_some(), "--bits"),
        (args.fixed.range.is_some(), "--range"),
        (args.fixed.percentile.is_some(), "--percentile"),
        (args.fixed.correct_bias, "--correct-bias"),
        (!args.patches.patch.is_empty(), "--patch"),
        (args.engine.activations != Activations::Float, "--activations"),
        (args.engine.pre_tokenizer.is_some(), "--pre-tokenizer"),
        (args.engine.model.is_some(), "--model"),
    ];
    match other.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, flag)) => Err(Failure::usage(format!("`{flag}` with `--to {}`", args.to)).into()),
    }
}

/// Writes a model as an image or as C.
pub(super) fn run(args: &Export, form: Form, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_flags(args)?;
    let codes = codes(args)?;
    let out = &args.output.output;
    match form {
        Form::Image => super::super::check_output(&args.output)?,
        Form::C => image::check_folder(out, args.output.overwrite())?,
    }
    let Some(stats) = &args.fixed.stats else {
        let failure =
            Failure::usage(format!("`--to {}` without `--stats`: nothing says how far values reach", args.to));
        return Err(failure.hinting("`calibrate` makes statistics").into());
    };
    let opened = open(&args.file)?;
    if !matches!(opened, Opened::Onnx(_)) {
        let what = format!("`{}`: has no graph, and a device image is a plan of one", args.file.display());
        return Err(Failure::usage(what).hinting("`--to image` and `--to c` take an .onnx model").into());
    }
    let (model, stats) = (load(&args.file, None.into(), session)?, Stats::open(stats)?);
    let source = opened.source(None, Names::Own)?;
    let (bytes, taken) = image::image(&model, &source, &stats, codes)?;
    match form {
        Form::Image => niwaki_tensors::write_small(out, &bytes, args.output.overwrite(), args.output.durable)?,
        Form::C => image::write_c(&bytes, out, args.output.overwrite())?,
    }
    if session.global.json {
        session.json(&Json { format: form.name(), taken })?;
        return Ok(Answer::Yes);
    }
    let Taken { weight_bytes, arena_bytes, steps, macs, .. } = taken;
    let weights = describe(codes);
    session.say(format!("{steps} steps, {macs} multiplications, {weights}"))?;
    session.say(format!("flash   {:>10}  of weights", human(weight_bytes)))?;
    session.say(format!("memory  {:>10}  of arena, beside the stack", human(arena_bytes)))?;
    if form == Form::Image {
        for (bits, bytes) in &taken.prefixes {
            session.say(format!("{bits} bits  {:>10}  of the first bytes", human(*bytes as u64)))?;
        }
    }
    session.say(format!("wrote {}: {}", out.display(), human(taken.image_bytes)))?;
    Ok(Answer::Yes)
}

fn describe(codes: Codes) -> String {
    match codes {
        Codes::Rows { bits, .. } => format!("weights in {bits} bits, values in 8"),
        Codes::Elastic(widths) => format!("weights in {widths} bits, values in 8"),
    }
}
