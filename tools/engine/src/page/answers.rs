//! Answers of verbs to `--json`, each known by its keys.

mod compress;

use serde_json::Value;

pub(super) use compress::compress;

use super::section::{
    Cell, Column, Measure, Plot, Quality, Section, Series, Size, Table, Trial, bytes, db, number, percent, shape,
};

/// What an answer says.
///
/// # Errors
///
/// In words, why nothing is said of it.
pub(super) fn section(name: String, answer: &Value) -> Result<Section, String> {
    let has = |keys: &[&str]| keys.iter().all(|key| answer.get(key).is_some());
    if let Some(message) = answer.pointer("/error/message").and_then(Value::as_str) {
        let line = message.replace(char::is_control, " ");
        return Err(format!("is the answer of a run that failed: {line}"));
    }
    let section = if has(&["tensors", "gap", "recipe"]) {
        search(answer)
    } else if has(&["candidates", "rmse"]) {
        elastic_search(answer)
    } else if has(&["forms"]) {
        elastic_eval(answer)
    } else if has(&["output_bytes", "bits_per_weight", "tensors"]) && list(answer, "tensors").next().is_some() {
        compress(answer)
    } else if has(&["sqnr_db", "tensors"]) {
        compare(answer)
    } else if has(&["epochs", "steps"]) {
        training(answer)
    } else if has(&["tensors", "kept", "weights"]) {
        mask(answer)
    } else if has(&["layers", "copy_bytes"]) {
        Section { kind: "signature extract".to_owned(), ..signature(answer) }
    } else if has(&["examples", "layers", "grams"]) {
        calibrate(answer)
    } else if has(&["examples", "loss"]) {
        eval(answer)
    } else {
        return Err("is no answer of a verb to `--json` of which a page is made".to_owned());
    };
    Ok(Section { name, ..section })
}

/// The elements of a list; nothing for what is none.
fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn real(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}

fn word(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or("–").to_owned()
}

fn dims(value: &Value) -> String {
    shape(list(value, "shape").filter_map(Value::as_u64))
}

