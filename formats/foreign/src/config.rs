//! What `config.json` says of the codes.

use niwaki_tensors::Dtype;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::{awq, compressed, fp8, gptq, mlx};

/// An object of the configuration and the keys that lead to it.
#[derive(Clone, Debug)]
pub(crate) struct Object<'c> {
    map: &'c Map<String, Value>,
    path: String,
}

impl<'c> Object<'c> {
    /// The object that `value` is.
    pub(crate) fn new(value: &'c Value, path: String) -> Result<Self, Error> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(ErrorKind::Key { key: path, needs: "an object", has: brief(other) }.into()),
        }
    }

    /// The key with those above it.
    pub(crate) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key; none where it is not there or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'c Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// All keys and values.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'c str, &'c Value)> + use<'c> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The error that a key has another value than it may have.
    pub(crate) fn wrong(&self, key: &str, needs: &'static str) -> Error {
        match self.map.get(key) {
            Some(value) => ErrorKind::Key { key: self.key(key), needs, has: brief(value) }.into(),
            None => ErrorKind::NoKey { key: self.key(key), needs }.into(),
        }
    }

    /// The value of a key that `read` takes; none where it is not there.
    fn read<T>(
        &self,
        key: &str,
        needs: &'static str,
        read: impl FnOnce(&'c Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.get(key).map(|value| read(value).ok_or_else(|| self.wrong(key, needs))).transpose()
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<Object<'c>>, Error> {
        self.get(key).map(|value| Object::new(value, self.key(key))).transpose()
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'c str>, Error> {
        self.read(key, "a text", Value::as_str)
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(crate) fn whole(&self, key: &str) -> Result<Option<i64>, Error> {
        self.read(key, "a whole number", Value::as_i64)
    }

    /// A width that must be there.
    pub(crate) fn width(&self, key: &str, needs: &'static str, known: &[u32]) -> Result<u32, Error> {
        let bits = self.get(key).and_then(Value::as_u64).and_then(|bits| u32::try_from(bits).ok());
        bits.filter(|bits| known.contains(bits)).ok_or_else(|| self.wrong(key, needs))
    }

    /// A group size that must be there: a number from 1, or -1 for whole rows.
    pub(crate) fn group(&self, key: &str) -> Result<Option<usize>, Error> {
        const NEEDS: &str = "a number from 1, or -1 for whole rows";
        match self.get(key).and_then(Value::as_i64) {
            Some(-1) => Ok(None),
            Some(group @ 1..) => usize::try_from(group).map(Some).map_err(|_| self.wrong(key, NEEDS)),
            _ => Err(self.wrong(key, NEEDS)),
        }
    }

    /// Two numbers from 1.
    pub(crate) fn sides(&self, key: &str) -> Result<Option<[usize; 2]>, Error> {
        self.read(key, "two numbers from 1", |value| {
            let [rows, cols] = value.as_array()?.as_slice() else { return None };
            let side = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|side| *side > 0);
            Some([side(rows)?, side(cols)?])
        })
    }
}

/// A value in few words.
fn brief(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("`{}`", text.chars().take(64).collect::<String>()),
        other => other.to_string(),
    }
}

/// The configuration, as far as it concerns codes.
#[derive(Clone, Debug)]
pub(crate) struct Config<'c> {
    /// The type of the weights before they were quantized.
    pub(crate) dtype: Option<Dtype>,
    pub(crate) declared: Declared<'c>,
}

/// The method that it names.
#[derive(Clone, Debug)]
pub(crate) enum Declared<'c> {
    Nothing,
    CompressedTensors(compressed::Settings),
    Gptq(gptq::Settings),
    Awq(awq::Settings),
    Fp8(fp8::Settings),
    Mlx(mlx::Settings<'c>),
    Mxfp4,
    BitsAndBytes,
    Other(&'c str),
}

impl Declared<'_> {
    /// The name in messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::CompressedTensors(_) => "compressed-tensors",
            Self::Gptq(_) => "gptq",
            Self::Awq(_) => "awq",
            Self::Fp8(_) => "fp8",
            Self::Mlx(_) => "MLX",
            Self::Mxfp4 => "mxfp4",
            Self::BitsAndBytes => "bitsandbytes",
            Self::Other(_) => "another method",
        }
    }
}

impl<'c> Config<'c> {
    /// Reads a `config.json`, or a file that holds the quantization alone.
    pub(crate) fn read(value: Option<&'c Value>) -> Result<Self, Error> {
        let Some(value) = value else { return Ok(Self { dtype: None, declared: Declared::Nothing }) };
        let whole = Object::new(value, String::new())?;
        let text = whole.get("text_config").and_then(|text| Object::new(text, "text_config".to_owned()).ok());
        let dtype = [Some(&whole), text.as_ref()].into_iter().flatten().find_map(dtype);
        let declared = match section(&whole, text.as_ref())? {
            Some(section) => declared(&section)?,
            None => Declared::Nothing,
        };
        Ok(Self { dtype, declared })
    }
}

/// The type of the weights, by PyTorch's name for it.
fn dtype(object: &Object<'_>) -> Option<Dtype> {
    let name = object.get("torch_dtype").or_else(|| object.get("dtype"))?.as_str()?;
    match name.strip_prefix("torch.").unwrap_or(name) {
        "float16" => Some(Dtype::F16),
        "bfloat16" => Some(Dtype::BF16),
        "float32" => Some(Dtype::F32),
        _ => None,
    }
}

/// The part about quantization.
fn section<'c>(whole: &Object<'c>, text: Option<&Object<'c>>) -> Result<Option<Object<'c>>, Error> {
    for key in ["quantization_config", "compression_config", "quantization"] {
        if let Some(section) = whole.object(key)? {
            return Ok(Some(section));
        }
    }
    if let Some(section) = text.map(|text| text.object("quantization_config")).transpose()?.flatten() {
        return Ok(Some(section));
    }
    let alone = whole.get("quant_method").is_some()
        || (whole.get("bits").is_some() && whole.get("group_size").is_some())
        || whole.get("w_bit").is_some();
    Ok(alone.then(|| whole.clone()))
}

fn declared<'c>(section: &Object<'c>) -> Result<Declared<'c>, Error> {
    let method = match section.text("quant_method")? {
        Some(method) => method,
        // Files from before the key name themselves by the keys that only they have.
        None if section.get("w_bit").is_some() || section.get("zero_point").is_some() => "awq",
        None if section.get("desc_act").is_some() => "gptq",
        None if section.get("config_groups").is_some() => "compressed-tensors",
        None if section.get("group_size").is_some() && section.get("bits").is_some() => {
            return Ok(Declared::Mlx(mlx::Settings::read(section)?));
        }
        None if section.get("mode").is_some() => return Ok(Declared::Mlx(mlx::Settings::read(section)?)),
        None => return Err(section.wrong("quant_method", "the name of a method")),
    };
    Ok(match method {
        "compressed-tensors" => Declared::CompressedTensors(compressed::Settings::read(section)?),
        "gptq" => Declared::Gptq(gptq::Settings::read(section)?),
        "awq" => Declared::Awq(awq::Settings::read(section)?),
        "fp8" | "fbgemm_fp8" => Declared::Fp8(fp8::Settings::read(section)?),
        "mxfp4" => Declared::Mxfp4,
        "bitsandbytes" => Declared::BitsAndBytes,
        other => Declared::Other(other),
    })
}
