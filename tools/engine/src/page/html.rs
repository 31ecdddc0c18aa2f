//! Sections as HTML: escaped text, tables with bars, no script.

use std::fmt::Write as _;

use super::plot;
use super::section::{Cell, Column, Section, Table};

const STYLE: &str = include_str!("style.css");

/// Rows of a table from which on it is folded.
const FOLDED_FROM: usize = 60;

/// The whole page.
pub(super) fn document(across: &Section, sections: &[Section]) -> String {
    let mut body = String::new();
    body += &contents(across);
    for (at, section) in sections.iter().enumerate() {
        // Writing to a `String` cannot fail.
        let _ = write!(body, "<section id=\"f{at}\" aria-labelledby=\"h{at}\">\n<h2 id=\"h{at}\">");
        let _ = writeln!(body, "{} <small>{}</small></h2>", code(&section.name), escaped(&section.kind));
        body += &contents(section);
        body += "</section>\n";
    }
    let links: String = match sections {
        [] | [_] => String::new(),
        _ => sections
            .iter()
            .enumerate()
            .map(|(at, s)| format!("<li><a href=\"#f{at}\">{}</a></li>", code(&s.name)))
            .collect(),
    };
    let nav = if links.is_empty() { links } else { format!("<nav aria-label=\"Files\"><ul>{links}</ul></nav>\n") };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>niwaki report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>niwaki report</h1>\n\
         {nav}{body}</main>\n</body>\n</html>\n"
    )
}

/// Facts, plots and tables of a section.
fn contents(section: &Section) -> String {
    let mut text = String::new();
    if !section.facts.is_empty() {
        let facts = section.facts.iter();
        let facts: String =
            facts.map(|(what, is)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escaped(what), escaped(is))).collect();
        text += &format!("<dl>{facts}</dl>\n");
    }
    if !section.plots.is_empty() {
        let plots: String = section.plots.iter().map(plot::figure).collect();
        text += &format!("<div class=\"plots\">\n{plots}</div>\n");
    }
    for each in &section.tables {
        text += &table(each);
    }
    if let Some(recipe) = &section.text {
        let folded =
            format!("<details><summary>Recipe</summary><pre tabindex=\"0\">{}</pre></details>\n", escaped(recipe));
        text += &folded;
    }
    text
}

/// A table under its title; long ones are folded.
pub(super) fn table(table: &Table) -> String {
    let longest: Vec<f64> = (0..table.columns.len()).map(|column| longest(table, column)).collect();
    let heads: String = table
        .columns
        .iter()
        .map(|column| format!("<th scope=\"col\"{}>{}</th>", class(*column), escaped(column.name())))
        .collect();
    let rows: String = table.rows.iter().map(|row| line(table, row, &longest)).collect();
    let title = escaped(&table.title);
    let grid = format!(
        "<div class=\"wide\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\"><table>\n<caption>{title}</caption>\n\
         <thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    );
    match table.rows.len() {
        rows if rows >= FOLDED_FROM => {
            format!("<details><summary>{title}: {rows} rows</summary>\n{grid}</details>\n")
        }
        _ => grid,
    }
}

fn class(column: Column) -> &'static str {
    if let Column::Number(_) = column { " class=\"n\"" } else { "" }
}

/// The longest bar of a column.
fn longest(table: &Table, column: usize) -> f64 {
    let bars = table.rows.iter().filter_map(|row| row.get(column)?.bar);
    bars.fold(0.0, |longest: f64, bar| longest.max(bar.abs()))
}

fn line(table: &Table, row: &[Cell], longest: &[f64]) -> String {
    let mut cells = String::new();
    for (at, ((cell, column), longest)) in row.iter().zip(&table.columns).zip(longest).enumerate() {
        let text = if at == 0 { code(&cell.text) } else { escaped(&cell.text) };
        let bar = cell.bar.map(|bar| drawn(bar, *longest)).unwrap_or_default();
        let (tag, scope) = if at == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
        let _ = write!(cells, "<{tag}{scope}{}>{text}{bar}</{tag}>", class(*column));
    }
    format!("<tr>{cells}</tr>\n")
}

/// A bar, as a share of the longest. The number beside it says the same, so it is hidden from readers.
fn drawn(bar: f64, longest: f64) -> String {
    let share = if longest > 0.0 { (bar.abs() / longest * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    let less = if bar < 0.0 { " class=\"less\"" } else { "" };
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect{less} width=\"{share:.1}\" height=\"6\"/></svg>"
    )
}

/// A name, set apart from the text around it whatever its letters are.
fn code(name: &str) -> String {
    format!("<code>{}</code>", escaped(name))
}

/// Text that is nothing but text in HTML, SVG and in attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' => out.push(letter),
            // Not even as references may these stand in HTML.
            letter if letter.is_control() => out.push('\u{FFFD}'),
            // Marks that turn the direction of what follows.
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => out.push('\u{FFFD}'),
            letter => out.push(letter),
        }
    }
    out
}