/// A fact where there is a number for it.
fn fact(facts: &mut Vec<(&'static str, String)>, what: &'static str, value: Option<f64>, text: impl Fn(f64) -> String) {
    facts.extend(value.map(|value| (what, text(value))));
}

fn compare(answer: &Value) -> Section {
    let row = |tensor: &Value| {
        vec![
            Cell::text(word(tensor, "name")),
            Cell::bar(real(tensor, "sqnr_db"), db),
            Cell::bar(real(tensor, "max_abs"), number),
            Cell::bar(real(tensor, "cosine"), |x| format!("{x:.6}")),
        ]
    };
    let columns =
        vec![Column::Text("tensor"), Column::Number("SQNR"), Column::Number("largest error"), Column::Number("cosine")];
    let mut facts = Vec::new();
    fact(&mut facts, "SQNR of all", real(answer, "sqnr_db"), db);
    let rows = list(answer, "tensors").map(row).collect();
    let tables = vec![Table { title: "Difference of each tensor".to_owned(), columns, rows }];
    Section { kind: "compare".to_owned(), facts, tables, ..Section::default() }
}

/// What is measured of a model, where it is.
fn measures(answer: &Value) -> Vec<Measure> {
    let of = |what: Quality| real(answer, what.name()).map(|value| Measure { what, value });
    Quality::ALL.into_iter().filter_map(of).collect()
}

fn eval(answer: &Value) -> Section {
    let mut facts = Vec::new();
    fact(&mut facts, "examples", real(answer, "examples"), number);
    for (what, key) in [("accuracy", "accuracy"), ("agreement with the reference", "agreement")] {
        fact(&mut facts, what, real(answer, key), percent);
    }
    for (what, key) in [
        ("loss", "loss"),
        ("perplexity", "perplexity"),
        ("KL divergence", "kl"),
        ("cosine", "cosine"),
        ("items a second", "items_per_second"),
    ] {
        fact(&mut facts, what, real(answer, key), number);
    }
    Section { kind: "eval".to_owned(), facts, measured: measures(answer), ..Section::default() }
}

fn calibrate(answer: &Value) -> Section {
    let mut facts = Vec::new();
    for (what, key) in [("examples", "examples"), ("layers", "layers"), ("Gram matrices", "grams")] {
        fact(&mut facts, what, real(answer, key), number);
    }
    fact(&mut facts, "size", real(answer, "bytes"), bytes);
    let names = |title: &str, key: &str| {
        let rows: Vec<_> = list(answer, key).filter_map(Value::as_str).map(|name| vec![Cell::text(name)]).collect();
        let columns = vec![Column::Text("layer")];
        (!rows.is_empty()).then(|| Table { title: title.to_owned(), columns, rows })
    };
    let missing = names("Layers without a Gram matrix", "without_gram");
    let tables = missing.into_iter().chain(names("Layers that no example reached", "unreached")).collect();
    Section { kind: "calibrate".to_owned(), facts, tables, ..Section::default() }
}

fn search(answer: &Value) -> Section {
    let row = |tensor: &Value| {
        vec![
            Cell::text(word(tensor, "name")),
            Cell::text(word(tensor, "scheme")),
            Cell::bar(real(tensor, "bytes"), bytes),
            Cell::bar(real(tensor, "loss"), number),
        ]
    };
    let mut facts = Vec::new();
    fact(&mut facts, "bits a weight", real(answer, "bits_per_weight"), number);
    fact(&mut facts, "size", real(answer, "bytes"), bytes);
    fact(&mut facts, "loss by the formula", real(answer, "loss"), number);
    fact(&mut facts, "gap to the best there could be", real(answer, "gap"), number);
    let columns = vec![Column::Text("layer"), Column::Text("scheme"), Column::Number("bytes"), Column::Number("loss")];
    let rows = list(answer, "tensors").map(row).collect();
    let point = real(answer, "bits_per_weight").zip(real(answer, "loss"));
    let trials = point.map(|(bits, value)| Trial {
        name: format!("{} bits", number(bits)),
        group: "search".to_owned(),
        bits,
        measure: Measure { what: Quality::Estimate, value },
    });
    let size = real(answer, "bytes").zip(real(answer, "bits_per_weight"));
    Section {
        kind: "search".to_owned(),
        facts,
        tables: vec![Table { title: "What each layer gets".to_owned(), columns, rows }],
        text: answer.get("recipe").and_then(Value::as_str).map(str::to_owned),
        size: size.map(|(bytes, bits)| Size { before: None, bytes: bytes as u64, bits }),
        trials: trials.into_iter().collect(),
        ..Section::default()
    }
}

fn elastic_search(answer: &Value) -> Section {
    let mut facts = Vec::new();
    fact(&mut facts, "configurations measured", real(answer, "pairs"), number);
    fact(&mut facts, "error of the predictor", real(answer, "rmse"), number);
    fact(&mut facts, "Kendall's τ", real(answer, "tau"), number);
    let average = |candidate: &Value| candidate.pointer("/average/0").and_then(Value::as_f64);
    let row = |candidate: &Value| {
        let widths: Vec<String> = list(candidate, "bits").map(ToString::to_string).collect();
        vec![
            Cell::text(word(candidate, "by")),
            Cell::bar(average(candidate), number),
            Cell::bar(real(candidate, "accuracy"), percent),
            Cell::bar(real(candidate, "predicted"), percent),
            Cell::bar(real(candidate, "loss"), number),
            Cell::text(widths.join(" ")),
        ]
    };
    let trial = |candidate: &Value| {
        let (bits, value) = average(candidate).zip(real(candidate, "accuracy"))?;
        let (name, group) = (word(candidate, "by"), "elastic search".to_owned());
        Some(Trial { name, group, bits, measure: Measure { what: Quality::Accuracy, value } })
    };
    let columns = vec![
        Column::Text("way"),
        Column::Number("bits on average"),
        Column::Number("accuracy"),
        Column::Number("predicted"),
        Column::Number("loss"),
        Column::Text("width of each layer's weights and input"),
    ];
    let rows = list(answer, "candidates").map(row).collect();
    Section {
        kind: "elastic search".to_owned(),
        facts,
        tables: vec![Table { title: "The best of each way".to_owned(), columns, rows }],
        trials: list(answer, "candidates").filter_map(trial).collect(),
        ..Section::default()
    }
}

fn elastic_eval(answer: &Value) -> Section {
    let row = |form: &Value| {
        vec![
            Cell::text(word(form, "form")),
            Cell::bar(real(form, "accuracy"), percent),
            Cell::bar(real(form, "loss"), number),
            Cell::bar(real(form, "weight_ratio"), number),
        ]
    };
    let trial = |form: &Value| {
        let (bits, granularity) = form_bits(&word(form, "form"))?;
        let measure = measures(form).into_iter().min_by_key(|measure| measure.what)?;
        Some(Trial { name: word(form, "form"), group: granularity, bits, measure })
    };
    let columns =
        vec![Column::Text("form"), Column::Number("accuracy"), Column::Number("loss"), Column::Number("times smaller")];
    let rows = list(answer, "forms").map(row).collect();
    Section {
        kind: "elastic eval".to_owned(),
        tables: vec![Table { title: "Every form".to_owned(), columns, rows }],
        trials: list(answer, "forms").filter_map(trial).collect(),
        ..Section::default()
    }
}

/// Bits of the weights of a form, and the rest of its text: `w4a8/row/sym` has 4, and `row/sym`.
fn form_bits(form: &str) -> Option<(f64, String)> {
    let (widths, grid) = form.split_once('/')?;
    let digits: String = widths.strip_prefix('w')?.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, grid.to_owned()))
}

