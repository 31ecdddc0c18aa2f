//! The quantized tensors of a checkpoint that others wrote.

use std::collections::BTreeSet;
use std::ops::Range;

use niwaki_codes::Uniform;
use niwaki_codes::floats::Float;
use niwaki_codes::simd::Level;
use niwaki_tensors::{Checkpoint, Dtype};
use serde_json::Value;

use crate::config::{Config, Declared};
use crate::error::{Error, ErrorKind};
use crate::inventory::{Inventory, Stored};
use crate::uniform::UniformRows;
use crate::weights::Weights;
use crate::{Format, awq, compressed, fp4, fp8, gptq, mlx, nf4};

/// A checkpoint of quantized tensors, sorted into those and the others.
#[derive(Clone, Debug)]
pub struct Imported<'a> {
    tensors: Vec<Logical<'a>>,
    plain: Vec<&'a str>,
    activations: Vec<&'a str>,
}

/// One quantized tensor: what its stored parts mean together.
#[derive(Clone, Debug)]
pub struct Logical<'a> {
    name: String,
    format: Format,
    dtype: Dtype,
    shape: Vec<usize>,
    coding: Coding<'a>,
    parts: Vec<Stored<'a>>,
}

#[derive(Clone, Debug)]
enum Coding<'a> {
    Matrix(Weights<'a>),
    Flat(nf4::Blocks<'a>),
}

impl<'a> Imported<'a> {
    /// The quantized tensors of `checkpoint`; none where it has none. `config` is its
    /// `config.json`, or the file that holds the quantization alone.
    ///
    /// Headers and small parts are read, codes are not.
    ///
    /// # Errors
    ///
    /// A configuration or parts that contradict each other or are not there, and formats
    /// that are not read here.
    pub fn open(checkpoint: &'a Checkpoint, config: Option<&Value>) -> Result<Option<Self>, Error> {
        Self::of(&Inventory::of(checkpoint)?, config)
    }

    /// The same for tensors that lie anywhere.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn of(inventory: &Inventory<'a>, config: Option<&Value>) -> Result<Option<Self>, Error> {
        let config = Config::read(config)?;
        let mut tensors = Vec::new();
        for stored in inventory.iter() {
            tensors.extend(claim(&stored, inventory, &config).map_err(|e| e.of(stored.name()))?);
        }
        if tensors.is_empty() {
            return match config.declared {
                Declared::Other(method) if inventory.iter().any(is_code) => {
                    Err(ErrorKind::Method(method.to_owned()).into())
                }
                _ => Ok(None),
            };
        }
        let used: BTreeSet<&str> = tensors.iter().flat_map(Logical::parts).map(|part| part.name()).collect();
        let rest = inventory.iter().map(|stored| stored.name()).filter(|name| !used.contains(name));
        let weights: BTreeSet<&str> = tensors.iter().map(Logical::name).collect();
        let (activations, plain) = rest.partition(|name| of_activations(name, &weights));
        Ok(Some(Self { tensors, plain, activations }))
    }

    /// The quantized tensors, by the names of their codes.
    pub fn tensors(&self) -> &[Logical<'a>] {
        &self.tensors
    }

    /// The tensors that belong to no quantized one.
    pub fn plain(&self) -> &[&'a str] {
        &self.plain
    }

    /// The tensors that tell how a quantized module's inputs or outputs are quantized
    /// (`input_scale`): they mean nothing without its codes.
    pub fn activations(&self) -> &[&'a str] {
        &self.activations
    }
}

/// The quantized tensor whose codes `stored` holds; none where it holds none.
fn claim<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Option<Logical<'a>>, Error> {
    let name = stored.name();
    let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let dot = if module.is_empty() { "" } else { "." };
    let has = |leaf: &str| inventory.get(&format!("{module}{dot}{leaf}")).is_some();
    match (stored.dtype(), leaf) {
        (Dtype::I32, "weight_packed") => compressed::packed(stored, inventory, config).map(Some),
        (Dtype::U8, "weight_packed") => fp4::packed(stored, inventory, config).map(Some),
        (Dtype::I8, "weight") if has("weight_scale") => compressed::plain(stored, inventory, config).map(Some),
        (Dtype::I8, "weight") if has("SCB") => unsupported("bitsandbytes LLM.int8"),
        (Dtype::U8, "bitmask") if has("compressed") => unsupported("compressed-tensors with a sparse layout"),
        (Dtype::I32, "qweight") => qweight(stored, inventory, config).map(Some),
        (Dtype::U32, "weight") => mlx::claim(stored, inventory, config),
        (Dtype::U8, _) if leaf.ends_with("_blocks") => fp4::blocks(stored, inventory, config),
        (Dtype::U8, _) => nf4::claim(stored, inventory, config),
        (Dtype::F8_E4M3, _) if !leaf.ends_with("_scale") => fp8::claim(stored, inventory, config),
        _ => Ok(None),
    }
}

