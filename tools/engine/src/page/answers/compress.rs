//! What `compress` answers, and writes into its output.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{dims, fact, list, real, word};
use crate::page::section::{Cell, Column, Plot, Section, Series, Size, Table, bytes, db, number, percent};

/// What `compress` says of a checkpoint, in its answer or in the file that it wrote.
pub(in crate::page) fn compress(report: &Value) -> Section {
    let (before, after) = (real(report, "input_bytes"), real(report, "output_bytes"));
    let bits = real(report, "bits_per_weight");
    let mut facts = Vec::new();
    fact(&mut facts, "before", before, bytes);
    fact(&mut facts, "after", after, bytes);
    fact(&mut facts, "share", before.zip(after).filter(|(b, _)| *b > 0.0).map(|(b, a)| a / b), percent);
    fact(&mut facts, "bits a weight", bits, number);
    let size =
        after.zip(bits).map(|(after, bits)| Size { before: before.map(|b| b as u64), bytes: after as u64, bits });
    let mut tables = vec![tensors(report)];
    tables.extend(widths_table(report));
    Section {
        kind: "compressed checkpoint".to_owned(),
        facts,
        tables,
        plots: widths_plot(report).into_iter().collect(),
        size,
        ..Section::default()
    }
}

/// Every tensor: what became of it, how small it is and what that cost.
fn tensors(report: &Value) -> Table {
    let row = |tensor: &Value| {
        let elements: f64 = list(tensor, "shape").filter_map(Value::as_f64).product();
        let after = real(tensor, "bytes_after");
        let bits = after.filter(|_| elements > 0.0).map(|after| after * 8.0 / elements);
        let stored = tensor.get("scheme").and_then(Value::as_str).map_or_else(|| word(tensor, "fate"), str::to_owned);
        vec![
            Cell::text(word(tensor, "name")),
            Cell::text(dims(tensor)),
            Cell::text(stored),
            Cell::bar(real(tensor, "bytes_before"), bytes),
            Cell::bar(after, bytes),
            Cell::bar(bits, number),
            Cell::bar(real(tensor, "sqnr_db"), db),
        ]
    };
    Table {
        title: "Size, width and noise of each tensor".to_owned(),
        columns: vec![
            Column::Text("tensor"),
            Column::Text("shape"),
            Column::Text("stored as"),
            Column::Number("before"),
            Column::Number("after"),
            Column::Number("bits a weight"),
            Column::Number("SQNR"),
        ],
        rows: list(report, "tensors").map(row).collect(),
    }
}

/// dB by width of each tensor that serves several.
fn by_width(report: &Value) -> Vec<(String, Vec<(u32, f64)>)> {
    let of = |tensor: &Value| {
        let widths = tensor.get("widths")?.as_object()?;
        let mut all: Vec<(u32, f64)> =
            widths.iter().filter_map(|(width, db)| Some((width.parse().ok()?, db.as_f64()?))).collect();
        all.sort_by_key(|(width, _)| *width);
        (!all.is_empty()).then(|| (word(tensor, "name"), all))
    };
    list(report, "tensors").filter_map(of).collect()
}

fn widths_table(report: &Value) -> Option<Table> {
    let all = by_width(report);
    let rows = all.iter().flat_map(|(name, widths)| {
        widths.iter().map(|(width, noise)| {
            vec![Cell::text(name.clone()), Cell::text(width.to_string()), Cell::bar(Some(*noise), db)]
        })
    });
    let columns = vec![Column::Text("tensor"), Column::Text("bits"), Column::Number("SQNR")];
    (!all.is_empty()).then(|| Table { title: "Noise at each width".to_owned(), columns, rows: rows.collect() })
}

/// The noisiest, the middle and the best tensor at each width.
fn widths_plot(report: &Value) -> Option<Plot> {
    let mut at: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (width, noise) in by_width(report).into_iter().flat_map(|(_, widths)| widths) {
        at.entry(width).or_default().push(noise);
    }
    at.values_mut().for_each(|all| all.sort_by(f64::total_cmp));
    let series = |name: &str, pick: fn(usize) -> usize| Series {
        name: name.to_owned(),
        joined: true,
        points: at
            .iter()
            .filter_map(|(width, all)| Some((f64::from(*width), *all.get(pick(all.len()))?, format!("{width} bits"))))
            .collect(),
    };
    let series = vec![series("best tensor", |n| n - 1), series("middle", |n| n / 2), series("noisiest", |_| 0)];
    let (x, y) = ("bits".to_owned(), "SQNR in dB".to_owned());
    (at.len() > 1).then(|| Plot { title: "Noise by width".to_owned(), x, y, series })
}
