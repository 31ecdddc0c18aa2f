//! What becomes of pixels before a model sees them, as text in a dataset's metadata.

use std::collections::BTreeMap;

use super::fault::DataFault;

/// `(pixel * scale - mean) / std`, with a mean and a deviation for each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    scale: f64,
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Default for Preprocessing {
    /// Pixels of 0 to 255 become 0 to 1.
    fn default() -> Self {
        Self { scale: 1.0 / 255.0, mean: vec![0.0], std: vec![1.0] }
    }
}

impl Preprocessing {
    /// Pixels as they are.
    pub const fn identity() -> Self {
        Self { scale: 1.0, mean: Vec::new(), std: Vec::new() }
    }

    /// Preprocessing with these numbers. A list of one serves all channels; of none, it stands
    /// for 0 and 1.
    ///
    /// # Errors
    ///
    /// [`DataFault::Setting`] for numbers that are not finite, and a scale or deviation that
    /// is not above 0.
    pub fn new(scale: f64, mean: Vec<f64>, std: Vec<f64>) -> Result<Self, DataFault> {
        let wrong = |key, found: f64, expected: &str| {
            Err(DataFault::Setting { key, found: found.to_string(), expected: expected.to_owned() })
        };
        let above = |x: &f64| x.is_finite() && *x > 0.0 && (1.0 / x).is_finite();
        if !above(&scale) {
            return wrong("scale", scale, "a finite number above 0");
        }
        if let Some(found) = mean.iter().find(|x| !x.is_finite()) {
            return wrong("mean", *found, "finite numbers");
        }
        if let Some(found) = std.iter().find(|x| !above(x)) {
            return wrong("std", *found, "finite numbers above 0");
        }
        Ok(Self { scale, mean, std })
    }

    /// What pixels are multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The preprocessing that metadata describes, for images of so many channels. A key that is
    /// not there changes nothing: scale 1, mean 0, deviation 1.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), text that is no number, lists that fit neither one nor all
    /// channels, and a `layout` other than `nchw`.
    pub fn of_metadata(metadata: &BTreeMap<&str, &str>, channels: usize) -> Result<Self, DataFault> {
        if let Some(layout) = metadata.get("layout").filter(|layout| !layout.eq_ignore_ascii_case("nchw")) {
            return Err(DataFault::Setting { key: "layout", found: shortened(layout), expected: "nchw".to_owned() });
        }
        let scale = match metadata.get("scale") {
            Some(text) => numbers("scale", text).and_then(|all| match all[..] {
                [one] => Ok(one),
                _ => Err(setting("scale", text, "one number")),
            })?,
            None => 1.0,
        };
        let list = |key| metadata.get(key).map_or(Ok(Vec::new()), |text| numbers(key, text));
        let preprocessing = Self::new(scale, list("mean")?, list("std")?)?;
        preprocessing.check(channels)?;
        Ok(preprocessing)
    }

    /// Whether these numbers fit images of so many channels.
    ///
    /// # Errors
    ///
    /// [`DataFault::Setting`] for a list that has neither one number nor one a channel.
    pub fn check(&self, channels: usize) -> Result<(), DataFault> {
        for (key, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.len() > 1 && list.len() != channels {
                let expected = if channels == 1 { "1 number".to_owned() } else { format!("1 or {channels} numbers") };
                return Err(DataFault::Setting { key, found: shortened(&joined(list)), expected });
            }
        }
        Ok(())
    }

    /// What becomes of a pixel of `channel`: computed in f64 and rounded once.
    pub fn value(&self, pixel: f64, channel: usize) -> f32 {
        let of = |list: &[f64], otherwise| list.get(channel).or(list.first()).copied().unwrap_or(otherwise);
        ((pixel * self.scale - of(&self.mean, 0.0)) / of(&self.std, 1.0)) as f32
    }