fn training(answer: &Value) -> Section {
    let mut facts = Vec::new();
    for (what, key) in [("steps", "steps"), ("weights", "weights"), ("items a second", "items_per_second")] {
        fact(&mut facts, what, real(answer, key), number);
    }
    let series = |name: &str, key: &str| Series {
        name: name.to_owned(),
        joined: true,
        points: list(answer, "epochs")
            .filter_map(|epoch| Some((real(epoch, "epoch")?, real(epoch, key)?, format!("epoch {}", epoch["epoch"]))))
            .collect(),
    };
    let plot = |title: &str, all: Vec<Series>| {
        let series: Vec<Series> = all.into_iter().filter(|series| !series.points.is_empty()).collect();
        let (x, y) = ("epoch".to_owned(), title.to_lowercase());
        (!series.is_empty()).then(|| Plot { title: title.to_owned(), x, y, series })
    };
    let losses = plot("Loss", vec![series("training", "loss"), series("held out", "eval_loss")]);
    let accuracy = plot("Accuracy", vec![series("training", "accuracy"), series("held out", "eval_accuracy")]);
    let plots = losses.into_iter().chain(accuracy).collect();
    Section { kind: "train".to_owned(), facts, plots, ..Section::default() }
}

fn mask(answer: &Value) -> Section {
    let densities = list(answer, "tensors").map(|tensor| {
        let all: f64 = list(tensor, "shape").filter_map(Value::as_f64).product();
        (word(tensor, "name"), real(tensor, "kept").unwrap_or(0.0), all)
    });
    Section { kind: "mask score".to_owned(), ..densities_of(densities) }
}

/// How many weights masks keep: name, kept, all.
pub(super) fn densities_of(masks: impl Iterator<Item = (String, f64, f64)>) -> Section {
    let (mut kept, mut weights) = (0.0, 0.0);
    let row = |(name, keeps, all): (String, f64, f64)| {
        kept += keeps;
        weights += all;
        vec![
            Cell::text(name),
            Cell::text(number(all)),
            Cell::text(number(keeps)),
            Cell::bar((all > 0.0).then(|| keeps / all), percent),
        ]
    };
    let columns =
        vec![Column::Text("tensor"), Column::Number("weights"), Column::Number("kept"), Column::Number("density")];
    let rows = masks.map(row).collect();
    let mut facts = vec![("weights", number(weights)), ("kept", number(kept))];
    fact(&mut facts, "density", (weights > 0.0).then(|| kept / weights), percent);
    let tables = vec![Table { title: "Density of each mask".to_owned(), columns, rows }];
    Section { facts, tables, ..Section::default() }
}

/// What was measured when a signature was made: how far training moved each layer.
pub(super) fn signature(report: &Value) -> Section {
    let row = |layer: &Value| {
        let kept = match layer.get("kept").and_then(Value::as_bool) {
            Some(true) => "in it",
            Some(false) => "left out",
            None => "–",
        };
        vec![
            Cell::text(word(layer, "name")),
            Cell::text(kept),
            Cell::bar(real(layer, "relative_difference"), number),
            Cell::bar(real(layer, "energy"), percent),
        ]
    };
    let columns = vec![
        Column::Text("layer"),
        Column::Text("signature"),
        Column::Number("relative difference"),
        Column::Number("share of the energy"),
    ];
    let rows: Vec<_> = list(report, "layers").map(row).collect();
    let title = "How much robust training changed each layer".to_owned();
    let tables = if rows.is_empty() { Vec::new() } else { vec![Table { title, columns, rows }] };
    Section { kind: "signature".to_owned(), tables, ..Section::default() }
}
