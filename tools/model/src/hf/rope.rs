//! What a configuration says of rotations: in its old keys (`rope_theta`, `rope_scaling`) or its new
//! ones (`rope_parameters`).

use super::config::Config;
use super::family::DecoderKind;
use crate::error::Error;
use crate::ops::rope::{Frequencies, Scaling};

/// Rotations of layers that see everything, and of those that see a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ropes {
    pub(super) full: Frequencies,
    pub(super) window: Frequencies,
}

/// The rotations of a model whose heads have `head` elements.
pub(super) fn of(config: &Config, kind: DecoderKind, head: usize, context: usize) -> Result<Ropes, Error> {
    let parameters = config.object("rope_parameters")?;
    let scaling = config.object("rope_scaling")?;
    if kind != DecoderKind::Gemma3 {
        let keys = parameters.or(scaling);
        let base = keys.as_ref().map(|keys| keys.positive("rope_theta")).transpose()?.flatten();
        let base = base.map_or_else(|| config.positive("rope_theta"), |base| Ok(Some(base)))?.unwrap_or(10_000.0);
        let full = frequencies(config, keys.as_ref(), base, head, context)?;
        return Ok(Ropes { full, window: full });
    }
    // Gemma 3 turns layers with a window by a base of their own.
    let of_layers = |layers: &str, old: &str, base: f64, scaling: Option<Config>| {
        let keys = parameters.as_ref().map(|keys| keys.object(layers)).transpose()?.flatten().or(scaling);
        let new = keys.as_ref().map(|keys| keys.positive("rope_theta")).transpose()?.flatten();
        let base = new.map_or_else(|| config.positive(old), |base| Ok(Some(base)))?.unwrap_or(base);
        frequencies(config, keys.as_ref(), base, head, context)
    };
    Ok(Ropes {
        full: of_layers("full_attention", "rope_theta", 1_000_000.0, scaling)?,
        window: of_layers("sliding_attention", "rope_local_base_freq", 10_000.0, None)?,
    })
}

fn frequencies(
    config: &Config,
    keys: Option<&Config>,
    base: f64,
    head: usize,
    context: usize,
) -> Result<Frequencies, Error> {
    let part = |of: &Config| of.positive("partial_rotary_factor");
    let part = keys.map(part).transpose()?.flatten().map_or_else(|| part(config), |part| Ok(Some(part)))?;
    let size = (head as f64 * part.unwrap_or(1.0)) as usize;
    if size > head || size < 2 || !size.is_multiple_of(2) {
        return Err(config.wrong("head_dim", "an even number of elements that turn"));
    }
    let scaling = keys.map(|keys| scaling(keys, config, size, context)).transpose()?.unwrap_or(Scaling::None);
    Ok(Frequencies { size, base, scaling })
}

fn scaling(keys: &Config, config: &Config, size: usize, context: usize) -> Result<Scaling, Error> {
    // `type` is what it was called first.
    let key = if keys.names("rope_type") { "rope_type" } else { "type" };
    let needs = |key: &str| keys.positive(key)?.ok_or_else(|| keys.wrong(key, "a positive number"));
    let trained = || match keys.positive("original_max_position_embeddings")? {
        Some(context) => Ok(context),
        None => Ok::<_, Error>(config.positive("original_max_position_embeddings")?.unwrap_or(context as f64)),
    };
    match keys.text(key)?.unwrap_or("default") {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: needs("factor")? }),
        "dynamic" if size > 2 => Ok(Scaling::Dynamic { factor: needs("factor")?, context }),
        "llama3" => {
            let (low, high) = (needs("low_freq_factor")?, needs("high_freq_factor")?);
            if low >= high {
                return Err(keys.wrong("high_freq_factor", "more than low_freq_factor"));
            }
            Ok(Scaling::Llama3 { factor: needs("factor")?, low, high, context: trained()? })
        }
        "yarn" => yarn(keys, needs("factor")?, trained()?),
        _ => Err(keys.wrong(key, "default, linear, dynamic, llama3 or yarn")),
    }
}

fn yarn(keys: &Config, factor: f64, context: f64) -> Result<Scaling, Error> {
    let grown = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let amplitude = match keys.positive("attention_factor")? {
        Some(amplitude) => amplitude,
        None => match (keys.positive("mscale")?, keys.positive("mscale_all_dim")?) {
            (Some(of), Some(all)) => grown(of) / grown(all),
            _ => grown(1.0),
        },
    };
    let turns = [keys.positive("beta_fast")?.unwrap_or(32.0), keys.positive("beta_slow")?.unwrap_or(1.0)];
    let truncate = keys.flag("truncate")?.unwrap_or(true);
    Ok(Scaling::Yarn { factor, turns, context, amplitude, truncate })
}
