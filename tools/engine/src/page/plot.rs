//! Points over axes, as SVG that grows and shrinks with the page, and their numbers as a table.

use std::fmt::Write as _;

use super::html::{escaped, table};
use super::section::{Cell, Column, Plot, Series, Table, number};

/// The size that everything is drawn in; about what a narrow screen shows without shrinking.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
/// Where the axes are: room for numbers at the left and below, for the last number at the right.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 404.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 214.0;

/// Marks of series beside their colours: circle, square, triangle, diamond.
const MARKS: usize = 4;

/// One direction of the plane.
struct Axis {
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// An axis that holds all values, between round numbers.
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        if !(low.is_finite() && high.is_finite()) {
            return Self { from: 0.0, to: 1.0, step: 0.5 };
        }
        // One value, or values that f64 hardly tells apart, get room around them.
        let least = low.abs().max(high.abs()).max(1e-300) * 1e-6;
        let span = (high - low).clamp(least, f64::MAX / 4.0);
        let rough = span / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|k| k * power).find(|step| *step >= rough).unwrap_or(rough);
        let (from, mut to) = ((low / step).floor() * step, (high / step).ceil() * step);
        if to <= from {
            to = from + step;
        }
        Self { from, to, step }
    }

    /// Where a value is, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    /// The round numbers on it.
    fn ticks(&self) -> Vec<f64> {
        let count = ((self.to - self.from) / self.step).round().clamp(1.0, 12.0) as usize;
        (0..=count).map(|k| self.from + k as f64 * self.step).collect()
    }

    /// A round number, with as many places as the step has.
    fn text(&self, tick: f64) -> String {
        let places = -self.step.log10().floor();
        if (0.0..=6.0).contains(&places) && tick.abs() < 1e6 {
            let text = format!("{tick:.*}", places as usize);
            // Sums of steps may be a little less than 0.
            return if text.trim_matches(['-', '0', '.']).is_empty() { "0".to_owned() } else { text };
        }
        number(tick)
    }
}

/// A plot with its title, its legend, and its numbers.
pub(super) fn figure(plot: &Plot) -> String {
    let points =
        || plot.series.iter().flat_map(|series| &series.points).filter(|(x, y, _)| x.is_finite() && y.is_finite());
    let (across, up) = (Axis::over(points().map(|p| p.0)), Axis::over(points().map(|p| p.1)));
    let mut drawn = axes(plot, &across, &up);
    for (at, series) in plot.series.iter().enumerate() {
        drawn += &curve(series, at, &across, &up);
    }
    let title = escaped(&plot.title);
    let (legend, numbers) = (legend(plot), table(&numbers(plot)));
    format!(
        "<figure>\n<figcaption>{title}</figcaption>\n<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}: {} by {}; the numbers follow as a table\">\n{drawn}</svg>\n{legend}\
         <details><summary>{title} in numbers</summary>\n{numbers}</details>\n</figure>\n",
        escaped(&plot.y),
        escaped(&plot.x)
    )
}

fn place(axis: &Axis, value: f64, from: f64, to: f64) -> f64 {
    from + axis.at(value) * (to - from)
}

