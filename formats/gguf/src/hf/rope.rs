//! Rotary position embeddings: what `config.json` says, as keys and as a tensor.

use serde_json::Value as Json;

use super::config::Config;
use crate::error::Error;
use crate::value::{Metadata, Value};

/// What a model says of its rotary embeddings.
pub(crate) struct Rope<'a> {
    /// Of all layers, or of those that look at everything.
    global: Config<'a>,
    /// The frequency base.
    pub(crate) base: Option<f32>,
    /// The frequency base of layers with a window.
    pub(crate) local_base: Option<f32>,
    kind: Scaling,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scaling {
    None,
    Linear,
    Yarn,
    Llama3,
}

const FILE: &str = "config.json";

impl<'a> Rope<'a> {
    pub(crate) fn new(config: &Config<'a>) -> Result<Self, Error> {
        let empty = &Json::Null;
        let whole = config.get("rope_parameters").or_else(|| config.get("rope_scaling")).unwrap_or(empty);
        let global = Config::new(FILE, whole.get("full_attention").unwrap_or(whole));
        let local = Config::new(FILE, whole.get("sliding_attention").unwrap_or(empty));
        let base = global.number("rope_theta")?.map_or_else(|| config.number("rope_theta"), |base| Ok(Some(base)))?;
        let local_base = local.number("rope_theta")?;
        let local_base = local_base.map_or_else(|| config.number("rope_local_base_freq"), |base| Ok(Some(base)))?;
        for source in [config, &global] {
            let partial = source.number("partial_rotary_factor")?;
            if let (Some(value), true) = (source.get("partial_rotary_factor"), partial.is_some_and(|x| x != 1.0)) {
                return Err(source.refuse("partial_rotary_factor", value, "1"));
            }
        }
        let kind = match global.get("rope_type").or_else(|| global.get("type")) {
            None => Scaling::None,
            Some(kind) => match kind.as_str() {
                Some("default") => Scaling::None,
                Some("linear") => Scaling::Linear,
                Some("yarn") => Scaling::Yarn,
                Some("llama3") => Scaling::Llama3,
                _ => return Err(global.refuse("rope_type", kind, "`default`, `linear`, `yarn` or `llama3`")),
            },
        };
        Ok(Self { global, base, local_base, kind })
    }

    /// Writes scaling and frequency bases.
    pub(crate) fn describe(&self, arch: &str, config: &Config<'_>, metadata: &mut Metadata) -> Result<(), Error> {
        let key = |name: &str| format!("{arch}.rope.{name}");
        let factor = || self.global.require("factor", self.global.number("factor")?);
        match self.kind {
            Scaling::None | Scaling::Llama3 => {}
            Scaling::Linear => {
                metadata.set(&key("scaling.type"), Value::Text("linear".to_owned()));
                metadata.set(&key("scaling.factor"), Value::F32(factor()?));
            }
            Scaling::Yarn => {
                metadata.set(&key("scaling.type"), Value::Text("yarn".to_owned()));
                metadata.set(&key("scaling.factor"), Value::F32(factor()?));
                let original = "original_max_position_embeddings";
                let length = match self.global.count(original)? {
                    Some(length) => length,
                    None => self.global.require(original, config.count(original)?)?,
                };
                metadata.set(&key("scaling.original_context_length"), Value::U32(length));
                self.yarn_factors(arch, metadata)?;
            }
        }
        for (name, base) in [("freq_base", self.base), ("freq_base_swa", self.local_base)] {
            if let Some(base) = base {
                metadata.set(&key(name), Value::F32(base));
            }
        }
        Ok(())
    }

    fn yarn_factors(&self, arch: &str, metadata: &mut Metadata) -> Result<(), Error> {
        let names = [
            (["extrapolation_factor", ""], "yarn_ext_factor"),
            (["attention_factor", "attn_factor"], "yarn_attn_factor"),
            (["beta_fast", ""], "yarn_beta_fast"),
            (["beta_slow", ""], "yarn_beta_slow"),
        ];
        for (keys, gguf) in names {
            let found = keys.into_iter().find(|key| self.global.get(key).is_some());
            if let Some(factor) = found.map_or(Ok(None), |key| self.global.number(key))? {
                metadata.set(&format!("{arch}.rope.scaling.{gguf}"), Value::F32(factor));
            }
        }
        Ok(())
    }

    /// Llama 3's factors of the frequencies, one for every two dimensions of a head: long
    /// waves are stretched, short ones are not, those in between are partly.
    pub(crate) fn factors(&self, head_dim: u32) -> Result<Option<Vec<f32>>, Error> {
        if self.kind != Scaling::Llama3 {
            return Ok(None);
        }
        let number = |key: &str, otherwise: f32| self.global.number(key).map(|x| x.unwrap_or(otherwise));
        let (factor, old) = (number("factor", 8.0)?, number("original_max_position_embeddings", 8192.0)?);
        let (low, high) = (number("low_freq_factor", 1.0)?, number("high_freq_factor", 4.0)?);
        let base = f64::from(self.base.unwrap_or(10_000.0));
        let dim = f64::from(head_dim);
        let each = (0..head_dim).step_by(2).map(|i| {
            let wave = std::f32::consts::TAU / (1.0 / base.powf(f64::from(i) / dim) as f32);
            if wave < old / high {
                1.0
            } else if wave > old / low {
                factor
            } else {
                let smooth = (old / wave - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        });
        Ok(Some(each.collect()))
    }
}
