//! Images as C.
//!
//! ```text
//! OUT/model.h           sizes, scales and zero points; the model and how to run it
//! OUT/model.c           weights and the plan, as arrays of constants
//! OUT/niwaki_micro.h    the runtime, the same for every model
//! OUT/niwaki_micro.c
//! ```

use std::fmt::Write;
use std::fs;
use std::path::Path;

use niwaki_image::{Image, Kind, Onto, Place, Step, Tensor, Times, Work};
use niwaki_micro::c::{HEADER, SOURCE};
use niwaki_tensors::Overwrite;

use crate::error::{Blame, Error};
use crate::swap::Partial;
use crate::target::file_error;

/// Numbers in a line of an array.
const LINE: usize = 24;

/// Refuses a place where no folder can be written.
///
/// # Errors
///
/// A file, a folder that exists and is not to be replaced, or one that could not be made.
pub fn check_folder(out: &Path, overwrite: Overwrite) -> Result<(), Error> {
    if !crate::target::check_folder(out, overwrite == Overwrite::Replace)? {
        niwaki_tensors::check_output(out, overwrite)?;
    }
    Ok(())
}

/// Writes an image as C into a folder, which gets its place when it is complete; other files of one that it replaces stay.
///
/// # Errors
///
/// Bytes that are no image; those of [`check_folder`]; whatever the system refuses.
pub fn write_c(bytes: &[u8], out: &Path, overwrite: Overwrite) -> Result<(), Error> {
    let image = Image::parse(bytes).map_err(|e| Error::below(e, Blame::Input))?;
    let files = [
        ("model.h", header(&image)),
        ("model.c", source(&image)),
        ("niwaki_micro.h", HEADER.to_owned()),
        ("niwaki_micro.c", SOURCE.to_owned()),
    ];
    let partial = Partial::new(out, overwrite == Overwrite::Replace, &[])?;
    files
        .iter()
        .try_for_each(|(name, text)| fs::write(partial.path.join(name), text))
        .map_err(|e| file_error(&e, out))?;
    partial.finish()
}

/// Sizes, and what codes mean.
fn header(image: &Image<'_>) -> String {
    let mut text = String::from(
        "/* A network in 8-bit integers, written by `niwaki export --to c`.\n \
         *\n \
         * Codes of the input: q = x / MODEL_INPUT_SCALE, rounded, plus MODEL_INPUT_ZERO, held within -128 .. 127; rows,\n \
         * columns, channels. They go to arena + MODEL_INPUT_AT; then run:\n \
         *\n \
         *     static int8_t arena[MODEL_ARENA] __attribute__((aligned(4)));\n \
         *     const int8_t *scores = niwaki_run(&model, arena);\n \
         *     uint32_t best = niwaki_largest(scores, MODEL_OUTPUTS);\n \
         */\n#ifndef MODEL_H\n#define MODEL_H\n\n#include \"niwaki_micro.h\"\n\n",
    );
    let place = |text: &mut String, name: &str, Place { area, zero, scale }: Place| {
        let [rows, cols, channels] = area.shape;
        let lines = [
            format!("#define MODEL_{name}S {} /* {rows} rows, {cols} columns, {channels} channels */", area.len()),
            format!("#define MODEL_{name}_AT {}", area.at),
            format!("#define MODEL_{name}_SCALE {scale:e}f"),
            format!("#define MODEL_{name}_ZERO ({zero})"),
        ];
        lines.iter().for_each(|line| add(text, format_args!("{line}\n")));
    };
    add(&mut text, format_args!("#define MODEL_ARENA {}\n", image.arena()));
    place(&mut text, "INPUT", image.input());
    place(&mut text, "OUTPUT", image.output());
    widths(&mut text, image);
    text.push_str("\nextern const niwaki_model model;\n\n#endif\n");
    text
}

/// Which width of elastic weights is compiled, where there are any.
fn widths(text: &mut String, image: &Image<'_>) {
    let served: Vec<String> = image.widths().map(|(width, _)| width.to_string()).collect();
    let Some(widest) = served.last() else { return };
    let none: Vec<String> = served.iter().map(|width| format!("MODEL_WIDTH != {width}")).collect();
    let (all, none) = (served.join(", "), none.join(" && "));
    add(
        text,
        format_args!(
            "\n/* Bits of a weight: {all}. Fewer take less flash. */\n#ifndef MODEL_WIDTH\n#define MODEL_WIDTH {widest}\n#endif\n\
             #if {none}\n#error \"MODEL_WIDTH is one of {all}\"\n#endif\n"
        ),
    );
}

/// Weights and plan.
fn source(image: &Image<'_>) -> String {
    let mut text =
        String::from("/* Written by `niwaki export --to c`: weights and plan of a network. */\n#include \"model.h\"\n");
    for at in 0..image.tensors() {
        if let Some(tensor) = image.tensor(at) {
            weights(&mut text, at, image, &tensor);
        }
    }
    text.push_str("\nstatic const niwaki_step steps[] = {\n");
    for step in image.steps() {
        add(&mut text, format_args!("    {{{}}},\n", fields(&step)));
    }
    let (input, output) = (image.input().area, image.output().area);
    add(
        &mut text,
        format_args!(
            "}};\n\nconst niwaki_model model = {{steps, {}, {}, {}, {}, {}}};\n",
            image.steps().len(),
            input.at,
            output.at,
            input.len(),
            output.len()
        ),
    );
    text
}

fn add(text: &mut String, what: std::fmt::Arguments<'_>) {
    // A text takes whatever is written.
    let _ = text.write_fmt(what);
}