fn axes(plot: &Plot, across: &Axis, up: &Axis) -> String {
    let mut out = String::new();
    for tick in up.ticks() {
        let y = place(up, tick, BOTTOM, TOP);
        let text = up.text(tick);
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
             <text class=\"e\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for tick in across.ticks() {
        let x = place(across, tick, LEFT, RIGHT);
        let text = across.text(tick);
        let _ = writeln!(out, "<text class=\"m\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>", BOTTOM + 17.0);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let height = (TOP + BOTTOM) / 2.0;
    let (x, y) = (escaped(&plot.x), escaped(&plot.y));
    let _ = writeln!(
        out,
        "<text class=\"m\" x=\"{middle:.1}\" y=\"{:.1}\">{x}</text>\
         <text class=\"m\" transform=\"translate(12 {height:.1}) rotate(-90)\">{y}</text>",
        HEIGHT - 8.0
    );
    out
}

fn curve(series: &Series, at: usize, across: &Axis, up: &Axis) -> String {
    let places: Vec<(f64, f64, &str)> = series
        .points
        .iter()
        .filter(|(x, y, _)| x.is_finite() && y.is_finite())
        .map(|(x, y, name)| (place(across, *x, LEFT, RIGHT), place(up, *y, BOTTOM, TOP), name.as_str()))
        .collect();
    let mut out = format!("<g class=\"s{}\">", at % MARKS);
    if series.joined {
        let path: Vec<String> = places.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(out, "<polyline points=\"{}\"/>", path.join(" "));
    }
    for (x, y, name) in places {
        let _ = write!(out, "{}<title>{}</title></path>", mark(at, x, y), escaped(name));
    }
    out + "</g>\n"
}

/// The mark of a series; its element is left open for a title.
fn mark(series: usize, x: f64, y: f64) -> String {
    let shape = match series % MARKS {
        0 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        1 => "m-3.5 -3.5h7v7h-7z",
        2 => "m0 -4.5l4.2 7.8h-8.4z",
        _ => "m0 -5l4.5 5l-4.5 5l-4.5 -5z",
    };
    format!("<path d=\"M{x:.1} {y:.1}{shape}\">")
}

fn legend(plot: &Plot) -> String {
    let entry = |(at, series): (usize, &Series)| {
        let mark = mark(at, 7.0, 7.0);
        let name = escaped(&series.name);
        format!(
            "<li><svg viewBox=\"0 0 14 14\" width=\"14\" height=\"14\" aria-hidden=\"true\"><g class=\"s{}\">{mark}</path></g></svg> \
             {name}</li>",
            at % MARKS
        )
    };
    let entries: String = plot.series.iter().enumerate().map(entry).collect();
    format!("<ul class=\"legend\">{entries}</ul>\n")
}

fn numbers(plot: &Plot) -> Table {
    let rows = plot.series.iter().flat_map(|series| {
        series.points.iter().map(|(x, y, name)| {
            vec![
                Cell::text(name.clone()),
                Cell::text(series.name.clone()),
                Cell::text(number(*x)),
                Cell::text(number(*y)),
            ]
        })
    });
    let columns = vec![Column::Text("point"), Column::Text("series"), Column::Number("across"), Column::Number("up")];
    Table { title: format!("{}: across {}, up {}", plot.title, plot.x, plot.y), columns, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_between_round_numbers_and_hold_every_value() {
        for (low, high) in
            [(2.0, 8.0), (0.0, 1.0), (-3.0, 17.5), (0.8391, 0.9187), (1e-9, 4e-9), (5.0, 5.0), (0.0, 0.0)]
        {
            let axis = Axis::over([low, high].into_iter());
            assert!(axis.from <= low && high <= axis.to && axis.from < axis.to, "{low} {high}");
            assert!((2..=13).contains(&axis.ticks().len()), "{low} {high}: {:?}", axis.ticks());
        }
        let axis = Axis::over([0.83, 0.92].into_iter());
        let texts: Vec<_> = axis.ticks().into_iter().map(|tick| axis.text(tick)).collect();
        assert_eq!(texts, ["0.80", "0.85", "0.90", "0.95"]);
    }

    #[test]
    fn numbers_without_end_are_not_drawn() {
        let points =
            vec![(1.0, f64::NAN, "a".to_owned()), (f64::INFINITY, 1.0, "b".to_owned()), (2.0, 3.0, "c".to_owned())];
        let plot = Plot { series: vec![Series { points, joined: true, ..Series::default() }], ..Plot::default() };
        let figure = figure(&plot);
        let drawing = figure.split("<details>").next().unwrap_or_default();
        assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
        assert_eq!(drawing.matches("<title>").count(), 1);
    }
}
