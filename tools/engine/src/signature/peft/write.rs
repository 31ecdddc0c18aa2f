//! Writes factors as an adapter that PEFT loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use niwaki_codes::Shape;
use niwaki_tensors::{Dtype, Entry, Layout, Overwrite, Writer, check_output, metadata_len, write_small};
use serde::{Serialize, Serializer};

use super::{CONFIG, PREFIX, WEIGHTS, quoted, transposed};
use crate::compress::Options;
use crate::encode::narrowed;
use crate::error::{Blame, Error, ErrorKind};
use crate::target::{check_folder, check_other_weights, file_error};

/// What kind of layer a weight belongs to: PEFT stores factors by kind, and names do not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layer {
    /// A linear layer, `out` by `in`, or a convolution of one group, `out` by `in` by its window.
    #[default]
    Linear,
    /// A linear layer that stores its weight transposed, `in` by `out`: GPT-2's `Conv1D`.
    Transposed,
    /// An embedding, one row each.
    Embedding,
}

/// A difference from one weight of the base model: `B A`, as wide as the weight's rows.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// Name of the weight in the base model: that of a module, and `.weight`.
    pub tensor: &'a str,
    /// Shape of the weight.
    pub shape: &'a [usize],
    /// What kind of layer it belongs to.
    pub layer: Layer,
    /// Columns of `B`, rows of `A`.
    pub rank: usize,
    /// `B`, rows of the weight by rank, row by row.
    pub b: &'a [f32],
    /// `A`, rank by the other dimensions of the weight, row by row.
    pub a: &'a [f32],
}

/// The configuration's file; keys in the order that PEFT writes them.
#[derive(Serialize)]
struct Config<'a> {
    alpha_pattern: Ordered<'a>,
    base_model_name_or_path: Option<&'a str>,
    bias: &'a str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    lora_alpha: usize,
    lora_dropout: f64,
    modules_to_save: Option<&'a str>,
    peft_type: &'a str,
    r: usize,
    rank_pattern: Ordered<'a>,
    target_modules: Vec<&'a str>,
    task_type: Option<&'a str>,
}

/// Ranks by module, in an order that readers keep.
struct Ordered<'a>(&'a [(&'a str, usize)]);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// Writes an adapter's folder: `adapter_config.json`, with scaling 1, and
/// `adapter_model.safetensors` with factors in `dtype`, F32 or BF16. Returns the bytes of the
/// latter. The same modules give the same bytes, in whatever order they come.
///
/// # Errors
///
/// [`ErrorKind::Usage`] for no modules, one twice, names that do not end in `.weight`, shapes and
/// lengths that do not fit, transposed layers beside linear ones (PEFT has one setting for both),
/// another `dtype`, factors that are not finite in it, and a folder that exists, unless it is to
/// be replaced and holds no other weights. What the system refuses. Nothing is then left
/// half-written: a folder without its configuration is no adapter.
pub fn write(out: &Path, modules: &[Module<'_>], dtype: Dtype, options: &Options) -> Result<u64, Error> {
    if ![Dtype::F32, Dtype::BF16].contains(&dtype) {
        return Err(ErrorKind::Usage { what: format!("factors in {dtype}; they are F32 or BF16") }.into());
    }
    let modules = checked(modules)?;
    let config = config(&modules)?;
    let exists = check_folder(out, options.replace)?;
    if exists {
        check_other_weights(out, WEIGHTS)?;
        check_output(&out.join(CONFIG), options.overwrite())?;
    } else {
        fs::create_dir(out).map_err(|e| file_error(&e, out))?;
    }
    let written = files(out, &modules, dtype, &config, options);
    if written.is_err() && !exists {
        // The folder and all that is in it is of this run.
        fs::remove_dir_all(out).ok();
    }
    written
}

fn files(
    out: &Path,
    modules: &BTreeMap<&str, Module<'_>>,
    dtype: Dtype,
    config: &[u8],
    options: &Options,
) -> Result<u64, Error> {
    let metadata = [("format", "pt")];
    let entries = modules.iter().flat_map(|(name, module)| entries(name, module, dtype)).collect();
    let layout = Layout::exact(entries, metadata_len(&metadata))?;
    let bytes = layout.file_bytes();
    let writer = Writer::create(&out.join(WEIGHTS), layout, options.overwrite())?;
    for (at, module) in modules.values().enumerate() {
        for (half, values) in stored(module).into_iter().enumerate() {
            writer.write_at(2 * at + half, 0, &finite(module, &values, dtype)?)?;
        }
    }
    let path = out.join(CONFIG);
    // Old configuration and new weights must never stand together.
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error(&e, &path)),
        _ => {}
    }
    writer.finish(&metadata, options.durable)?;
    write_small(&path, config, Overwrite::Refuse, options.durable)?;
    Ok(bytes)
}

/// The modules by name, each whole.
fn checked<'a>(modules: &[Module<'a>]) -> Result<BTreeMap<&'a str, Module<'a>>, Error> {
    let refuse = |what: String| Error::from(ErrorKind::Usage { what });
    let mut named = BTreeMap::new();
    for module in modules {
        let wrong = |what: String| refuse(what).of(module.tensor);
        let Some(name) = module.tensor.strip_suffix(".weight").filter(|name| !name.is_empty()) else {
            return Err(wrong("adapters hold weights of modules only, whose names end in `.weight`".to_owned()));
        };
        let shape = Shape::new(module.shape).map_err(|e| wrong(e.to_string()))?;
        let most = if module.layer == Layer::Linear { 5 } else { 2 };
        if !(2..=most).contains(&module.shape.len()) || module.rank == 0 || shape.elements() == 0 {
            return Err(wrong(format!("a difference of {shape} of rank {} has no place in an adapter", module.rank)));
        }
        for (which, side, has) in [("B", shape.rows(), module.b.len()), ("A", shape.cols(), module.a.len())] {
            if side.checked_mul(module.rank) != Some(has) {
                let rank = module.rank;
                return Err(wrong(format!("`{which}` has {has} elements; rank {rank} of {shape} needs {rank}x{side}")));
            }
        }
        if named.insert(name, *module).is_some() {
            return Err(wrong("stands twice".to_owned()));
        }
    }
    if named.is_empty() {
        return Err(refuse("no module to write".to_owned()));
    }
    let first = |layer: Layer| named.iter().find(|(_, m)| m.layer == layer && m.shape.len() == 2).map(|(name, _)| name);
    if let (Some(transposed), Some(linear)) = (first(Layer::Transposed), first(Layer::Linear)) {
        let (transposed, linear) = (quoted(transposed), quoted(linear));
        return Err(refuse(format!(
            "{transposed} stores its weight transposed, {linear} does not; an adapter has one setting for both"
        )));
    }
    Ok(named)
}

