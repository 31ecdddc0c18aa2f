//! Objects of JSON, taken apart one level at a time without building a tree.
//!
//! Every key is kept, repeated ones too, and every value is the text that stands there. What
//! this accepts is a superset of what a typed reader accepts: it checks brackets and commas,
//! not what values mean.

use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A value of JSON as the text that stands there.
pub(crate) type Raw<'a> = &'a RawValue;

/// The keys and values of one object, in order, with at most `max` of them.
pub(crate) fn object(text: &str, max: u64) -> Result<Vec<(String, Raw<'_>)>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let pairs = reader.deserialize_map(Object { max })?;
    reader.end()?;
    Ok(pairs)
}

/// The first key that stands a second time.
pub(crate) fn repeated<T>(pairs: &[(String, T)]) -> Option<&str> {
    let mut keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()).copied()
}

struct Object {
    max: u64,
}

impl<'de> Visitor<'de> for Object {
    type Value = Vec<(String, Raw<'de>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            // One more than allowed is kept, so that the caller sees that the limit was passed.
            if pairs.len() as u64 > self.max {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                break;
            }
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

/// The elements of one list, which must be exactly `N`.
pub(crate) fn list<const N: usize>(text: &str) -> Result<[Raw<'_>; N], serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let values = reader.deserialize_seq(List::<N>)?;
    reader.end()?;
    Ok(values)
}

struct List<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for List<N> {
    type Value = [Raw<'de>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {N}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::with_capacity(N);
        while values.len() < N
            && let Some(value) = seq.next_element()?
        {
            values.push(value);
        }
        let values = values.try_into().map_err(|short: Vec<Raw<'_>>| A::Error::invalid_length(short.len(), &self))?;
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(N + 1, &self));
        }
        Ok(values)
    }
}

/// A value of the type, where the text is one.
pub(crate) fn value<'a, T: serde::Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_kept_and_found() {
        let pairs = object(r#" {"b":1,"a":{"x":2},"b":[3]} "#, 9).unwrap();
        assert_eq!(pairs.iter().map(|(_, raw)| raw.get()).collect::<Vec<_>>(), ["1", r#"{"x":2}"#, "[3]"]);
        assert_eq!(repeated(&pairs), Some("b"));
        assert_eq!(repeated(&pairs[..2]), None);
    }

    #[test]
    fn keys_are_compared_unescaped() {
        assert_eq!(repeated(&object(r#"{"a":1,"\u0061":2}"#, 9).unwrap()), Some("a"));
    }

    #[test]
    fn one_key_more_than_allowed_is_kept() {
        assert_eq!(object(r#"{"a":1,"b":2,"c":3,"d":4}"#, 2).unwrap().len(), 3);
        assert!(object(r#"{"a":1,"b":2,"c":3,"d":}"#, 2).is_err());
    }

    #[test]
    fn lists_have_their_length() {
        assert_eq!(list::<2>("[1, [2]]").unwrap().map(|raw| raw.get()), ["1", "[2]"]);
        assert!(list::<2>("[1]").is_err() && list::<2>("[1,2,3]").is_err() && list::<2>("{}").is_err());
    }
}
