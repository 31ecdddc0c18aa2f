//! Values by patterns of module names, as `rank_pattern` and `alpha_pattern` give them.
//!
//! PEFT takes the first key, in the order of the file, that as a regular expression is all of a
//! module's name or the end of it after a dot. A key of letters, digits, `_`, `-` and dots is
//! looked up as it stands, so its dots match dots only. Expressions are those of the `regex`
//! crate over bytes, which takes linear time: no look-around, no back-references.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use regex::bytes::{RegexSet, RegexSetBuilder};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// Bytes that compiled expressions may take: the time for a name is a multiple of them.
const EXPRESSION_BYTES: usize = 1 << 18;

/// Keys and values in the order of the file.
#[derive(Debug)]
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

/// Values by patterns.
#[derive(Debug)]
pub(super) struct Patterns<T> {
    values: Vec<T>,
    /// Plain keys, and the places of their values.
    plain: BTreeMap<String, usize>,
    expressions: RegexSet,
    /// The places of their values.
    places: Vec<usize>,
}

impl<T: Copy> Patterns<T> {
    /// From the pairs of a file.
    ///
    /// # Errors
    ///
    /// A key that stands twice, and expressions that are malformed or too many; says why.
    pub(super) fn new(pairs: Vec<(String, T)>) -> Result<Self, String> {
        let (mut plain, mut texts, mut places) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut values = Vec::with_capacity(pairs.len());
        for (place, (key, value)) in pairs.into_iter().enumerate() {
            values.push(value);
            if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
                texts.push(format!(r"^(?:.*\.)?(?:{key})$"));
                places.push(place);
            } else if let Some(first) = plain.insert(key, place) {
                return Err(format!("its entries {} and {} have the same key", first + 1, place + 1));
            }
        }
        let expressions = RegexSetBuilder::new(&texts).unicode(false).size_limit(EXPRESSION_BYTES).build();
        let expressions = expressions.map_err(|e| match e {
            regex::Error::CompiledTooBig(max) => format!("its expressions take more than {max} bytes"),
            e => e.to_string().lines().last().unwrap_or_default().to_owned(),
        })?;
        Ok(Self { values, plain, expressions, places })
    }

    /// Whether there are keys that are no plain names.
    pub(super) fn has_expressions(&self) -> bool {
        !self.expressions.is_empty()
    }

    /// The value for a module.
    pub(super) fn value(&self, module: &str) -> Option<T> {
        let dots = module.match_indices('.').map(|(at, _)| at + 1);
        let ends = std::iter::once(0).chain(dots).filter_map(|at| module.get(at..));
        let plain = ends.filter_map(|end| self.plain.get(end)).min();
        let expression = match self.expressions.is_empty() {
            true => None,
            false => self.expressions.matches(module.as_bytes()).iter().next().and_then(|at| self.places.get(at)),
        };
        let first = plain.into_iter().chain(expression).min()?;
        self.values.get(*first).copied()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

struct Collect<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
    type Value = Pairs<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(keys: &[&str]) -> Patterns<usize> {
        Patterns::new(keys.iter().enumerate().map(|(at, key)| ((*key).to_owned(), at)).collect()).unwrap()
    }

    #[test]
    fn names_match_whole_or_after_a_dot() {
        let found = patterns(&["q_proj", "model.layers.1.v_proj"]);
        assert_eq!(found.value("q_proj"), Some(0));
        assert_eq!(found.value("model.layers.0.q_proj"), Some(0));
        assert_eq!(found.value("model.layers.0.my_q_proj"), None);
        assert_eq!(found.value("q_proj.more"), None);
        assert_eq!(found.value("model.layers.1.v_proj"), Some(1));
        assert_eq!(found.value("decoder.model.layers.1.v_proj"), Some(1));
        assert_eq!(found.value("model.layers.11.v_proj"), None);
    }

    #[test]
    fn the_first_key_of_the_file_wins() {
        assert_eq!(patterns(&["layers.0.q", "q"]).value("layers.0.q"), Some(0));
        assert_eq!(patterns(&["q", "layers.0.q"]).value("layers.0.q"), Some(0));
        assert_eq!(patterns(&[".*q", "q"]).value("layers.0.q"), Some(0));
        assert_eq!(patterns(&["q", ".*q"]).value("layers.0.q"), Some(0));
        assert_eq!(patterns(&["(k|v)", "[q]", "q"]).value("layers.0.q"), Some(1));
    }

    #[test]
    fn expressions_are_anchored_as_in_peft() {
        let found = patterns(&["^model.layers.0.q_proj", r"layers\.\d+\.(k|v)"]);
        assert_eq!(found.value("model.layers.0.q_proj"), Some(0));
        assert_eq!(found.value("x.model.layers.0.q_proj"), None);
        assert_eq!(found.value("model.layers.12.v"), Some(1));
        assert_eq!(found.value("model.layers.12.v.x"), None);
        assert_eq!(found.value("model.mylayers.12.v"), None);
    }

    #[test]
    fn what_cannot_be_matched_is_refused() {
        let new = |keys: Vec<String>| Patterns::new(keys.into_iter().map(|key| (key, 0)).collect()).unwrap_err();
        assert!(new(vec!["(".to_owned()]).starts_with("error: "));
        assert!(new(vec!["(?!q)k".to_owned()]).contains("look-around"));
        assert_eq!(new(vec!["(a{1000}){1000}".to_owned()]), "its expressions take more than 262144 bytes");
        assert_eq!(new(vec!["q".to_owned(), "q".to_owned()]), "its entries 1 and 2 have the same key");
    }
}
