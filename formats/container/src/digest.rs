//! Identities: what is hashed, and how one part is hashed by several threads.
//!
//! ```text
//! content hash      BLAKE3(bytes of one part)
//! plain tensor      BLAKE3("niwaki tensor\0" DTYPE "\0" SHAPE "\0" content)
//! stored tensor     BLAKE3("niwaki code\0" SCHEME "\0" DTYPE "\0" SHAPE "\0"
//!                          (SUFFIX "\0" DTYPE "\0" SHAPE "\0" content)*)   by suffix
//! checkpoint        BLAKE3("niwaki checkpoint\0" (NAME "\0" digest)*)      by name
//! ```
//!
//! Content hashes and digests enter as their 32 raw bytes. SHAPE is the dimensions in
//! decimal joined by `x`, the empty text for a scalar. A plain tensor is one that is
//! stored as it was; every other one is a stored tensor, SCHEME `dense` where only a
//! mask was applied.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::error::{Error, ErrorKind};
use crate::parts::{Layout, PartSpec, dtype_text, shape_text};

/// A BLAKE3 hash of 32 bytes, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The content hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Reads 64 lower-case hex digits; anything else is [`ErrorKind::DigestText`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::from(ErrorKind::DigestText(text.to_owned()));
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The content hash of one part, taken piece by piece in any order and on any thread.
///
/// Equal to [`Digest::of`] over the whole: pieces of 1 MiB are subtrees of BLAKE3's tree.
///
/// # Examples
///
/// ```
/// use niwaki_container::{ContentHasher, Digest};
///
/// let bytes = vec![7; 3_000_000];
/// let hasher = ContentHasher::new(bytes.len() as u64);
/// let pieces: Vec<_> = (0..hasher.pieces())
///     .map(|i| {
///         let range = hasher.range(i);
///         hasher.piece(i, &bytes[range.start as usize..range.end as usize])
///     })
///     .collect();
/// assert_eq!(hasher.combine(&pieces), Digest::of(&bytes));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ContentHasher {
    len: u64,
}

/// What one piece adds to a [`ContentHasher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceHash([u8; 32]);

impl ContentHasher {
    /// Bytes of every piece but the last.
    pub const PIECE: u64 = 1 << 20;

    /// A hasher of a part of `len` bytes.
    pub fn new(len: u64) -> Self {
        Self { len }
    }

    /// How many pieces there are; one, empty, for no bytes.
    pub fn pieces(&self) -> u64 {
        self.len.div_ceil(Self::PIECE).max(1)
    }

    /// The bytes of piece `index`.
    pub fn range(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(Self::PIECE).min(self.len);
        start..start.saturating_add(Self::PIECE).min(self.len)
    }

    /// Hashes piece `index`.
    ///
    /// # Panics
    ///
    /// If `bytes` is not as long as [`range`](Self::range) says.
    pub fn piece(&self, index: u64, bytes: &[u8]) -> PieceHash {
        self.piece_of(index, [bytes])
    }

    /// Hashes piece `index`, given as consecutive slices.
    ///
    /// # Panics
    ///
    /// If the slices together are not as long as [`range`](Self::range) says.
    pub fn piece_of<'a>(&self, index: u64, slices: impl IntoIterator<Item = &'a [u8]>) -> PieceHash {
        let range = self.range(index);
        let mut hasher = Hasher::new();
        if self.pieces() > 1 {
            hasher.set_input_offset(range.start);
        }
        let mut len = 0;
        for slice in slices {
            len += slice.len() as u64;
            assert!(len <= range.end - range.start, "piece {index} is longer than its range");
            hasher.update(slice);
        }
        assert_eq!(len, range.end - range.start, "piece {index} is shorter than its range");
        match self.pieces() {
            1 => PieceHash(*hasher.finalize().as_bytes()),
            _ => PieceHash(hasher.finalize_non_root()),
        }
    }

    /// The content hash, from all pieces in order of index.
    ///
    /// # Panics
    ///
    /// If there are not as many as [`pieces`](Self::pieces) says.
    pub fn combine(&self, pieces: &[PieceHash]) -> Digest {
        assert_eq!(pieces.len() as u64, self.pieces(), "a hash of another number of pieces");
        match pieces {
            [only] => Digest(only.0),
            _ => {
                let (left, right) = pieces.split_at(left_pieces(pieces.len()));
                merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).into()
            }
        }
    }
}

