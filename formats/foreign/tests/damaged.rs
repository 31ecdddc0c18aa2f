//! Thousands of damaged checkpoints: no panic, and what is accepted decodes.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use made::sound::{fp8, mxfp4, nf4, sound, zeros};
use made::{Random, Tensors};
use niwaki_codes::UniformView;
use niwaki_codes::simd::Level;
use niwaki_foreign::{Format, Imported};
use niwaki_tensors::Dtype;
use serde_json::Value;

fn every() -> Vec<(Tensors, Value)> {
    let formats = [Format::PackQuantized, Format::IntQuantized, Format::Gptq, Format::GptqV2, Format::Awq, Format::Mlx];
    formats.into_iter().map(sound).chain([nf4(), fp8(), mxfp4()]).collect()
}

/// One random change to tensors or configuration.
fn damage(tensors: &mut Tensors, config: &mut String, random: &mut Random) {
    let names: Vec<String> = tensors.all.keys().cloned().collect();
    let name = &names[random.below(names.len())];
    let dtypes =
        [Dtype::U8, Dtype::I8, Dtype::F8_E4M3, Dtype::F16, Dtype::BF16, Dtype::I32, Dtype::U32, Dtype::F32, Dtype::I64];
    match random.below(8) {
        0 => drop(tensors.all.remove(name)),
        1 => {
            let (_, shape, _) = tensors.all[name].clone();
            zeros(tensors, name, dtypes[random.below(dtypes.len())], &shape);
        }
        2 | 3 => {
            let (dtype, mut shape, _) = tensors.all[name].clone();
            match random.below(3) {
                0 if shape.len() > 1 => drop(shape.remove(random.below(shape.len()))),
                1 => shape.insert(random.below(shape.len() + 1), random.below(4)),
                _ if !shape.is_empty() => {
                    let at = random.below(shape.len());
                    shape[at] = [0, 1, 2, 3, 8, 16, 17, 32, 63, 64, 65][random.below(11)];
                }
                _ => {}
            }
            zeros(tensors, name, dtype, &shape);
        }
        4 => {
            let bytes = &mut tensors.all.get_mut(name).unwrap().2;
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        5 => {
            let other = names[random.below(names.len())].clone();
            let moved = tensors.all[name].clone();
            tensors.all.insert(other, moved);
        }
        _ => {
            let mut text = std::mem::take(config).into_bytes();
            let at = random.below(text.len());
            let digits = ["0", "1", "-1", "3", "8", "16", "9223372036854775807", "null", "false", "{}", "[]", "\"x\""];
            match text.iter().skip(at).position(u8::is_ascii_digit) {
                Some(digit) => drop(text.splice(at + digit..=at + digit, digits[random.below(12)].bytes())),
                None => text.truncate(at),
            }
            *config = String::from_utf8_lossy(&text).into_owned();
        }
    }
}

/// Decodes all that was found; whatever is said has to be said well.
fn look(tensors: &Tensors, config: Option<&Value>) -> Option<bool> {
    let inventory = tensors.inventory();
    let imported = match Imported::of(&inventory, config) {
        Ok(imported) => imported?,
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.contains(char::is_control)
                    && !text.ends_with('.')
                    && text.starts_with(|c: char| c.is_lowercase() || c == '`'),
                "{text}"
            );
            return Some(false);
        }
    };
    for tensor in imported.tensors() {
        let (rows, cols) = (tensor.rows(), tensor.cols());
        let mut all = vec![0.0; rows * cols];
        tensor.decode_rows(Level::best(), 0..rows, &mut all).unwrap();
        let Some(scheme) = tensor.uniform() else { continue };
        let parts = tensor.uniform_rows(Level::best(), &scheme, 0..rows).unwrap();
        let zeros = (!parts.zeros.is_empty()).then_some(&parts.zeros[..]);
        let view = UniformView::new(scheme, rows, cols, &parts.codes, &parts.scales, zeros).unwrap();
        view.check().unwrap();
        let mut ours = vec![0.0; rows * cols];
        view.dequantize_rows(Level::best(), 0..rows, &mut ours).unwrap();
        assert_eq!(ours, all, "{tensor:?}");
    }
    Some(true)
}

#[test]
fn damaged_checkpoints_do_not_panic() {
    let (mut accepted, mut refused, mut plain) = (0, 0, 0);
    for (base, config) in every() {
        assert_eq!(look(&base, Some(&config)), Some(true));
        for seed in 0..1500 {
            let mut random = Random::new(seed);
            let (mut tensors, mut text) = (base.clone(), config.to_string());
            for _ in 0..1 + random.below(3) {
                if !tensors.all.is_empty() {
                    damage(&mut tensors, &mut text, &mut random);
                }
            }
            let config = serde_json::from_str::<Value>(&text).ok();
            match look(&tensors, config.as_ref()) {
                Some(true) => accepted += 1,
                Some(false) => refused += 1,
                None => plain += 1,
            }
        }
    }
    // The damage reaches every branch, or the test would show nothing.
    assert!(accepted > 1000 && refused > 4000 && plain > 300, "{accepted} {refused} {plain}");
}