/// The text of the configuration.
fn config(modules: &BTreeMap<&str, Module<'_>>) -> Result<Vec<u8>, Error> {
    let rank = modules.values().map(|module| module.rank).max().unwrap_or(0);
    let mut ranks: Vec<(&str, usize)> = modules.iter().map(|(name, module)| (*name, module.rank)).collect();
    if ranks.iter().all(|(_, own)| *own == rank) {
        ranks.clear();
    }
    // A name also matches longer ones that end in it, and the first match counts.
    ranks.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let config = Config {
        alpha_pattern: Ordered(&ranks),
        base_model_name_or_path: None,
        bias: "none",
        fan_in_fan_out: modules.values().any(|module| module.layer == Layer::Transposed),
        inference_mode: true,
        init_lora_weights: true,
        lora_alpha: rank,
        lora_dropout: 0.0,
        modules_to_save: None,
        peft_type: "LORA",
        r: rank,
        rank_pattern: Ordered(&ranks),
        target_modules: modules.keys().copied().collect(),
        task_type: None,
    };
    let mut text = serde_json::to_vec_pretty(&config).map_err(|e| Error::below(e, Blame::Environment))?;
    text.push(b'\n');
    Ok(text)
}

/// What `A` and `B` are called and how they are shaped.
fn entries(name: &str, module: &Module<'_>, dtype: Dtype) -> [Entry; 2] {
    let (rank, rows, inner) = (module.rank, module.shape[0], &module.shape[1..]);
    let window = inner.iter().skip(1).map(|_| 1);
    let (a, b) = match module.layer {
        Layer::Linear => ([&[rank], inner].concat(), [rows, rank].into_iter().chain(window).collect()),
        Layer::Transposed | Layer::Embedding => (vec![rank, rows], vec![inner[0], rank]),
    };
    let ends = match module.layer {
        Layer::Embedding => ["lora_embedding_A", "lora_embedding_B"],
        Layer::Linear | Layer::Transposed => ["lora_A.weight", "lora_B.weight"],
    };
    let [first, second] = ends.map(|end| format!("{PREFIX}{name}.{end}"));
    [Entry { name: first, dtype, shape: a }, Entry { name: second, dtype, shape: b }]
}

/// `A` and `B` as they are stored: where the weight is transposed, so is the product.
fn stored(module: &Module<'_>) -> [Vec<f32>; 2] {
    match module.layer {
        Layer::Linear => [module.a.to_vec(), module.b.to_vec()],
        Layer::Transposed | Layer::Embedding => {
            [transposed(module.b, module.rank), transposed(module.a, module.shape[1])]
        }
    }
}

/// Factors in their type.
fn finite(module: &Module<'_>, values: &[f32], dtype: Dtype) -> Result<Vec<u8>, Error> {
    let held = |x: &f32| match dtype {
        Dtype::BF16 => half::bf16::from_f32(*x).is_finite(),
        _ => x.is_finite(),
    };
    match values.iter().position(|x| !held(x)) {
        Some(at) => {
            let what = format!("element {at} of a stored factor is beyond {dtype}, infinite or NaN");
            Err(Error::from(ErrorKind::Usage { what }).of(module.tensor))
        }
        None => Ok(narrowed(values, dtype)),
    }
}