/// The chaining value over `pieces`, of which there is at least one.
fn subtree(pieces: &[PieceHash]) -> [u8; 32] {
    match pieces {
        [only] => only.0,
        _ => {
            let (left, right) = pieces.split_at(left_pieces(pieces.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// BLAKE3's left subtree: the largest power of two below `pieces`, which is 2 or more.
///
/// The rule speaks of 1 KiB chunks; a piece is 2^10 of them, so it holds of pieces too.
fn left_pieces(pieces: usize) -> usize {
    pieces.next_power_of_two() / 2
}

/// The digest of a tensor stored as it is.
pub fn tensor_digest(dtype: niwaki_tensors::Dtype, dims: &[usize], content: Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"niwaki tensor\0");
    field(&mut hasher, &dtype_text(dtype));
    field(&mut hasher, &shape_text(dims));
    hasher.update(&content.0);
    hasher.finalize().into()
}

/// The digest of a tensor stored in the given parts, each with its content hash: that of
/// [`tensor_digest`] for one stored as it is. The order of `parts` does not matter.
pub fn stored_digest(layout: &Layout, parts: &[(PartSpec, Digest)]) -> Digest {
    if let ([(_, content)], true) = (parts, layout.is_plain()) {
        return tensor_digest(layout.dtype, layout.shape.dims(), *content);
    }
    let mut hasher = Hasher::new();
    hasher.update(b"niwaki code\0");
    field(&mut hasher, &layout.scheme_text());
    field(&mut hasher, &dtype_text(layout.dtype));
    field(&mut hasher, &shape_text(layout.shape.dims()));
    let mut sorted: Vec<_> = parts.iter().map(|(spec, content)| (spec.part.suffix(), spec, content)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    for (suffix, spec, content) in sorted {
        field(&mut hasher, &suffix);
        field(&mut hasher, &dtype_text(spec.dtype));
        field(&mut hasher, &shape_text(spec.shape.dims()));
        hasher.update(&content.0);
    }
    hasher.finalize().into()
}

/// The digest of a checkpoint from the digests of its tensors, in any order.
pub fn checkpoint_digest<'a>(tensors: impl IntoIterator<Item = (&'a str, Digest)>) -> Digest {
    let mut sorted: Vec<_> = tensors.into_iter().collect();
    sorted.sort_unstable();
    let mut hasher = Hasher::new();
    hasher.update(b"niwaki checkpoint\0");
    for (name, digest) in sorted {
        field(&mut hasher, name);
        hasher.update(&digest.0);
    }
    hasher.finalize().into()
}

fn field(hasher: &mut Hasher, text: &str) {
    hasher.update(text.as_bytes());
    hasher.update(b"\0");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_pieces(bytes: &[u8]) -> Digest {
        let hasher = ContentHasher::new(bytes.len() as u64);
        let mut pieces: Vec<_> = (0..hasher.pieces())
            .rev()
            .map(|i| {
                let r = hasher.range(i);
                hasher.piece(i, &bytes[r.start as usize..r.end as usize])
            })
            .collect();
        pieces.reverse();
        hasher.combine(&pieces)
    }

    #[test]
    fn pieces_in_any_order_hash_like_the_whole() {
        const MIB: usize = 1 << 20;
        let lens = [0, 1, 1023, 1024, 1025, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1]
            .into_iter()
            .chain([3 * MIB, 3 * MIB + MIB / 2, 4 * MIB, 4 * MIB + 1, 5 * MIB + 7, 7 * MIB, 8 * MIB + 1024]);
        let all: Vec<u8> = (0..9 * MIB as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in lens {
            assert_eq!(by_pieces(&all[..len]), Digest::of(&all[..len]), "{len} bytes");
        }
    }

    #[test]
    fn a_changed_byte_changes_the_hash_by_pieces() {
        let mut bytes = vec![1; 3 << 20];
        let before = by_pieces(&bytes);
        bytes[2 << 20] = 2;
        assert_ne!(by_pieces(&bytes), before);
    }

    #[test]
    fn a_piece_may_come_in_slices() {
        let bytes = vec![3; (1 << 20) + 100];
        let hasher = ContentHasher::new(bytes.len() as u64);
        let whole = hasher.piece(1, &bytes[1 << 20..]);
        assert_eq!(hasher.piece_of(1, bytes[1 << 20..].chunks(7)), whole);
    }

    #[test]
    #[should_panic(expected = "shorter than its range")]
    fn a_short_piece_panics() {
        ContentHasher::new(10).piece(0, &[0; 9]);
    }

    #[test]
    fn text_of_a_digest_goes_there_and_back() {
        let digest = Digest::of(b"");
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        for wrong in [&text[1..], &text.to_uppercase(), &format!("{text}00"), "", &text.replace('f', "g")] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_checkpoint_does_not_depend_on_the_order_of_its_tensors() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let there = checkpoint_digest([("a", a), ("b", b)]);
        assert_eq!(there, checkpoint_digest([("b", b), ("a", a)]));
        assert_ne!(there, checkpoint_digest([("a", b), ("b", a)]));
    }

    #[test]
    fn a_tensor_digest_is_its_definition() {
        let content = Digest::of(b"12345678");
        let mut text = b"niwaki tensor\0F32\x002x1\0".to_vec();
        text.extend_from_slice(&content.0);
        assert_eq!(tensor_digest(niwaki_tensors::Dtype::F32, &[2, 1], content), Digest::of(&text));
        let mut scalar = b"niwaki tensor\0F64\0\0".to_vec();
        scalar.extend_from_slice(&content.0);
        assert_eq!(tensor_digest(niwaki_tensors::Dtype::F64, &[], content), Digest::of(&scalar));
    }
}
