//! What `config.json` has to say of the codes. Keys are sorted, so that the same modules make
//! the same text.

use std::collections::BTreeMap;

use niwaki_codes::floats::{Blocks, Float};
use niwaki_codes::{Grouping, Scheme, Symmetry, Uniform};
use serde_json::{Map, Value, json};

use crate::Format;
use crate::error::{Error, ErrorKind};

/// The release of compressed-tensors whose layouts are written.
const RELEASE: &str = "0.20.0";

/// One quantized module: its name is that of its weight without `.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it is laid out.
    pub format: Format,
    /// What its codes mean, as [`Outline::scheme`](crate::Outline::scheme) gives it.
    pub scheme: ModuleScheme,
}

/// What the codes of a module mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleScheme {
    /// Integers.
    Uniform(Uniform),
    /// Small floats.
    Float(Float),
}

impl std::fmt::Display for ModuleScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform(uniform) => Scheme::Uniform(*uniform).fmt(f),
            Self::Float(float) => float.fmt(f),
        }
    }
}

/// What an engine does with the inputs of compressed-tensors modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// They stay as they are.
    Float,
    /// Quantized as they come, a scale for each token: W8A8 with `int-quantized`, FP8 with
    /// `float-quantized`.
    Dynamic,
}

/// The object under `quantization_config`; for MLX also that under `quantization`. `ignore`
/// names the modules of the same kind that stay as they are.
///
/// # Errors
///
/// [`ErrorKind::Mixed`] where modules differ and the format has one scheme for all, or where
/// they are of several families; [`ErrorKind::Range`] where there is no module.
pub fn quantization_config(modules: &[Module<'_>], ignore: &[&str], activations: Activations) -> Result<Value, Error> {
    let first = modules.first().ok_or(ErrorKind::Range { needs: 1, has: 0 })?;
    if let Some(other) = modules.iter().find(|module| module.format.family() != first.format.family()) {
        return Err(mixed(first, other));
    }
    match first.format {
        Format::Gptq | Format::GptqV2 => gptq(modules, ignore),
        Format::Awq => awq(modules, ignore),
        Format::Mlx | Format::MlxMxfp4 | Format::MlxNvfp4 => mlx(modules, ignore),
        Format::Fp8 => fp8(modules, ignore),
        Format::Mxfp4 => Ok(json!({ "quant_method": "mxfp4", "modules_to_not_convert": ignore })),
        Format::Nf4 => {
            let (format, scheme) = (Format::Nf4, first.scheme.to_string());
            Err(ErrorKind::Scheme { format, scheme, why: "it is only read".to_owned(), nearest: None }.into())
        }
        _ => compressed(modules, ignore, activations),
    }
}

fn mixed(first: &Module<'_>, other: &Module<'_>) -> Error {
    let said = |module: &Module<'_>| format!("{} ({})", module.scheme, module.format);
    ErrorKind::Mixed { format: first.format, first: said(first), other: said(other) }.into()
}

/// A scheme that all modules share.
fn shared<'m, 'a>(modules: &'m [Module<'a>]) -> Result<&'m Module<'a>, Error> {
    let first = modules.first().ok_or(ErrorKind::Range { needs: 1, has: 0 })?;
    match modules.iter().find(|module| (module.format, module.scheme) != (first.format, first.scheme)) {
        Some(other) => Err(mixed(first, other)),
        None => Ok(first),
    }
}

/// Modules by format and scheme, in the order in which these first come.
fn by_scheme<'a>(modules: &[Module<'a>]) -> Vec<(Format, ModuleScheme, Vec<&'a str>)> {
    let mut order = Vec::new();
    let mut names: BTreeMap<(Format, String), Vec<&'a str>> = BTreeMap::new();
    for module in modules {
        let list = names.entry((module.format, module.scheme.to_string())).or_default();
        if list.is_empty() {
            order.push((module.format, module.scheme));
        }
        list.push(module.name);
    }
    let take = |(format, scheme): (Format, ModuleScheme)| {
        (format, scheme, names.remove(&(format, scheme.to_string())).unwrap_or_default())
    };
    order.into_iter().map(take).collect()
}

