//! Headers of GGUF.

use niwaki_gguf::{Entry, Layout, parse, verify};
use niwaki_tensors::Limits;

/// A whole file: what is accepted has its tensors inside the file and apart from each other,
/// is found by name, is verified without a panic, and its metadata comes back when it is
/// written again.
pub fn gguf_header(bytes: &[u8]) -> bool {
    let header = match parse(bytes, &Limits::default()) {
        Ok(header) => header,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && !text.is_empty(), "{text:?}");
            return false;
        }
    };
    let mut taken = Vec::new();
    for (index, info) in header.tensors.iter().enumerate() {
        assert_eq!(header.find(&info.name), Some(index));
        let Ok(range) = header.file_range(index) else { continue };
        assert!(range.is_empty() || range.end <= bytes.len(), "`{}` ends beyond the file", info.name);
        if !range.is_empty() {
            taken.push(range);
        }
    }
    taken.sort_by_key(|range| range.start);
    assert!(taken.windows(2).all(|pair| pair[0].end <= pair[1].start), "tensors overlap");
    for fault in verify(&header, bytes) {
        assert!(!fault.to_string().contains(char::is_control), "{fault}");
    }
    let entries = header.tensors.iter().filter_map(|info| {
        Some(Entry { name: info.name.clone(), dims: info.dims.clone(), ggml_type: info.ggml_type().ok()? })
    });
    // Names of 64 bytes are read and not written.
    let entries: Vec<Entry> = entries.filter(|entry| entry.name.len() < 64).collect();
    // Sizes may add up to more than a file can have.
    let Ok(layout) = Layout::new(&header.metadata, &entries) else { return true };
    let head = layout.header();
    let none = Layout::new(&header.metadata, &[]).expect("what was laid out with tensors");
    let again = parse(none.header(), &Limits::default()).expect("what we wrote");
    // Numbers that are NaN differ from themselves, so texts are compared.
    assert_eq!(format!("{:?}", again.metadata), format!("{:?}", header.metadata));
    assert_eq!(head.len() % again.alignment as usize, 0);
    true
}
