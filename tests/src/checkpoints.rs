//! Made-up checkpoints, written without any code of the project.

use std::io::Write;
use std::path::Path;

/// One tensor to write: name, type, shape, bytes.
pub type Tensor<'a> = (&'a str, &'a str, &'a [usize], Vec<u8>);

/// The header of a safetensors file that holds these tensors in this order.
pub fn header(tensors: &[Tensor<'_>]) -> String {
    let mut at = 0;
    let entries = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let start = at;
        at += bytes.len();
        format!("{name:?}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{at}]}}")
    });
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

/// The bytes of a safetensors file with this header.
pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let padded = header.len().next_multiple_of(8);
    let mut out = (padded as u64).to_le_bytes().to_vec();
    out.extend(header.bytes().chain(std::iter::repeat(b' ')).take(padded));
    out.extend_from_slice(data);
    out
}

/// Writes tensors to `path`.
///
/// # Panics
///
/// If the file cannot be written.
pub fn write(path: impl AsRef<Path>, tensors: &[Tensor<'_>]) {
    let data: Vec<u8> = tensors.iter().flat_map(|t| t.3.iter().copied()).collect();
    std::fs::write(path, file(&header(tensors), &data)).expect("a file that can be written");
}

/// Weights that look like those of a network: a sum of uniform numbers, seeded.
pub fn weights(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (next() + next() + next()) * 0.04).collect()
}

/// Values as F32 bytes.
pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Values as BF16 bytes.
pub fn bf16s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect()
}

/// A file with `count` F32 tensors of `rows` by `cols`, written piece by piece.
///
/// # Panics
///
/// If the file cannot be written.
pub fn write_large(path: impl AsRef<Path>, count: usize, rows: usize, cols: usize) {
    let names: Vec<String> = (0..count).map(|i| format!("layers.{i:03}.weight")).collect();
    let bytes = rows * cols * 4;
    let entries = names.iter().enumerate().map(|(i, name)| {
        let (from, to) = (i * bytes, (i + 1) * bytes);
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{rows},{cols}],\"data_offsets\":[{from},{to}]}}")
    });
    let header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).expect("a file that can be written"));
    out.write_all(&file(&header, &[])).expect("room for the header");
    for i in 0..count {
        // One row of random numbers, turned a little further in every row: cheap and never constant.
        let row = weights(i as u64 + 1, cols);
        for r in 0..rows {
            let turn = r * 31 % cols;
            out.write_all(&f32s(&row[turn..])).expect("room for a row");
            out.write_all(&f32s(&row[..turn])).expect("room for a row");
        }
    }
    out.flush().expect("room for the rest");
}

/// The made-up inputs of the transcripts: one for each thing that can be wrong, and a
/// small language model.
///
/// # Panics
///
/// If a file cannot be written.
pub fn write_scene(made: &Path) {
    std::fs::create_dir_all(made.join("llm")).expect("a folder that can be written");
    crate::residual::resnet(&made.join("residual.onnx"), [1, 28], [3, 4], &[]);
    let mut spoilt = weights(1, 64);
    spoilt[37] = f32::NAN;
    write(made.join("nan.safetensors"), &[("w", "F32", &[4, 16], f32s(&spoilt))]);
    write(
        made.join("quantized.safetensors"),
        &[("proj.weight", "F8_E4M3", &[4, 16], vec![0x38; 64]), ("proj.weight_scale", "F32", &[4, 1], f32s(&[0.5; 4]))],
    );
    write(
        made.join("odd.safetensors"),
        &[
            ("conv.weight", "F32", &[6, 5, 3, 3], f32s(&weights(2, 270))),
            ("empty", "F32", &[0, 8], Vec::new()),
            ("ids", "I64", &[3], vec![1; 24]),
            ("scale", "F32", &[], f32s(&[0.25])),
        ],
    );
    let llm: Vec<Tensor<'_>> = vec![
        ("lm_head.weight", "BF16", &[96, 64], bf16s(&weights(3, 96 * 64))),
        ("model.embed_tokens.weight", "BF16", &[96, 64], bf16s(&weights(4, 96 * 64))),
        ("model.layers.0.input_layernorm.weight", "BF16", &[64], bf16s(&[1.0; 64])),
        ("model.layers.0.mlp.down_proj.weight", "BF16", &[64, 128], bf16s(&weights(5, 64 * 128))),
        ("model.layers.0.mlp.up_proj.weight", "BF16", &[128, 64], bf16s(&weights(6, 128 * 64))),
    ];
    write(made.join("llm/model.safetensors"), &llm);
    std::fs::write(made.join("llm/config.json"), "{\"model_type\": \"llama\"}\n").expect("room for a file");
    crate::llama::write_llama(&made.join("llama"));
    std::fs::create_dir_all(made.join("net")).expect("a folder that can be written");
    crate::trained::write_trained_in(&made.join("net"));
    crate::data::write_data(made);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_what_the_safetensors_crate_calls_valid() {
        let tensors: [Tensor<'_>; 2] =
            [("a", "F32", &[2], f32s(&[1.0, 2.0])), ("b", "BF16", &[1, 3], bf16s(&[0.5; 3]))];
        let data: Vec<u8> = tensors.iter().flat_map(|t| t.3.iter().copied()).collect();
        let bytes = file(&header(&tensors), &data);
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("b").unwrap().data(), [0, 0x3F, 0, 0x3F, 0, 0x3F]);
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn weights_depend_on_the_seed_and_on_nothing_else() {
        assert_eq!(weights(7, 100), weights(7, 100));
        assert_ne!(weights(7, 100), weights(8, 100));
        let mean = weights(7, 100_000).iter().map(|x| f64::from(*x)).sum::<f64>() / 1e5;
        // Each is of variance 3/12 * 0.04^2, so the mean of 1e5 strays by 6.3e-5; this is five times that.
        assert!(mean.abs() < 3.2e-4, "{mean}");
    }
}
