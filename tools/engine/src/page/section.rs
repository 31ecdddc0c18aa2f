//! What is to be said of one file, before it is HTML.

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// The name of the file.
    pub(super) name: String,
    /// What it is.
    pub(super) kind: String,
    /// Facts in a word or a number, with what they are of.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) tables: Vec<Table>,
    pub(super) plots: Vec<Plot>,
    /// Long text as it is: a recipe.
    pub(super) text: Option<String>,
    /// What figures across files are made of.
    pub(super) size: Option<Size>,
    pub(super) measured: Vec<Measure>,
    pub(super) trials: Vec<Trial>,
}

/// How large something is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Bytes of the source, where they are known.
    pub(super) before: Option<u64>,
    pub(super) bytes: u64,
    /// Stored bits for each weight.
    pub(super) bits: f64,
}

/// What a run measured of a whole model.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    pub(super) what: Quality,
    pub(super) value: f64,
}

/// What is good about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quality {
    Accuracy,
    Agreement,
    Cosine,
    Perplexity,
    Loss,
    /// What a search adds up over layers: no loss of a model.
    Estimate,
}

impl Quality {
    pub(super) const ALL: [Self; 6] =
        [Self::Accuracy, Self::Agreement, Self::Cosine, Self::Perplexity, Self::Loss, Self::Estimate];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Agreement => "agreement",
            Self::Cosine => "cosine",
            Self::Perplexity => "perplexity",
            Self::Loss => "loss",
            Self::Estimate => "estimated loss",
        }
    }

    /// Whether more of it is better.
    pub(super) fn grows(self) -> bool {
        matches!(self, Self::Accuracy | Self::Agreement | Self::Cosine)
    }
}

/// One configuration that a search or an evaluation of several has measured.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// What it is called.
    pub(super) name: String,
    /// What it is one of: trials of one group are one series.
    pub(super) group: String,
    pub(super) bits: f64,
    pub(super) measure: Measure,
}

/// How a column lines up, and whether its cells have bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Number(name) => name,
        }
    }
}

/// A cell: text, and how long its bar is.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    /// A length for a bar, in the unit of its column.
    pub(super) bar: Option<f64>,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), bar: None }
    }

    /// A number with a bar as long as it is large; a dash for none.
    pub(super) fn bar(value: Option<f64>, text: impl Fn(f64) -> String) -> Self {
        match value.filter(|value| value.is_finite()) {
            Some(value) => Self { text: text(value), bar: Some(value) },
            None => Self::text("–"),
        }
    }
}

/// Rows under a heading; the first cell names the row.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// Points of several series over one axis.
#[derive(Debug, Default)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) series: Vec<Series>,
}

/// Points that belong together.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) name: String,
    /// Whether a line joins them.
    pub(super) joined: bool,
    /// x, y and what the point is.
    pub(super) points: Vec<(f64, f64, String)>,
}

/// A size in bytes, to three digits.
pub(super) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024.0 {
        return format!("{bytes:.0} B");
    }
    let mut size = bytes / 1024.0;
    let mut unit = 0;
    // 1023.95 would be written as 1024.
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = if size < 9.995 { 2 } else { usize::from(size < 99.95) };
    format!("{size:.digits$} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// dB to two places.
pub(super) fn db(db: f64) -> String {
    format!("{db:.2} dB")
}

/// A number to about four digits.
pub(super) fn number(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{x:.3e}")
    } else if size >= 1000.0 {
        format!("{x:.0}")
    } else {
        let digits = 3 - (size.log10().floor() as i32).clamp(-3, 3);
        let text = format!("{x:.*}", usize::try_from(digits).unwrap_or(0));
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    }
}

/// Dimensions joined by `×`.
pub(super) fn shape(dims: impl IntoIterator<Item = u64>) -> String {
    let dims: Vec<String> = dims.into_iter().map(|dim| dim.to_string()).collect();
    if dims.is_empty() { "scalar".to_owned() } else { dims.join("×") }
}