fn compressed(modules: &[Module<'_>], ignore: &[&str], activations: Activations) -> Result<Value, Error> {
    let kinds = by_scheme(modules);
    let mut groups = Map::new();
    for (i, (format, scheme, names)) in kinds.iter().enumerate() {
        // With one scheme the class of modules is named, as the tool's own files do.
        let targets = if kinds.len() == 1 { json!(["Linear"]) } else { json!(names) };
        let inputs = match activations {
            Activations::Float => Value::Null,
            Activations::Dynamic => inputs(*format, scheme)?,
        };
        let group = json!({
            "format": storage(*format),
            "input_activations": inputs,
            "output_activations": null,
            "targets": targets,
            "weights": weights(scheme),
        });
        groups.insert(format!("group_{i}"), group);
    }
    let mut formats: Vec<&str> = kinds.iter().map(|(format, ..)| storage(*format)).collect();
    formats.dedup();
    let format = match formats.as_slice() {
        [one] => one,
        _ => "mixed-precision",
    };
    Ok(json!({
        "config_groups": groups,
        "format": format,
        "global_compression_ratio": null,
        "ignore": ignore,
        "kv_cache_scheme": null,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "version": RELEASE,
    }))
}

fn storage(format: Format) -> &'static str {
    match format {
        Format::IntQuantized => "int-quantized",
        Format::FloatQuantized => "float-quantized",
        Format::Nvfp4Packed => "nvfp4-pack-quantized",
        Format::Mxfp4Packed => "mxfp4-pack-quantized",
        _ => "pack-quantized",
    }
}

/// Inputs quantized as they come, a scale for each token.
fn inputs(format: Format, scheme: &ModuleScheme) -> Result<Value, Error> {
    let kind = match format {
        Format::IntQuantized => "int",
        Format::FloatQuantized => "float",
        _ => {
            let why = "its inputs are not quantized as they come".to_owned();
            return Err(ErrorKind::Scheme { format, scheme: scheme.to_string(), why, nearest: None }.into());
        }
    };
    Ok(json!({
        "dynamic": true,
        "group_size": null,
        "num_bits": 8,
        "strategy": "token",
        "symmetric": true,
        "type": kind,
    }))
}

fn weights(scheme: &ModuleScheme) -> Value {
    let (bits, kind, symmetric) = match scheme {
        ModuleScheme::Uniform(uniform) => (uniform.bits.get(), "int", uniform.symmetry == Symmetry::Symmetric),
        ModuleScheme::Float(Float::Fp8E4m3(_)) => (8, "float", true),
        ModuleScheme::Float(_) => (4, "float", true),
    };
    let (strategy, group) = match scheme {
        ModuleScheme::Uniform(uniform) => match uniform.grouping {
            Grouping::Tensor => ("tensor", Value::Null),
            Grouping::Row => ("channel", Value::Null),
            Grouping::Group(group) => ("group", json!(group.get())),
        },
        ModuleScheme::Float(Float::Fp8E4m3(Blocks::Tensor)) => ("tensor", Value::Null),
        ModuleScheme::Float(Float::Fp8E4m3(Blocks::Row)) => ("channel", Value::Null),
        ModuleScheme::Float(Float::Fp8E4m3(Blocks::Square(_))) => ("block", Value::Null),
        ModuleScheme::Float(Float::Nvfp4) => ("tensor_group", json!(16)),
        ModuleScheme::Float(_) => ("group", json!(32)),
    };
    let mut args = json!({
        "dynamic": false,
        "group_size": group,
        "num_bits": bits,
        "strategy": strategy,
        "symmetric": symmetric,
        "type": kind,
    });
    if let (ModuleScheme::Float(Float::Fp8E4m3(Blocks::Square(side))), Some(args)) = (scheme, args.as_object_mut()) {
        args.insert("block_structure".to_owned(), json!([side, side]));
    }
    args
}

/// Width and group; -1 for whole rows.
fn sizes(module: &Module<'_>) -> (u32, i64) {
    match module.scheme {
        ModuleScheme::Uniform(uniform) => {
            let group = match uniform.grouping {
                Grouping::Group(group) => i64::try_from(group.get()).unwrap_or(-1),
                Grouping::Row | Grouping::Tensor => -1,
            };
            (uniform.bits.get(), group)
        }
        ModuleScheme::Float(Float::Nvfp4) => (4, 16),
        ModuleScheme::Float(_) => (4, 32),
    }
}

