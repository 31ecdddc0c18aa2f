//! Headers and indexes of safetensors.

use std::path::{Component, Path};

use niwaki_tensors::{ErrorKind, Limits, byte_len, parse_header, parse_index};
use safetensors::SafeTensors;

use crate::text::refused;

/// A whole file: what is accepted, the `safetensors` crate accepts too, and the tensors
/// fill the data without a hole. What is refused, the crate refuses too, but for limits of
/// ours and for what stands twice.
pub fn safetensors_header(bytes: &[u8]) -> bool {
    let header = match parse_header(bytes, &Limits::default()) {
        Ok(header) => header,
        Err(error) => {
            let ours =
                matches!(error.kind(), ErrorKind::TwiceTensor | ErrorKind::TwiceKey { .. } | ErrorKind::Limit { .. });
            assert!(
                ours || adds_up_too_much(bytes) || SafeTensors::deserialize(bytes).is_err(),
                "only we say: {error}"
            );
            return refused(&error);
        }
    };
    let theirs = SafeTensors::deserialize(bytes).expect("a file that we accept");
    assert_eq!(theirs.len(), header.entries.len());
    let mut end = 0;
    for entry in &header.entries {
        assert_eq!(entry.begin, end, "a hole before `{}`", entry.name);
        assert_eq!(
            byte_len(entry.dtype, entry.shape.iter().product()),
            Some(entry.end - entry.begin),
            "size of `{}`",
            entry.name
        );
        let tensor = theirs.tensor(&entry.name).expect("a tensor that we list");
        assert_eq!((tensor.dtype(), tensor.shape()), (entry.dtype, &entry.shape[..]));
        end = entry.end;
    }
    assert_eq!(header.data_start + end, bytes.len(), "data that no tensor has");
    true
}

/// Whether there are numbers so long that the crate's sum of offsets may overflow.
fn adds_up_too_much(bytes: &[u8]) -> bool {
    bytes.split(|byte| !byte.is_ascii_digit()).any(|number| number.len() > 15)
}

/// An index: every file that it names is inside its folder.
pub fn safetensors_index(bytes: &[u8]) -> bool {
    let index = match parse_index(bytes, &Limits::default()) {
        Ok(index) => index,
        Err(error) => return refused(&error),
    };
    for shard in index.shards() {
        let inside = Path::new(shard).components().all(|part| matches!(part, Component::Normal(_)));
        assert!(inside && !shard.is_empty(), "`{shard}` leaves the folder");
    }
    true
}
