//! Text that a decoder goes on with, always by the likeliest token.

use niwaki_model::{Decoder, Wanted};

use crate::error::{Error, ErrorKind};

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The model ended it.
    Model,
    /// As many tokens as were asked for.
    Length,
    /// The text is as long as the model allows.
    Context,
}

/// Goes on with `prompt` by up to `most` tokens. A token among `ends` ends the text, and is not part
/// of it. `each` is told every token as it comes.
///
/// # Errors
///
/// A prompt without tokens, or longer than the model allows; tokens that it does not have.
pub fn generate(
    decoder: &Decoder,
    prompt: &[u32],
    most: usize,
    ends: &[u32],
    each: &mut (dyn FnMut(u32) + Send),
) -> Result<(Vec<u32>, End), Error> {
    let context = decoder.context();
    if prompt.is_empty() || prompt.len() > context {
        let what = format!("a prompt of {} tokens: 1 to {context} expected", prompt.len());
        return Err(ErrorKind::Usage { what }.into());
    }
    let mut cache = decoder.cache();
    let mut made = Vec::new();
    let mut now = prompt.to_vec();
    while made.len() < most {
        if cache.len() + now.len() > context {
            return Ok((made, End::Context));
        }
        let logits = decoder.forward(&mut cache, &now, Wanted::Last)?;
        let next = logits.get::<f32>().and_then(crate::eval::largest).and_then(|at| u32::try_from(at).ok());
        let Some(next) = next else { break };
        if ends.contains(&next) {
            return Ok((made, End::Model));
        }
        made.push(next);
        each(next);
        now = vec![next];
    }
    Ok((made, End::Length))
}