/// A regular expression that only this name matches.
fn exact(name: &str) -> String {
    let mut text = String::from("^");
    for c in name.chars() {
        if !(c.is_alphanumeric() || c == '_' || c == '-') {
            text.push('\\');
        }
        text.push(c);
    }
    text + "$"
}

fn gptq(modules: &[Module<'_>], ignore: &[&str]) -> Result<Value, Error> {
    let first = modules.first().ok_or(ErrorKind::Range { needs: 1, has: 0 })?;
    let (bits, group) = sizes(first);
    let symmetric =
        |module: &Module<'_>| matches!(module.scheme, ModuleScheme::Uniform(u) if u.symmetry == Symmetry::Symmetric);
    let mut dynamic = Map::new();
    for module in modules {
        if module.format != first.format {
            return Err(mixed(first, module));
        }
        if (sizes(module), symmetric(module)) != ((bits, group), symmetric(first)) {
            let (bits, group) = sizes(module);
            let own = json!({ "bits": bits, "group_size": group, "sym": symmetric(module) });
            dynamic.insert(format!("+:{}", exact(module.name)), own);
        }
    }
    dynamic.extend(ignore.iter().map(|name| (format!("-:{}", exact(name)), json!({}))));
    let mut config = json!({
        "bits": bits,
        "checkpoint_format": if first.format == Format::Gptq { "gptq" } else { "gptq_v2" },
        "desc_act": false,
        "group_size": group,
        "lm_head": modules.iter().any(|module| module.name == "lm_head"),
        "pack_dtype": "int32",
        "quant_method": "gptq",
        "sym": symmetric(first),
    });
    let Some(keys) = config.as_object_mut() else { return Ok(config) };
    if !dynamic.is_empty() {
        keys.insert("dynamic".to_owned(), Value::Object(dynamic));
    }
    // Hugging Face's library does not read `dynamic`: without the list it takes every module of
    // the blocks for quantized. The head is in none of them.
    if ignore.iter().any(|name| *name != "lm_head") {
        let names: Vec<&str> = modules.iter().map(|module| module.name).collect();
        keys.insert("modules_in_block_to_quantize".to_owned(), json!([names]));
    }
    Ok(config)
}

fn awq(modules: &[Module<'_>], ignore: &[&str]) -> Result<Value, Error> {
    let (first, rest) = modules.split_first().ok_or(ErrorKind::Range { needs: 1, has: 0 })?;
    // Zero points are always stored, so that only the groups have to be the same.
    if let Some(other) = rest.iter().find(|module| sizes(module) != sizes(first)) {
        return Err(mixed(first, other));
    }
    let (bits, group) = sizes(first);
    Ok(json!({
        "bits": bits,
        "group_size": group,
        "modules_to_not_convert": ignore,
        "quant_method": "awq",
        "version": "gemm",
        "zero_point": true,
    }))
}

fn mlx(modules: &[Module<'_>], ignore: &[&str]) -> Result<Value, Error> {
    let first = modules.first().ok_or(ErrorKind::Range { needs: 1, has: 0 })?;
    let own = |module: &Module<'_>| {
        let (bits, group) = sizes(module);
        let mode = match module.format {
            Format::MlxMxfp4 => "mxfp4",
            Format::MlxNvfp4 => "nvfp4",
            _ => "affine",
        };
        json!({ "bits": bits, "group_size": group, "mode": mode })
    };
    let all = own(first);
    let mut config = all.clone();
    let Some(keys) = config.as_object_mut() else { return Ok(config) };
    for module in modules.iter().filter(|module| own(module) != all) {
        keys.insert(module.name.to_owned(), own(module));
    }
    keys.extend(ignore.iter().map(|name| ((*name).to_owned(), json!(false))));
    Ok(config)
}

fn fp8(modules: &[Module<'_>], ignore: &[&str]) -> Result<Value, Error> {
    let first = shared(modules)?;
    let mut config = json!({
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": ignore,
        "quant_method": "fp8",
    });
    if let (ModuleScheme::Float(Float::Fp8E4m3(Blocks::Square(side))), Some(keys)) =
        (first.scheme, config.as_object_mut())
    {
        keys.insert("weight_block_size".to_owned(), json!([side, side]));
    }
    Ok(config)
}
