//! Datasets, and the IDX files and pictures that they are made of.

use std::sync::Arc;

use niwaki_engine::dataset::import::idx::Idx;
use niwaki_engine::dataset::import::picture::decode;
use niwaki_engine::dataset::{Dataset, Tokens};
use niwaki_tensors::{Checkpoint, Limits};

use crate::text::refused;

/// The most numbers that are read of one item.
const MOST: usize = 1 << 16;

/// A whole file, read as images and as tokens: what opens has items, labels below the number of
/// classes, and finite pixels.
pub fn dataset_file(bytes: &[u8]) -> bool {
    let open = || Checkpoint::from_bytes("data.safetensors", Arc::from(bytes), &Limits::default());
    let images = match open().map_err(niwaki_engine::Error::from).and_then(Dataset::of_checkpoint) {
        Ok(data) => {
            images(&data);
            true
        }
        Err(error) => refused(&error),
    };
    let tokens = match open().map_err(niwaki_engine::Error::from).and_then(Tokens::of_checkpoint) {
        Ok(data) => {
            tokens(&data);
            true
        }
        Err(error) => refused(&error),
    };
    images || tokens
}

fn images(data: &Dataset) {
    assert!(!data.is_empty() && data.item_len() > 0);
    if data.item_len() <= MOST {
        let mut out = vec![f32::NAN; data.item_len()];
        if data.batch([data.len() - 1], &mut out).is_ok() {
            assert!(out.iter().all(|x| !x.is_nan()));
        }
        assert!(data.batch([data.len()], &mut out).is_err(), "an item that is not there");
    }
    if data.labelled() {
        assert!((0..data.len()).all(|item| data.label(item).expect("a label") < data.classes()));
    }
}

fn tokens(data: &Tokens) {
    assert!(!data.is_empty() && data.length() > 0);
    if data.length() <= MOST {
        let mut out = vec![0; data.length()];
        if data.batch([0], &mut out).is_ok()
            && let Some(most) = data.vocabulary()
        {
            assert!(out.iter().all(|token| u64::from(*token) < most));
        }
        assert!(data.batch([data.len()], &mut out).is_err(), "an item that is not there");
    }
}

/// An IDX file of unsigned bytes: what is read are the bytes after the header, all of them.
pub fn idx_file(bytes: &[u8]) -> bool {
    let mut idx = match Idx::new(bytes, bytes.len() as u64) {
        Ok(idx) => idx,
        Err(error) => return refused(&error),
    };
    let (header, dims) = (4 + 4 * idx.dims().len(), idx.dims().iter().product::<usize>());
    let first = idx.next(1).expect("one item, as long as the file");
    assert_eq!(first.len(), idx.item_bytes());
    let rest = idx.next(usize::MAX).expect("as many items as the header says");
    assert_eq!([first, rest].concat(), bytes[header..header + dims]);
    match idx.finish() {
        Ok(()) => true,
        Err(error) => {
            assert!(header + dims < bytes.len());
            refused(&error)
        }
    }
}

/// A PNG or JPEG file: colours and grey are as many as the size says.
pub fn picture_file(bytes: &[u8]) -> bool {
    let colours = match decode(bytes, 3) {
        Ok(colours) => colours,
        Err(error) => return refused(&error),
    };
    let pixels = colours.height * colours.width;
    assert_eq!(colours.planes.len(), 3 * pixels);
    let grey = decode(bytes, 1).expect("a picture that has been decoded");
    assert_eq!((grey.planes.len(), grey.height), (pixels, colours.height));
    true
}
