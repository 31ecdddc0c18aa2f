//! MLX: `affine`, `mxfp4` and `nvfp4`.
//!
//! ```text
//! P.weight   U32 [out, in*b/32]  a bit stream for each row, lowest bit first
//! P.scales   [out, in/g]         floats; U8 exponents of mxfp4, U8 e4m3 of nvfp4
//! P.biases   [out, in/g]         of affine only: x = scale * code + bias
//! ```
//!
//! Width and group are in `config.json` alone: one for all, and others by module.

use niwaki_codes::Bits;
use niwaki_tensors::Dtype;
use serde_json::Value;

use crate::Format;
use crate::config::{Config, Declared, Object};
use crate::error::{Error, ErrorKind};
use crate::fp4;
use crate::imported::Logical;
use crate::inventory::{Inventory, Stored, dims};
use crate::parts::{Matrix, Siblings, floats, part_form};
use crate::table::{Factor, Number, Order};
use crate::weights::{Codes, Groups, Levels, Middles, Weights};

/// The widths of `affine`.
pub(crate) const WIDTHS: [u32; 6] = [2, 3, 4, 5, 6, 8];

/// The groups of `affine`.
pub(crate) const GROUPS: [usize; 3] = [32, 64, 128];

/// What the codes of one module mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheme {
    mode: Mode,
    bits: u32,
    group: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Affine,
    Mxfp4,
    Nvfp4,
}

impl Mode {
    fn format(self) -> Format {
        match self {
            Self::Affine => Format::Mlx,
            Self::Mxfp4 => Format::MlxMxfp4,
            Self::Nvfp4 => Format::MlxNvfp4,
        }
    }
}

/// What the configuration says.
#[derive(Clone, Debug)]
pub(crate) struct Settings<'c> {
    all: Scheme,
    section: Object<'c>,
}

impl<'c> Settings<'c> {
    pub(crate) fn read(section: &Object<'c>) -> Result<Self, Error> {
        Ok(Self { all: Scheme::read(section, Mode::Affine)?, section: section.clone() })
    }

    /// The scheme of a module.
    fn of(&self, module: &str) -> Result<Scheme, Error> {
        match self.section.get(module) {
            None | Some(Value::Bool(true)) => Ok(self.all),
            Some(Value::Object(_)) => match self.section.object(module)? {
                Some(own) => Scheme::read(&own, self.all.mode),
                None => Ok(self.all),
            },
            Some(Value::Bool(false)) => {
                let says = format!("`{}` is not quantized", self.section.key(module));
                Err(ErrorKind::Disagree { says, shows: "codes with scales".to_owned() }.into())
            }
            Some(_) => Err(self.section.wrong(module, "an object, true or false")),
        }
    }
}

impl Scheme {
    /// Reads a mode with its width and group, which FP4 may leave out.
    fn read(object: &Object<'_>, default: Mode) -> Result<Self, Error> {
        let mode = match object.text("mode")? {
            None => default,
            Some("affine") => Mode::Affine,
            Some("mxfp4") => Mode::Mxfp4,
            Some("nvfp4") => Mode::Nvfp4,
            Some(_) => return Err(object.wrong("mode", "`affine`, `mxfp4` or `nvfp4`")),
        };
        let group = match (mode, object.whole("group_size")?) {
            (Mode::Affine, Some(group)) if GROUPS.contains(&(group as usize)) => group as usize,
            (Mode::Affine, _) => return Err(object.wrong("group_size", "32, 64 or 128")),
            (Mode::Mxfp4, None | Some(32)) => 32,
            (Mode::Mxfp4, _) => return Err(object.wrong("group_size", "32")),
            (Mode::Nvfp4, None | Some(16)) => 16,
            (Mode::Nvfp4, _) => return Err(object.wrong("group_size", "16")),
        };
        let bits = match mode {
            Mode::Affine => object.width("bits", "2, 3, 4, 5, 6 or 8", &WIDTHS)?,
            _ if object.get("bits").is_none() => 4,
            _ => object.width("bits", "4", &[4])?,
        };
        Ok(Self { mode, bits, group })
    }
}