/// Weights and numbers of rows. Of elastic ones planes that a width does not take are left out where it is compiled.
fn weights(text: &mut String, at: usize, image: &Image<'_>, tensor: &Tensor<'_>) {
    let bytes = |codes: &[u8]| codes.iter().map(u8::to_string).collect::<Vec<_>>().into_iter();
    let row = |row: niwaki_image::Row| format!("{{{}, {}, {}}}", row.bias, row.times.multiplier, row.times.shift);
    let cols = tensor.cols;
    let fields = match tensor.kind {
        Kind::Exponentials => {
            let numbers = tensor.table().iter().map(|bytes| u32::from_le_bytes(*bytes).to_string());
            return array(text, "uint32_t", &format!("table{at}"), numbers);
        }
        Kind::Elastic => {
            let planes = tensor.planes().zip(1..).map(|(plane, nth)| (format!("MODEL_WIDTH >= {nth}"), bytes(plane)));
            chosen(text, "uint8_t", &format!("codes{at}"), planes);
            let at_width = |(width, _)| Some((width, image.at(width)?.tensor(at)?));
            let rows = image.widths().filter_map(at_width);
            let rows = rows.map(|(width, tensor)| {
                (format!("MODEL_WIDTH == {width}"), tensor.numbers().map(row).collect::<Vec<_>>().into_iter())
            });
            chosen(text, "niwaki_row", &format!("rows{at}"), rows);
            format!("{cols}, 8, MODEL_WIDTH, 0")
        }
        Kind::Sparse8 | Kind::Sparse4 => {
            array(text, "uint8_t", &format!("mask{at}"), bytes(tensor.codes()));
            // C has no arrays of nothing.
            let kept = if tensor.kept().is_empty() { &[0] } else { tensor.kept() };
            array(text, "uint8_t", &format!("codes{at}"), bytes(kept));
            array(text, "niwaki_row", &format!("rows{at}"), tensor.numbers().map(row));
            format!("{cols}, {}, 0, mask{at}", if tensor.kind == Kind::Sparse4 { 4 } else { 8 })
        }
        Kind::Int8 | Kind::Int4 => {
            array(text, "uint8_t", &format!("codes{at}"), bytes(tensor.codes()));
            array(text, "niwaki_row", &format!("rows{at}"), tensor.numbers().map(row));
            format!("{cols}, {}, 0, 0", if tensor.kind == Kind::Int4 { 4 } else { 8 })
        }
    };
    add(text, format_args!("static const niwaki_weights weights{at} = {{codes{at}, rows{at}, {fields}}};\n"));
}

/// An array of parts that the compiler takes or leaves.
fn chosen(
    text: &mut String,
    of: &str,
    name: &str,
    parts: impl Iterator<Item = (String, impl Iterator<Item = String>)>,
) {
    add(text, format_args!("\nstatic const {of} {name}[] = {{\n"));
    for (when, numbers) in parts {
        add(text, format_args!("#if {when}\n"));
        lines(text, numbers);
        text.push_str("#endif\n");
    }
    text.push_str("};\n");
}

fn lines(text: &mut String, numbers: impl Iterator<Item = String>) {
    let numbers: Vec<String> = numbers.collect();
    numbers.chunks(LINE).for_each(|line| add(text, format_args!("    {},\n", line.join(", "))));
}

fn array(text: &mut String, of: &str, name: &str, numbers: impl Iterator<Item = String>) {
    add(text, format_args!("\nstatic const {of} {name}[] = {{\n"));
    lines(text, numbers);
    text.push_str("};\n");
}

/// The fields of a step that are not 0, by name.
fn fields(step: &Step) -> String {
    let mut fields = vec![
        format!(".low = {}, .high = {}", step.low, step.high),
        format!(".input_zero = {}, .output_zero = {}", step.input_zero, step.output_zero),
        format!(".input = {}, .output = {}", step.input.at, step.output.at),
    ];
    let sizes = |name: &str, of: [usize; 3]| format!(".{name} = {{{}, {}, {}}}", of[0], of[1], of[2]);
    fields.push(sizes("in", step.input.shape));
    fields.push(sizes("out", step.output.shape));
    if let Some(window) = step.window() {
        let all = [
            ("kernel", window.kernel),
            ("stride", window.stride),
            ("dilation", window.dilation),
            ("before", window.before),
        ];
        fields.extend(all.map(|(name, [down, across])| format!(".{name} = {{{down}, {across}}}")));
    }
    let onto = |Onto { zero, times }: Onto| format!(".onto_zero = {zero}, .onto_times = {times}");
    match step.work {
        Work::Conv { groups, weights, scratch, onto: added, .. } => {
            fields.push(format!(".work = NIWAKI_CONV, .groups = {groups}, .weights = &weights{weights}"));
            fields.push(format!(".scratch = {scratch}"));
            fields.extend(added.map(|added| format!(".onto = 1, {}", onto(added))));
        }
        Work::MaxPool(_) => fields.push(".work = NIWAKI_MAX_POOL".to_owned()),
        Work::AveragePool { times: Times { multiplier, shift }, .. } => {
            fields.push(format!(".work = NIWAKI_AVERAGE_POOL, .multiplier = {multiplier}, .shift = {shift}"));
        }
        Work::Add { times, onto: added } => {
            fields.push(format!(".work = NIWAKI_ADD, .multiplier = {times}, {}", onto(added)));
        }
        Work::Rescale { times } => fields.push(format!(".work = NIWAKI_RESCALE, .multiplier = {times}")),
        Work::Softmax { table } => fields.push(format!(".work = NIWAKI_SOFTMAX, .table = table{table}")),
    }
    fields.join(", ")
}
