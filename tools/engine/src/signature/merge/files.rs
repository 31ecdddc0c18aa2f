//! The files of a checkpoint, and where in them each part of a tensor stands.

use std::ops::Range;
use std::path::Path;

use crate::source::Opened;

/// One file that is read.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
}

/// One part of one tensor in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the file.
    pub(super) file: usize,
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
}

/// All files of a checkpoint.
pub(super) fn files(opened: &Opened) -> Vec<File<'_>> {
    match opened {
        Opened::Tensors(artifact) => {
            let shards = artifact.checkpoint().shards().iter();
            shards.map(|shard| File { path: shard.path(), bytes: shard.bytes() }).collect()
        }
        Opened::Gguf(gguf) => vec![File { path: gguf.path(), bytes: gguf.bytes() }],
        Opened::Onnx(onnx) => onnx.files().iter().map(|file| File { path: &file.path, bytes: &file.bytes }).collect(),
    }
}

/// Where `part` stands, which is a slice of one of the files.
pub(super) fn place(files: &[File<'_>], part: &[u8]) -> Option<Place> {
    files.iter().enumerate().find_map(|(file, File { bytes, .. })| {
        let at = (part.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
        (at + part.len() <= bytes.len()).then(|| Place { file, range: at..at + part.len() })
    })
}

/// What lies between ranges of a file of `len` bytes, which are in order and do not overlap.
pub(super) fn between(ranges: &[Range<usize>], len: usize) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut gaps = Vec::new();
    for range in ranges {
        if range.start > at {
            gaps.push(at..range.start);
        }
        at = at.max(range.end);
    }
    if at < len {
        gaps.push(at..len);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_in_its_file() {
        let (a, b) = (vec![0; 100], vec![1; 50]);
        let files = [&a, &b].map(|bytes| File { path: Path::new("x"), bytes });
        assert_eq!(place(&files, &b[10..20]), Some(Place { file: 1, range: 10..20 }));
        assert_eq!(place(&files, &a[..0]), Some(Place { file: 0, range: 0..0 }));
        assert_eq!(place(&files, &[1; 4]), None);
    }

    #[test]
    fn what_lies_between_is_all_the_rest() {
        assert_eq!(between(&[2..4, 4..5, 9..10], 10), [0..2, 5..9]);
        let all = 0..3;
        assert_eq!(between(&[], 3), std::slice::from_ref(&all));
        assert!(between(std::slice::from_ref(&all), 3).is_empty());
    }
}
