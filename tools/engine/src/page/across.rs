//! What several files say together: sizes beside each other, quality by bits, and what no other
//! configuration beats.

use std::collections::BTreeMap;

use super::section::{Cell, Column, Measure, Plot, Quality, Section, Series, Table, Trial, bytes, number, percent};

/// Tables and plots over all sections.
pub(super) fn sections(all: &[Section]) -> Section {
    let trials = trials(all);
    let plots = Quality::ALL.into_iter().filter_map(|what| by_bits(&trials, what)).collect();
    Section { tables: overview(all).into_iter().collect(), plots, ..Section::default() }
}

/// One row for each file that has a size or was measured; none for one file only.
fn overview(all: &[Section]) -> Option<Table> {
    let measured = |section: &Section, what: Quality| {
        section.measured.iter().find(|measure| measure.what == what).map(|measure| measure.value)
    };
    let row = |section: &Section| {
        vec![
            Cell::text(section.name.clone()),
            Cell::text(section.kind.clone()),
            Cell::bar(section.size.and_then(|size| size.before).map(|size| size as f64), bytes),
            Cell::bar(section.size.map(|size| size.bytes as f64), bytes),
            Cell::bar(section.size.map(|size| size.bits), number),
            Cell::bar(measured(section, Quality::Accuracy), percent),
            Cell::bar(measured(section, Quality::Perplexity), number),
        ]
    };
    let columns = vec![
        Column::Text("file"),
        Column::Text("what it is"),
        Column::Number("before"),
        Column::Number("bytes"),
        Column::Number("bits a weight"),
        Column::Number("accuracy"),
        Column::Number("perplexity"),
    ];
    let rows: Vec<_> = all.iter().map(row).collect();
    (all.len() > 1).then(|| Table { title: "All files".to_owned(), columns, rows })
}

/// What was tried in searches, and what was measured of the file before a measurement.
fn trials(all: &[Section]) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    let mut subject: Option<(&str, f64)> = None;
    for section in all {
        if let Some(size) = section.size {
            subject = Some((&section.name, size.bits));
        }
        trials.extend(section.trials.iter().cloned());
        if let Some((name, bits)) = subject {
            trials.extend(section.measured.iter().map(|measure| Trial {
                name: name.to_owned(),
                group: "files with an eval".to_owned(),
                bits,
                measure: measure.clone(),
            }));
        }
    }
    trials
}

/// Quality by bits, a series for each group, and the line of those that no other beats.
fn by_bits(trials: &[Trial], what: Quality) -> Option<Plot> {
    let of: Vec<&Trial> = trials.iter().filter(|trial| trial.measure.what == what && is_point(trial)).collect();
    if of.len() < 2 {
        return None;
    }
    let mut groups: BTreeMap<&str, Vec<(f64, f64, String)>> = BTreeMap::new();
    for trial in &of {
        let point = (trial.bits, trial.measure.value, trial.name.clone());
        groups.entry(&trial.group).or_default().push(point);
    }
    // Below the others, so that their marks stay visible.
    let best = pareto(&of, what.grows());
    let front = Series { name: "not beaten by another".to_owned(), joined: true, points: best };
    let groups = groups.into_iter().map(|(name, points)| Series { name: name.to_owned(), joined: false, points });
    let series = [front].into_iter().filter(|front| front.points.len() > 1).chain(groups).collect();
    let title = format!("{} by bits", capital(what.name()));
    Some(Plot { title, x: "bits a weight".to_owned(), y: what.name().to_owned(), series })
}

fn is_point(trial: &Trial) -> bool {
    trial.bits.is_finite() && trial.measure.value.is_finite()
}

/// Those of which no other has as few bits and is better, by bits.
fn pareto(trials: &[&Trial], grows: bool) -> Vec<(f64, f64, String)> {
    let better = |a: &Measure, b: &Measure| if grows { a.value > b.value } else { a.value < b.value };
    let mut sorted: Vec<&&Trial> = trials.iter().collect();
    sorted.sort_by(|a, b| {
        let value = a.measure.value.total_cmp(&b.measure.value);
        a.bits.total_cmp(&b.bits).then(if grows { value.reverse() } else { value })
    });
    let mut front: Vec<&Trial> = Vec::new();
    for trial in sorted {
        if front.last().is_none_or(|last| better(&trial.measure, &last.measure)) {
            front.push(trial);
        }
    }
    front.into_iter().map(|trial| (trial.bits, trial.measure.value, trial.name.clone())).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(bits: f64, value: f64) -> Trial {
        let measure = Measure { what: Quality::Accuracy, value };
        Trial { name: format!("{bits}"), group: "g".to_owned(), bits, measure }
    }

    #[test]
    fn the_front_is_what_no_other_beats() {
        let all = [trial(4.0, 0.9), trial(2.0, 0.5), trial(3.0, 0.4), trial(2.0, 0.6), trial(8.0, 0.9)];
        let all: Vec<&Trial> = all.iter().collect();
        let front = |grows| pareto(&all, grows).into_iter().map(|(x, y, _)| (x, y)).collect::<Vec<_>>();
        assert_eq!(front(true), [(2.0, 0.6), (4.0, 0.9)]);
        assert_eq!(front(false), [(2.0, 0.5), (3.0, 0.4)]);
    }

    #[test]
    fn a_measurement_is_of_the_file_before_it() {
        let size = |bits| Some(super::super::section::Size { before: None, bytes: 1, bits });
        let file = |name: &str, bits| Section { name: name.to_owned(), size: size(bits), ..Section::default() };
        let eval = |value| Section { measured: vec![Measure { what: Quality::Accuracy, value }], ..Section::default() };
        let all = [eval(0.1), file("a", 4.0), eval(0.9), file("b", 2.0), eval(0.7)];
        let found: Vec<_> = trials(&all).into_iter().map(|t| (t.name, t.bits, t.measure.value)).collect();
        assert_eq!(found, [("a".to_owned(), 4.0, 0.9), ("b".to_owned(), 2.0, 0.7)]);
        assert_eq!(sections(&all).plots.len(), 1);
    }
}
