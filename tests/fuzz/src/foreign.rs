//! Quantized checkpoints of others: a configuration, and tensors of any type and shape.

use niwaki_codes::UniformView;
use niwaki_codes::simd::Level;
use niwaki_foreign::{Imported, Inventory, Logical, Stored};
use niwaki_tensors::{Dtype, byte_len, parse_dtype};

use crate::text::refused;

/// Most bytes of one tensor: what is decoded stays a small multiple of them.
const MOST: usize = 1 << 14;

/// The text before an empty line: a `config.json` on the first line, which may be empty, then
/// `NAME DTYPE DIM..` of each tensor. What follows the empty line fills the tensors in turn.
pub fn foreign_checkpoint(bytes: &[u8]) -> bool {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, data) = bytes.split_at(end);
    let Ok(head) = std::str::from_utf8(head) else { return false };
    let (config, lines) = head.split_once('\n').unwrap_or((head, ""));
    let config = if config.is_empty() { None } else { serde_json::from_str(config).ok() };
    let mut filling = data.iter().skip(2).copied().chain((0..).map(|i: usize| (i * 37) as u8));
    let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for line in lines.lines().take(64) {
        let Some((name, dtype, shape, len)) = described(line) else { return false };
        tensors.push((name, dtype, shape, filling.by_ref().take(len).collect()));
    }
    let stored = tensors.iter().map(|(name, dtype, shape, bytes)| Stored::new(name, *dtype, shape, bytes));
    let inventory: Inventory<'_> = stored.map(|stored| stored.expect("bytes of the right length")).collect();
    match Imported::of(&inventory, config.as_ref()) {
        Ok(None) => false,
        Ok(Some(imported)) => {
            imported.tensors().iter().for_each(decodes);
            true
        }
        Err(error) => refused(&error),
    }
}

/// Name, type, shape and bytes of a line.
fn described(line: &str) -> Option<(&str, Dtype, Vec<usize>, usize)> {
    let mut words = line.split(' ');
    let (name, dtype) = (words.next()?, parse_dtype(words.next()?)?);
    let shape: Vec<usize> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
    let elements = shape.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
    let len = byte_len(dtype, elements).filter(|len| *len <= MOST)?;
    Some((name, dtype, shape, len))
}

/// All rows decode; under our own scheme, where there is one, to the same numbers.
fn decodes(tensor: &Logical<'_>) {
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let elements = rows.checked_mul(cols).expect("a size that was checked");
    assert!(elements <= 4 * MOST, "{elements} weights of a few bytes");
    let mut all = vec![0.0; elements];
    tensor.decode_rows(Level::best(), 0..rows, &mut all).expect("all rows");
    let Some(scheme) = tensor.uniform() else { return };
    let parts = tensor.uniform_rows(Level::best(), &scheme, 0..rows).expect("all rows");
    let zeros = (!parts.zeros.is_empty()).then_some(&parts.zeros[..]);
    let view = UniformView::new(scheme, rows, cols, &parts.codes, &parts.scales, zeros).expect("parts that fit");
    view.check().expect("codes of an encoder");
    let mut ours = vec![0.0; elements];
    view.dequantize_rows(Level::best(), 0..rows, &mut ours).expect("all rows");
    assert!(ours == all, "our scheme means other numbers");
}
