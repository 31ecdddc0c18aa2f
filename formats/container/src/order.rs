//! Where every part stands in the data of one shard.
//!
//! ```text
//! 1  all parts of all tensors that are not elastic, tensor by tensor
//! 2  the masks or positions of all elastic tensors
//! 3  the bases of all elastic tensors
//! 4  for each width from 2 to 8: the fixes of all tensors that serve it,
//!    then of each of them the planes that the width adds
//! ```
//!
//! So what a width needs is a prefix of the data. Every part that is not empty begins
//! at a multiple of 64 bytes; a pad tensor of zeros, `__niwaki_pad.N`, fills each gap,
//! because safetensors allows none. Pads are numbered in order, so a prefix of the data
//! is placed like a shard of its own.

use niwaki_codes::{Bits, Elastic, Shape};
use niwaki_tensors::{ALIGNMENT, Dtype, PAD_PREFIX, is_reserved};

use crate::error::{Error, ErrorKind};
use crate::parts::{Layout, Part};

/// One physical tensor of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the header.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Shape,
    /// Its first byte, counted from the beginning of the data.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it holds.
    pub slot: Slot,
}

impl From<&Entry> for niwaki_tensors::Entry {
    /// The entry as [`niwaki_tensors::Layout::exact`] takes it, pads among the others.
    fn from(entry: &Entry) -> Self {
        Self { name: entry.name.clone(), dtype: entry.dtype, shape: entry.shape.dims().to_vec() }
    }
}

/// What a physical tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Zeros that fill a gap.
    Pad,
    /// A part of a logical tensor.
    Part {
        /// Index of the logical tensor in plan order.
        tensor: usize,
        /// Which part.
        part: Part,
        /// The narrowest width that needs it; none for what every width needs.
        width: Option<Bits>,
    },
}

/// All physical tensors of one shard, in the order of their data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    entries: Vec<Entry>,
    bytes: u64,
}

impl Placement {
    /// Places the given tensors, which are in plan order.
    ///
    /// # Errors
    ///
    /// Those of [`Layout::parts`] with the tensor's name, [`ErrorKind::Name`] for two
    /// physical tensors of one name, [`ErrorKind::Reserved`] for a name that pads and records of patches use.
    pub fn new<'a>(tensors: impl IntoIterator<Item = (&'a str, Layout)>) -> Result<Self, Error> {
        let mut parts = Vec::new();
        for (tensor, (name, layout)) in tensors.into_iter().enumerate() {
            let elastic = layout.elastic();
            for spec in layout.parts().map_err(|error| error.in_tensor(name))? {
                let width = elastic.and_then(|elastic| width(&elastic, spec.part));
                let rank = rank(elastic.is_some(), spec.part, width);
                parts.push((rank, name, spec, Slot::Part { tensor, part: spec.part, width }));
            }
        }
        // Stable: within a rank, tensors stay in plan order and planes in theirs.
        parts.sort_by_key(|(rank, ..)| *rank);
        let mut placement = Self::default();
        let mut pads = 0;
        for (_, name, spec, slot) in parts {
            if spec.bytes > 0 {
                placement.pad(&mut pads)?;
            }
            placement.push(spec.part.name(name), (spec.dtype, spec.shape), spec.bytes as u64, slot);
        }
        placement.check_names()?;
        Ok(placement)
    }

    /// The physical tensors, pads included, in the order of their data.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of the data.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entries that width `bits` needs, always a prefix of [`entries`](Self::entries).
    pub fn prefix(&self, bits: Bits) -> &[Entry] {
        let needed = |entry: &Entry| match entry.slot {
            Slot::Pad => false,
            Slot::Part { width, .. } => width.is_none_or(|width| width <= bits),
        };
        let end = self.entries.iter().rposition(needed).map_or(0, |last| last + 1);
        self.entries.get(..end).unwrap_or(&self.entries)
    }

    /// Bytes of the data that width `bits` needs.
    pub fn prefix_bytes(&self, bits: Bits) -> u64 {
        self.prefix(bits).last().map_or(0, |entry| entry.offset + entry.bytes)
    }

    fn pad(&mut self, pads: &mut usize) -> Result<(), Error> {
        let gap = self.bytes.next_multiple_of(ALIGNMENT) - self.bytes;
        if gap > 0 {
            let shape = Shape::new(&[gap as usize]).map_err(ErrorKind::Codes)?;
            self.push(format!("{PAD_PREFIX}{pads}"), (Dtype::U8, shape), gap, Slot::Pad);
            *pads += 1;
        }
        Ok(())
    }

    fn push(&mut self, name: String, (dtype, shape): (Dtype, Shape), bytes: u64, slot: Slot) {
        self.entries.push(Entry { name, dtype, shape, offset: self.bytes, bytes, slot });
        self.bytes += bytes;
    }

    fn check_names(&self) -> Result<(), Error> {
        let mut names: Vec<_> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair.first() == pair.last());
        let pads = |entry: &&Entry| entry.slot != Slot::Pad && is_reserved(&entry.name);
        let taken = self.entries.iter().find(pads).map(|entry| entry.name.as_str());
        match (taken, twice.and_then(|pair| pair.first())) {
            (Some(name), _) => Err(ErrorKind::Reserved(name.to_owned()).into()),
            (_, Some(name)) => Err(ErrorKind::Name((*name).to_owned()).into()),
            (None, None) => Ok(()),
        }
    }
}

