//! Shares of a plan, done by runs that know nothing of each other.
//!
//! ```text
//! plan -- 1/3 --> model-00001-of-00003.safetensors --.
//!      -- 2/3 --> model-00002-of-00003.safetensors --+-- join --> one checkpoint
//!      -- 3/3 --> model-00003-of-00003.safetensors --'
//! ```
//!
//! Which tensor is whose, the plan alone decides: the largest goes first, each to the share that
//! has the fewest bytes of source yet, of equal ones to the first. So every run comes to the same
//! answer on its own, whatever machine it is on.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use niwaki_container::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::destination::Seats;
use crate::error::{Error, ErrorKind};
use crate::plan::Plan;
use crate::source::Source;

/// Shares of a plan there are at most: names of files have room for so many.
const MOST: u32 = 99_999;

/// Bytes at each end of a tensor that tell one source from another.
const SAMPLE: usize = 4096;

/// The i-th of n shares of a plan, as text `i/n`.
///
/// # Invariants
///
/// - `1 <= number <= of <= 99999`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    of: u32,
    number: u32,
}

impl Share {
    /// Share `number`, from 1 on, of so many; none where there is none of that number.
    pub fn new(number: u32, of: u32) -> Option<Self> {
        (1 <= number && number <= of && of <= MOST).then_some(Self { of, number })
    }

    /// Its number, from 1 on.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many shares there are.
    pub fn of(self) -> u32 {
        self.of
    }

    /// Whether it is the first, which does what has to be done once.
    pub(crate) fn is_first(self) -> bool {
        self.number == 1
    }

    /// The name of its file in the folder of the job.
    pub fn file_name(self) -> String {
        format!("model-{:05}-of-{:05}.safetensors", self.number, self.of)
    }

    /// The share whose file has this name.
    pub(crate) fn of_file_name(name: &str) -> Option<Self> {
        let (number, of) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
        let share = Self::new(number.parse().ok()?, of.parse().ok()?)?;
        (share.file_name() == name).then_some(share)
    }

    /// Which items it gets of a list that is shared by weight; ascending.
    fn items(self, weights: &[u64]) -> Vec<usize> {
        let mut largest_first: Vec<usize> = (0..weights.len()).collect();
        let weight = |item: &usize| weights.get(*item).copied().unwrap_or(0);
        largest_first.sort_by_key(|item| std::cmp::Reverse(weight(item)));
        let mut loads: BTreeSet<(u64, u32)> = (1..=self.of).map(|number| (0, number)).collect();
        let mut own = Vec::new();
        for item in largest_first {
            let Some((load, number)) = loads.pop_first() else { break };
            loads.insert((load.saturating_add(weight(&item)), number));
            if number == self.number {
                own.push(item);
            }
        }
        own.sort_unstable();
        own
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        numbers.and_then(|(number, of)| Self::new(number, of)).ok_or_else(|| {
            let what = format!("`{text}` is no share: expected i/n with 1 <= i <= n <= {MOST}");
            let error = Error::from(ErrorKind::Usage { what });
            // Many schedulers count from 0.
            if text.starts_with("0/") { error.hinting("the first share is 1/n") } else { error }
        })
    }
}

/// What a part says of itself, under the key `part` of its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Its number, from 1 on.
    pub(crate) number: u32,
    /// How many parts there are.
    pub(crate) of: u32,
    /// Digest of the plan: what is decided of every tensor.
    pub(crate) plan: String,
    /// Bytes of header that the metadata of the whole output takes at most.
    pub(crate) room: usize,
    /// Digest of samples of the source.
    pub(crate) source: String,
    /// The numbers of its tensors in the plan, ascending.
    pub(crate) tensors: Vec<usize>,
}