/// The quantized tensor whose codes `stored` holds; none where it is a plain one.
pub(crate) fn claim<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Option<Logical<'a>>, Error> {
    let head = stored.name().strip_suffix("weight").unwrap_or_default();
    let siblings = Siblings::new(inventory, head);
    let Some(scales) = siblings.get("scales") else { return Ok(None) };
    let settings = match &config.declared {
        Declared::Mlx(settings) => settings,
        Declared::Nothing => {
            return Err(ErrorKind::NoConfig { format: Format::Mlx, tells: "width and group size" }.into());
        }
        Declared::Other(method) => return Err(ErrorKind::Method((*method).to_owned()).into()),
        other => return Err(ErrorKind::OtherMethod { shows: Format::Mlx, says: other.name() }.into()),
    };
    let scheme = settings.of(head.strip_suffix('.').unwrap_or(head))?;
    let shape = shape(stored, &scales, scheme)?;
    let weight = Matrix::new(&shape).ok_or_else(|| part_form(stored, "two or more dimensions"))?;
    let size = (weight.all_rows(), weight.cols);
    let mut parts = vec![*stored, scales];
    let weights = match scheme.mode {
        Mode::Affine => {
            let biases = siblings.need("biases")?;
            if biases.shape() != scales.shape() {
                return Err(part_form(&biases, dims(scales.shape())));
            }
            parts.push(biases);
            affine((stored, &scales, &biases), size, scheme)?
        }
        Mode::Mxfp4 | Mode::Nvfp4 => {
            if scales.dtype() != Dtype::U8 {
                return Err(part_form(&scales, "U8"));
            }
            let number = if scheme.mode == Mode::Mxfp4 { Number::E8m0 } else { Number::E4m3 };
            let scales = fp4::Scales { bytes: scales.bytes(), number, factor: Factor::One, group: scheme.group };
            fp4::weights(stored.bytes(), size, scales)?
        }
    };
    let known = if scheme.mode == Mode::Affine { scales.dtype() } else { Dtype::F32 };
    let form = (scheme.mode.format(), config.dtype.unwrap_or(known));
    Ok(Some(Logical::new(stored.name().to_owned(), form, shape, weights, parts)))
}

/// The shape of the weight: a group for each scale, in as many words as they take.
fn shape(stored: &Stored<'_>, scales: &Stored<'_>, scheme: Scheme) -> Result<Vec<usize>, Error> {
    let Some((groups, lead)) = scales.shape().split_last() else {
        return Err(part_form(scales, "two or more dimensions"));
    };
    // A group is a multiple of 16, and 32 codes fill `bits` words.
    let words = (scheme.group * scheme.bits as usize / 32).checked_mul(*groups).ok_or(ErrorKind::Overflow)?;
    let needs = [lead, &[words]].concat();
    if stored.shape() != needs {
        let needs = format!("U32 {} of int{} in groups of {}", dims(&needs), scheme.bits, scheme.group);
        return Err(part_form(stored, needs));
    }
    let cols = groups.checked_mul(scheme.group).ok_or(ErrorKind::Overflow)?;
    Ok([lead, &[cols]].concat())
}

fn affine<'a>(
    (codes, scales, biases): (&Stored<'a>, &Stored<'a>, &Stored<'a>),
    (rows, cols): (usize, usize),
    scheme: Scheme,
) -> Result<Weights<'a>, Error> {
    let order = Order::groups(cols / scheme.group);
    let bits = Bits::new(scheme.bits)?;
    Ok(Weights {
        rows,
        cols,
        codes: Codes::Rows { bytes: codes.bytes(), row_bytes: bits.get() as usize * (cols / 8), bits },
        levels: Levels::Integers(bits),
        scales: floats(scales, order)?,
        middles: Middles::Biases(floats(biases, order)?),
        groups: Groups::Runs(scheme.group),
    })
}
