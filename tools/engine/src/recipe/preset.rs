//! Recipes that have a name.

use std::str::FromStr;

use niwaki_codes::Scheme;
use niwaki_quant::Fit;

use super::{Action, Recipe, nearest};
use crate::error::{Error, ErrorKind};

/// A recipe with a name and one open choice, the scheme of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Every float tensor of two or more dimensions.
    Weights,
    /// For language models: embeddings and output head `int8/row/sym`; norms and routers kept.
    Llm,
    /// For engines that run quantized linear layers only: their weights; embeddings, output
    /// heads, norms, convolutions and routers kept.
    Linear,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Weights, Self::Llm, Self::Linear];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Llm => "llm",
            Self::Linear => "linear",
        }
    }

    /// The rules, with `scheme` and `fit` for the weights.
    ///
    /// # Errors
    ///
    /// None that a test would not show: the texts are part of the program.
    pub fn recipe(self, scheme: Scheme, fit: Fit) -> Result<Recipe, Error> {
        let mut recipe = Recipe::parse(match self {
            Self::Weights => WEIGHTS,
            Self::Llm => LLM,
            Self::Linear => LINEAR,
        })?;
        // The first rule of each text is the one that is open.
        if let Some(rule) = recipe.rules.first_mut() {
            rule.action = Action::Encode { scheme, fit, fallback: None };
        }
        Ok(recipe)
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| {
            let error = Error::from(ErrorKind::Preset { name: name.to_owned() });
            match nearest(name, Self::ALL.map(Self::name)) {
                Some(near) => error.hinting(format!("did you mean `{near}`?")),
                None => {
                    error.hinting("presets: weights, llm, linear, and with `--to gguf` llama.cpp's mixes: q4_k_m, …")
                }
            }
        })
    }
}

const WEIGHTS: &str = r#"
version = 1

[[quantize]]
tensors  = "*"
min_dims = 2
scheme   = "int8/row/sym"
"#;

const LLM: &str = r#"
version = 1

[[quantize]]
tensors  = "*"
min_dims = 2
scheme   = "int8/row/sym"

[[quantize]]
tensors  = "{*embed*,*wte*,*wpe*,*lm_head*,*output_head*}"
min_dims = 2
optional = true
scheme   = "int8/row/sym"

[[keep]]
tensors  = "{*norm*,*Norm*,*router*,*.gate.weight}"
optional = true
"#;

const LINEAR: &str = r#"
version = 1

[[quantize]]
tensors  = "*.weight"
min_dims = 2
scheme   = "int8/row/sym"

[[keep]]
tensors  = "{*embed*,*wte*,*wpe*,*lm_head*,*output_head*,*norm*,*Norm*,*conv*,*router*,*.gate.weight}"
optional = true
"#;