impl Said {
    /// As it stands in the metadata.
    pub(crate) fn to_value(&self) -> Value {
        // Numbers and texts: nothing that JSON cannot hold.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Reads it from the metadata.
    pub(crate) fn of_value(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }
}

/// Leaves of a plan what is in a share of it; `room` is what the metadata takes of the whole plan.
///
/// # Errors
///
/// Formats of others, which have no parts that `join` could make one of.
pub(crate) fn take(source: &Source<'_>, plan: &mut Plan, share: Share, room: usize) -> Result<(), Error> {
    if !matches!(plan.to.seats, Seats::Ours) {
        let what = format!("a part of an output in {}", plan.to.format());
        let error = Error::from(ErrorKind::Unsupported { what });
        return Err(error.hinting("leave `--to` out; `export` takes the joined output over"));
    }
    let weights: Vec<u64> = plan.tensors.iter().map(|tensor| tensor.bytes_before).collect();
    let own = share.items(&weights);
    let said = Said {
        number: share.number,
        of: share.of,
        plan: Digest::of(decided(source, plan).as_bytes()).to_string(),
        room,
        source: sampled(source).to_string(),
        tensors: own,
    };
    let mut number = 0;
    plan.tensors.retain(|_| {
        number += 1;
        said.tensors.binary_search(&(number - 1)).is_ok()
    });
    plan.part = Some(said);
    Ok(())
}

/// Everything that a plan decides, as text.
pub(crate) fn decided(source: &Source<'_>, plan: &Plan) -> String {
    let mut text = format!("{}\n{}\n", env!("CARGO_PKG_VERSION"), plan.recipe);
    for t in &plan.tensors {
        text += &format!("{} {:?} {} {:?} {:?}\n", t.name, t.layout, t.fit, t.weighing, t.selection);
    }
    text += &plan.stats.as_ref().map_or_else(String::new, |stats| stats.digest().to_string());
    text += &source.folded().map_or_else(String::new, |folded| folded.stats().to_string());
    text + &format!("{:?}\n", (&plan.signature, source.seals(), &plan.part))
}

/// A digest of names, types, shapes and of both ends of the stored bytes of every tensor. No run
/// of a split job reads the whole source; this costs two pages a tensor, and another training of
/// the same model has another one.
fn sampled(source: &Source<'_>) -> Digest {
    let mut buffer = Vec::new();
    let mut text = Vec::new();
    for tensor in source.tensors() {
        let bytes = tensor.stored_bytes() as usize;
        text.extend_from_slice(format!("{} {} {} {bytes}\n", tensor.name(), tensor.dtype(), tensor.shape()).as_bytes());
        for range in [0..bytes.min(SAMPLE), bytes.saturating_sub(SAMPLE)..bytes] {
            text.extend_from_slice(&Digest::of(tensor.stored_range(range, &mut buffer)).0);
        }
    }
    Digest::of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    #[test]
    fn every_item_is_in_one_share_and_shares_weigh_about_the_same() {
        let weights: Vec<u64> = (0..200).map(|i| i * 7919 % 1000).collect();
        for of in [1, 2, 3, 7, 16] {
            let all: Vec<Vec<usize>> = (1..=of).map(|i| Share::new(i, of).unwrap().items(&weights)).collect();
            let mut items: Vec<usize> = all.concat();
            items.sort_unstable();
            assert_eq!(items, (0..200).collect::<Vec<_>>());
            let loads: Vec<u64> = all.iter().map(|own| own.iter().map(|i| weights[*i]).sum()).collect();
            // A share is ahead of another by the item that it got last, at most.
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1000, "{loads:?}");
        }
    }

    #[test]
    fn more_shares_than_items_leave_some_empty() {
        let all: Vec<Vec<usize>> = (1..=4).map(|i| Share::new(i, 4).unwrap().items(&[5, 9])).collect();
        assert_eq!(all, [vec![1], vec![0], vec![], vec![]]);
    }

    #[test]
    fn text_and_file_name_go_there_and_back() {
        assert_eq!(share("3/16").to_string(), "3/16");
        assert_eq!(share("3/16").file_name(), "model-00003-of-00016.safetensors");
        assert_eq!(Share::of_file_name("model-00003-of-00016.safetensors"), Some(share("3/16")));
        for other in ["model.safetensors", "model-3-of-16.safetensors", "model-00017-of-00016.safetensors"] {
            assert_eq!(Share::of_file_name(other), None, "{other}");
        }
        for wrong in ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/100000", "a/b", "1/3/5", "1 / 3"] {
            let error = wrong.parse::<Share>().unwrap_err();
            let text = format!("`{wrong}` is no share: expected i/n with 1 <= i <= n <= 99999");
            assert_eq!(error.to_string(), text);
        }
        assert_eq!("0/3".parse::<Share>().unwrap_err().hint(), Some("the first share is 1/n"));
    }
}