    /// Its entries in a dataset's metadata.
    pub(crate) fn entries(&self) -> Vec<(String, String)> {
        let text = |list: &[f64], otherwise: &str| if list.is_empty() { otherwise.to_owned() } else { joined(list) };
        vec![
            ("layout".to_owned(), "nchw".to_owned()),
            ("mean".to_owned(), text(&self.mean, "0")),
            ("scale".to_owned(), self.scale.to_string()),
            ("std".to_owned(), text(&self.std, "1")),
        ]
    }
}

fn joined(list: &[f64]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The beginning of text that somebody else wrote.
fn shortened(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    let start = start.replace(|c: char| c.is_control(), " ");
    if start.len() < text.len() { start + "…" } else { start }
}

fn setting(key: &'static str, text: &str, expected: &str) -> DataFault {
    DataFault::Setting { key, found: shortened(text), expected: expected.to_owned() }
}

fn numbers(key: &'static str, text: &str) -> Result<Vec<f64>, DataFault> {
    let parsed: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    parsed.map_err(|_| setting(key, text, "numbers with commas between"))
}

/// Names of classes as they stand in metadata: commas between.
///
/// # Errors
///
/// [`DataFault::Setting`] for a name that is empty or holds a comma or a control character.
pub(crate) fn classes_text(names: &[String]) -> Result<String, DataFault> {
    let bad = |name: &&String| name.is_empty() || name.contains(',') || name.chars().any(char::is_control);
    match names.iter().find(bad) {
        Some(name) => Err(setting("classes", name, "names without commas, none of them empty")),
        None => Ok(names.join(",")),
    }
}

/// The names of classes in metadata; none where there is no such key.
pub(crate) fn classes_of(metadata: &BTreeMap<&str, &str>) -> Result<Option<Vec<String>>, DataFault> {
    let Some(text) = metadata.get("classes") else { return Ok(None) };
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    classes_text(&names)?;
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(&str, &str)], channels: usize) -> Result<Preprocessing, DataFault> {
        Preprocessing::of_metadata(&entries.iter().copied().collect(), channels)
    }

    #[test]
    fn pixels_are_scaled_centred_and_divided() {
        let three = of(&[("scale", "0.5"), ("mean", "1,2, 3"), ("std", "2")], 3).expect("valid");
        assert_eq!([three.value(10.0, 0), three.value(10.0, 1), three.value(10.0, 2)], [2.0, 1.5, 1.0]);
        assert_eq!(of(&[], 3).expect("nothing to do").value(7.0, 2), 7.0);
        assert_eq!(Preprocessing::default().value(255.0, 0), 1.0);
    }

    #[test]
    fn entries_are_read_back() {
        let ours = Preprocessing::new(1.0 / 255.0, vec![0.4914, 0.4822, 0.4465], vec![0.247]).expect("valid");
        let entries = ours.entries();
        let entries = entries.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(Preprocessing::of_metadata(&entries, 3), Ok(ours));
    }

    #[test]
    fn nonsense_is_refused_by_key_and_value() {
        for (entries, text) in [
            (&[("std", "0")][..], "`std` is `0`; expected finite numbers above 0"),
            (&[("std", "1e-320")], "`std` is `0.000"),
            (&[("std", "NaN,1,1")], "`std` is `NaN`; expected finite numbers above 0"),
            (&[("mean", "1,inf,1")], "`mean` is `inf`; expected finite numbers"),
            (&[("mean", "1,2")], "`mean` is `1,2`; expected 1 or 3 numbers"),
            (&[("mean", "")], "`mean` is ``; expected numbers with commas between"),
            (&[("scale", "a\nb")], "`scale` is `a b`; expected numbers with commas between"),
            (&[("scale", "1,2")], "`scale` is `1,2`; expected one number"),
            (&[("scale", "-1")], "`scale` is `-1`; expected a finite number above 0"),
            (&[("layout", "nhwc")], "`layout` is `nhwc`; expected nchw"),
        ] {
            let fault = of(entries, 3).expect_err(text).to_string();
            assert!(fault.starts_with(text), "{fault}");
        }
        for name in ["", "a,b", "a\nb"] {
            assert!(classes_text(&[name.to_owned()]).is_err(), "{name:?}");
        }
    }
}