fn unsupported<T>(what: &str) -> Result<T, Error> {
    Err(ErrorKind::Unsupported(what.to_owned()).into())
}

/// GPTQ and AWQ share their names.
fn qweight<'a>(stored: &Stored<'a>, inventory: &Inventory<'a>, config: &Config<'_>) -> Result<Logical<'a>, Error> {
    match &config.declared {
        Declared::Gptq(settings) => gptq::claim(stored, inventory, config, settings),
        Declared::Awq(settings) => awq::claim(stored, inventory, config, settings),
        Declared::Nothing => {
            let tells = "whether it is AWQ, and how zero points are stored";
            Err(ErrorKind::NoConfig { format: Format::Gptq, tells }.into())
        }
        Declared::Other(method) => Err(ErrorKind::Method((*method).to_owned()).into()),
        other => Err(ErrorKind::OtherMethod { shows: Format::Gptq, says: other.name() }.into()),
    }
}

/// Whether a tensor looks like packed codes.
fn is_code(stored: Stored<'_>) -> bool {
    let narrow = [Dtype::U8, Dtype::I8, Dtype::I32, Dtype::U32, Dtype::F4, Dtype::F8_E4M3, Dtype::F8_E5M2];
    stored.shape().len() >= 2 && narrow.contains(&stored.dtype())
}

/// Whether a tensor tells of the inputs or outputs of a quantized module.
fn of_activations(name: &str, weights: &BTreeSet<&str>) -> bool {
    const LEAVES: [&str; 5] =
        ["input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point"];
    let Some((module, leaf)) = name.rsplit_once('.') else { return false };
    LEAVES.contains(&leaf) && weights.contains(format!("{module}.weight").as_str())
}

impl<'a> Logical<'a> {
    pub(crate) fn new(
        name: String,
        (format, dtype): (Format, Dtype),
        shape: Vec<usize>,
        weights: Weights<'a>,
        parts: Vec<Stored<'a>>,
    ) -> Self {
        Self { name, format, dtype, shape, coding: Coding::Matrix(weights), parts }
    }

    pub(crate) fn flat(
        name: String,
        (format, dtype): (Format, Dtype),
        shape: Vec<usize>,
        blocks: nf4::Blocks<'a>,
        parts: Vec<Stored<'a>>,
    ) -> Self {
        Self { name, format, dtype, shape, coding: Coding::Flat(blocks), parts }
    }

    /// The name of the weight that it stands for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is laid out.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The type of the weight before it was quantized, as far as the files tell: what the
    /// configuration names, else the type of its scales.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Rows: the product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.size().0
    }

    /// Weights of one row: the last dimension.
    pub fn cols(&self) -> usize {
        self.size().1
    }

    fn size(&self) -> (usize, usize) {
        match &self.coding {
            Coding::Matrix(weights) => (weights.rows, weights.cols),
            Coding::Flat(blocks) => blocks.size(),
        }
    }

    /// The stored tensors that it consists of, the codes first.
    pub fn parts(&self) -> &[Stored<'a>] {
        &self.parts
    }

    /// Bytes of all of them.
    pub fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes().len() as u64).sum()
    }

    /// Decodes whole rows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for rows that are not there or an `out` of another length.
    pub fn decode_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        match &self.coding {
            Coding::Matrix(weights) => weights.decode_rows(level, rows, out),
            Coding::Flat(blocks) => blocks.decode_rows(rows, out),
        }
    }

    /// Our scheme that means the same numbers, where there is one: evenly spaced codes
    /// around half or around whole zero points, in runs of a row. Reads all scales.
    ///
    /// Rows of the scheme are those of [`rows`](Self::rows).
    pub fn uniform(&self) -> Option<Uniform> {
        match &self.coding {
            Coding::Matrix(weights) => weights.uniform(self.shape.len() > 2),
            Coding::Flat(_) => None,
        }
    }

    /// The small floats that it consists of, where it does: one scale for the tensor, for a row
    /// or for a square, or groups of their kind.
    pub fn float(&self) -> Option<Float> {
        match (self.format, &self.coding) {
            (Format::Mxfp4 | Format::Mxfp4Packed | Format::MlxMxfp4, _) => Some(Float::Mxfp4),
            (Format::Nvfp4Packed, _) => Some(Float::Nvfp4),
            (_, Coding::Matrix(weights)) => weights.fp8().map(Float::Fp8E4m3),
            _ => None,
        }
    }

    /// Codes, scales and zero points of some rows under the scheme that
    /// [`uniform`](Self::uniform) gave.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for rows that are not there, or a tensor that has no such scheme.
    pub fn uniform_rows(&self, level: Level, scheme: &Uniform, rows: Range<usize>) -> Result<UniformRows, Error> {
        match &self.coding {
            Coding::Matrix(weights) => weights.uniform_rows(level, scheme, rows),
            Coding::Flat(_) => Err(ErrorKind::Range { needs: rows.end, has: 0 }.into()),
        }
    }
}
