//! Text in aligned columns.

/// How a column lines up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Rows of cells under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    /// A line on its own, indented, under the row before.
    Under(String),
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self::of(columns.iter().map(|(name, side)| ((*name).to_owned(), *side)).collect())
    }

    /// A table without rows, of columns that are not known beforehand.
    pub(crate) fn of(columns: Vec<(String, Side)>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row; cells that are left out stay empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    /// Adds a line under the last row.
    pub(crate) fn under(&mut self, line: String) {
        self.rows.push(Row::Under(line));
    }

    /// The lines: heading first, two spaces between columns, none at the end of a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let cells = |row: &Row| match row {
            Row::Cells(cells) => cells.clone(),
            Row::Under(_) => Vec::new(),
        };
        let all = || std::iter::once(heading.clone()).chain(self.rows.iter().map(cells));
        let width = |i: usize| all().filter_map(|r| r.get(i).map(|c| c.chars().count())).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut lines = vec![self.line(&heading, &widths)];
        lines.extend(self.rows.iter().map(|row| match row {
            Row::Cells(cells) => self.line(cells, &widths),
            Row::Under(line) => format!("  {line}"),
        }));
        lines
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (i, (cell, (_, side))) in cells.iter().zip(&self.columns).enumerate() {
            let width = widths[i];
            let gap = if i == 0 { "" } else { "  " };
            line += &match side {
                Side::Left => format!("{gap}{cell:<width$}"),
                Side::Right => format!("{gap}{cell:>width$}"),
            };
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut table = Table::new(&[("name", Side::Left), ("size", Side::Right), ("note", Side::Left)]);
        table.row(["a".into(), "1024".into(), String::new()]);
        table.under("more".into());
        table.row(["longer".into(), "7".into(), "é".into()]);
        table.row(["end".into()]);
        assert_eq!(table.lines(), ["name    size  note", "a       1024", "  more", "longer     7  é", "end"]);
    }
}