/// The narrowest served width that needs `part` of an elastic tensor.
fn width(elastic: &Elastic, part: Part) -> Option<Bits> {
    match part {
        Part::Fix(bits) => Some(bits),
        Part::Plane(plane) => elastic.widths.iter().find(|bits| 8 - bits.get() <= u32::from(plane)),
        _ => None,
    }
}

/// The place of a part among the groups of the module's table.
fn rank(elastic: bool, part: Part, width: Option<Bits>) -> u32 {
    match (elastic, part, width) {
        (false, ..) => 0,
        (true, Part::Mask | Part::Positions, _) => 1,
        (true, Part::Fix(_), Some(bits)) => 2 * bits.get(),
        (true, _, Some(bits)) => 2 * bits.get() + 1,
        (true, ..) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::Kept;

    fn bits(n: u32) -> Bits {
        Bits::new(n).unwrap()
    }

    fn layout(dims: &[usize], scheme: &str) -> Layout {
        let scheme = (scheme != "dense").then(|| scheme.parse().unwrap());
        Layout { scheme, ..Layout::plain(Dtype::F32, Shape::new(dims).unwrap()) }
    }

    fn names(entries: &[Entry]) -> String {
        let names: Vec<_> = entries.iter().filter(|e| e.slot != Slot::Pad).map(|e| e.name.as_str()).collect();
        names.join(" ")
    }

    #[test]
    fn widths_are_prefixes_in_the_order_of_the_table() {
        let kept = |kept| Layout { kept: Some(kept), ..layout(&[4, 4], "elastic/g4/2,4") };
        let (masked, listed) = (kept(Kept::by_mask(9)), Layout { scheme: None, ..kept(Kept::by_positions(9)) });
        let tensors = [
            ("e", layout(&[4, 8], "elastic/g8/2,3")),
            ("m", masked),
            ("p", kept(Kept::by_positions(2))),
            ("d", listed),
        ];
        let placement = Placement::new(tensors).unwrap();
        let two = "d.positions d.values m.mask p.positions e.base m.base p.base \
                   e.fix2 m.fix2 p.fix2 e.plane7 e.plane6 m.plane7 m.plane6 p.plane7 p.plane6";
        assert_eq!(names(placement.prefix(bits(2))), two);
        assert_eq!(names(placement.prefix(bits(3))), format!("{two} e.fix3 e.plane5"));
        let all = format!("{two} e.fix3 e.plane5 m.fix4 p.fix4 m.plane5 m.plane4 p.plane5 p.plane4");
        assert_eq!(names(placement.prefix(bits(4))), all);
        assert_eq!(placement.prefix(bits(4)), placement.entries());
        assert_eq!(placement.prefix_bytes(bits(4)), placement.bytes());
    }

    #[test]
    fn a_prefix_is_placed_like_a_shard_of_its_own() {
        let wide =
            Placement::new([("b", layout(&[3], "dense")), ("e", layout(&[5, 70], "elastic/g32/2,4,8"))]).unwrap();
        let narrow =
            Placement::new([("b", layout(&[3], "dense")), ("e", layout(&[5, 70], "elastic/g32/2,4"))]).unwrap();
        assert_eq!(wide.prefix(bits(4)), narrow.entries());
        assert_eq!(wide.prefix_bytes(bits(4)), narrow.bytes());
    }

    #[test]
    fn parts_are_aligned_and_leave_no_gap() {
        let tensors =
            [("a", layout(&[3], "dense")), ("z", layout(&[0, 4], "dense")), ("w", layout(&[7, 9], "int3/g4/affine"))];
        let placement = Placement::new(tensors).unwrap();
        let mut at = 0;
        for entry in placement.entries() {
            assert_eq!(entry.offset, at, "{}", entry.name);
            assert!(entry.slot == Slot::Pad || entry.bytes == 0 || at.is_multiple_of(ALIGNMENT), "{}", entry.name);
            at += entry.bytes;
        }
        assert_eq!(placement.bytes(), at);
        assert_eq!(placement.entries()[2].name, "__niwaki_pad.0");
        assert_eq!(placement.entries()[2].bytes, 52);
    }

    #[test]
    fn two_physical_tensors_of_one_name_are_refused() {
        let tensors = [("w", layout(&[4, 4], "int4/row/sym")), ("w.codes", layout(&[1], "dense"))];
        let error = Placement::new(tensors).unwrap_err();
        assert_eq!(error.to_string(), "two stored tensors are called `w.codes`");
        let error = Placement::new([("__niwaki_pad.0", layout(&[1], "dense"))]).unwrap_err();
        assert_eq!(error.to_string(), "`__niwaki_pad.0` is a name that pads and records of patches use");
    }

    #[test]
    fn no_tensors_make_no_data() {
        let placement = Placement::new([]).unwrap();
        assert_eq!((placement.entries().len(), placement.bytes(), placement.prefix_bytes(bits(2))), (0, 0, 0));
    }
}
