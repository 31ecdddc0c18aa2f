//! The graph of a decoder: Llama and its kin.

mod pairs;

use std::sync::Arc;

use super::DecoderGraph;
use super::config::Config;
use super::family::DecoderKind;
use super::layers::Layers;
use super::rope::{self, Ropes};
use super::weights::{Builder, Lookup};
use crate::attributes::{Attribute, Definition};
use crate::error::{Error, ErrorKind};
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::operator::Operator;
use crate::ops;
use crate::ops::embedding::Embedding;
use crate::ops::gate::{Activation, Gate, SoftCap};
use crate::ops::rope::{Angles, Frequencies, Rotate};
use crate::ops::self_attention::{Sees, SelfAttention};
use crate::tensor::Dtype;
pub(super) use pairs::pairs;

/// The key of the number of layers.
pub(super) const COUNT: &str = "num_hidden_layers";

/// What stands before the number of a layer in the names of its weights, and a dot.
pub(super) const LAYERS: &str = "model.layers";

/// What the configuration says of a decoder.
struct Facts {
    kind: DecoderKind,
    hidden: usize,
    inner: usize,
    heads: usize,
    kv_heads: usize,
    /// Elements of a head.
    head: usize,
    vocabulary: usize,
    context: usize,
    epsilon: f64,
    activation: Activation,
    scale: f64,
    score_cap: Option<f64>,
    logit_cap: Option<f64>,
    /// Queries, keys and values have biases; what comes of attention has; products after it have.
    biases: [bool; 3],
    tied: bool,
    ropes: Ropes,
    /// What each layer sees.
    sees: Vec<Sees>,
}

impl Facts {
    fn new(config: &Config, kind: DecoderKind) -> Result<Self, Error> {
        let (hidden, heads) = (config.needs("hidden_size")?, config.needs("num_attention_heads")?);
        let kv_heads = config.size("num_key_value_heads")?.unwrap_or(heads);
        let head = config.size("head_dim")?.unwrap_or(match kind {
            DecoderKind::Gemma | DecoderKind::Gemma2 | DecoderKind::Gemma3 => 256,
            DecoderKind::Qwen3 => 128,
            _ => hidden / heads,
        });
        if head == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(config.wrong("num_key_value_heads", "a divisor of num_attention_heads"));
        }
        let context = config.size("max_position_embeddings")?.unwrap_or(2048);
        let scale = match kind {
            DecoderKind::Gemma2 | DecoderKind::Gemma3 => config.positive("query_pre_attn_scalar")?.unwrap_or(256.0),
            _ => head as f64,
        };
        let bias = |key| config.flag(key).map(|flag| flag.unwrap_or(false));
        let biases = match kind {
            DecoderKind::Qwen2 => [true, false, false],
            DecoderKind::Mistral => [false; 3],
            DecoderKind::Llama => [bias("attention_bias")?, bias("attention_bias")?, bias("mlp_bias")?],
            _ => [bias("attention_bias")?, bias("attention_bias")?, false],
        };
        if config.flag("use_bidirectional_attention")? == Some(true) {
            return Err(config.wrong("use_bidirectional_attention", "false"));
        }
        Ok(Self {
            kind,
            hidden,
            inner: config.needs("intermediate_size")?,
            heads,
            kv_heads,
            head,
            vocabulary: config.needs("vocab_size")?,
            context,
            epsilon: config.positive("rms_norm_eps")?.unwrap_or(1e-6),
            activation: activation(config, kind)?,
            scale: 1.0 / scale.sqrt(),
            score_cap: if kind.norms_results() { config.positive("attn_logit_softcapping")? } else { None },
            logit_cap: if kind.norms_results() { config.positive("final_logit_softcapping")? } else { None },
            biases,
            tied: config.flag("tie_word_embeddings")?.unwrap_or(kind.is_gemma()),
            ropes: rope::of(config, kind, head, context)?,
            sees: sees(config, kind)?,
        })
    }

    fn rope(&self, layer: usize) -> (&'static str, Frequencies) {
        match (self.sees[layer], self.kind) {
            (Sees::Window(_), DecoderKind::Gemma3) => ("window", self.ropes.window),
            _ => ("full", self.ropes.full),
        }
    }
}

/// The activation; what Gemma's first models say of theirs is a known mistake.
fn activation(config: &Config, kind: DecoderKind) -> Result<Activation, Error> {
    if kind.is_gemma() {
        return match config.text("hidden_activation")?.unwrap_or("gelu_pytorch_tanh") {
            "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            _ => Err(config.wrong("hidden_activation", "gelu_pytorch_tanh or gelu")),
        };
    }
    match config.text("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        _ => Err(config.wrong("hidden_act", "silu, gelu, gelu_pytorch_tanh or relu")),
    }
}

/// What each layer sees: as `layer_types` lists it, else by the rule of the family.
fn sees(config: &Config, kind: DecoderKind) -> Result<Vec<Sees>, Error> {
    let layers = Layers::of(config)?.count();
    let Some(window) = window(config, kind)? else { return Ok(vec![Sees::Before; layers]) };
    if kind == DecoderKind::Mistral {
        return Ok(vec![window; layers]);
    }
    if let Some(types) = config.texts("layer_types")? {
        let needs = "sliding_attention or full_attention for every layer";
        if types.len() != layers {
            return Err(config.wrong("layer_types", needs));
        }
        let each = types.iter().map(|layer| match *layer {
            SLIDING => Ok(window),
            FULL => Ok(Sees::Before),
            _ => Err(config.wrong("layer_types", needs)),
        });
        return each.collect();
    }
    let slides = slides(config, kind, layers)?;
    Ok(slides.into_iter().map(|slides| if slides { window } else { Sees::Before }).collect())
}

/// What `layer_types` calls a layer that sees a window, and one that sees all before.
const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";

/// What `layer_types` would list, where layers see different things and only their numbers say what.
pub(super) fn implied_types(config: &Config, kind: DecoderKind) -> Result<Option<Vec<&'static str>>, Error> {
    let listed = config.texts("layer_types")?.is_some();
    if listed || kind == DecoderKind::Mistral || window(config, kind)?.is_none() {
        return Ok(None);
    }
    let slides = slides(config, kind, Layers::of(config)?.count())?;
    Ok(Some(slides.into_iter().map(|slides| if slides { SLIDING } else { FULL }).collect()))
}

/// The window of layers that have one; none where no layer has.
fn window(config: &Config, kind: DecoderKind) -> Result<Option<Sees>, Error> {
    let window = match config.size("sliding_window")? {
        None if config.names("sliding_window") => None,
        None => Some(4096),
        window => window,
    };
    let window = match kind {
        DecoderKind::Llama | DecoderKind::Gemma => None,
        DecoderKind::Qwen2 | DecoderKind::Qwen3 if config.flag("use_sliding_window")? != Some(true) => None,
        _ => window,
    };
    Ok(window.map(Sees::Window))
}

/// Whether each layer sees a window, by the rule of the family.
fn slides(config: &Config, kind: DecoderKind, layers: usize) -> Result<Vec<bool>, Error> {
    let first = config.size("max_window_layers")?.unwrap_or(if config.names("max_window_layers") { 0 } else { 28 });
    let period = match kind {
        DecoderKind::Gemma2 => 2,
        _ => config.size("sliding_window_pattern")?.unwrap_or(6),
    };
    let slides = |layer: usize| match kind {
        DecoderKind::Qwen2 | DecoderKind::Qwen3 => layer >= first,
        _ => !(layer + 1).is_multiple_of(period),
    };
    Ok((0..layers).map(slides).collect())
}

/// Builds the graph.
pub(super) fn build(config: &Config, kind: DecoderKind, lookup: Lookup<'_>) -> Result<DecoderGraph, Error> {
    let facts = Facts::new(config, kind)?;
    let mut builder = Builder::new(lookup);
    let all = |name: &str| vec![Dim::Named(name.to_owned())];
    let ids = builder.graph.input("input_ids", Some(Dtype::I64), Some(all("tokens")));
    let positions = builder.graph.input("positions", Some(Dtype::I64), Some(all("tokens")));
    let rows = builder.graph.input("rows", Some(Dtype::I64), Some(all("rows")));
    let cache = facts.cache(&mut builder.graph);
    let table = builder.matrix("model.embed_tokens.weight", [facts.vocabulary, facts.hidden])?;
    let scale = if kind.is_gemma() { (facts.hidden as f32).sqrt() } else { 1.0 };
    let mut x = builder.embedding("embed", ids, &table, scale);
    let mut angles: Vec<(&str, [ValueId; 2])> = Vec::new();
    let (mut grown, mut hidden) = (Vec::new(), vec![x]);
    for (at, cache) in cache.into_iter().enumerate() {
        let (name, frequencies) = facts.rope(at);
        let turn = match angles.iter().find(|(other, _)| *other == name) {
            Some((_, turn)) => *turn,
            None => {
                let turn = turning(&mut builder.graph, name, frequencies, positions);
                angles.push((name, turn));
                turn
            }
        };
        let mut layer = Layer { builder: &mut builder, facts: &facts, at };
        let (next, cache) = layer.build(x, turn, cache)?;
        x = next;
        grown.extend(cache);
        hidden.push(x);
    }
    let x = builder.graph.node("rows of logits", Embedding { scale: 1.0 }, &[rows, x]);
    let x = norm(&mut builder, &facts, "model.norm", x)?;
    let head = match facts.tied {
        true => table,
        false => builder.matrix("lm_head.weight", [facts.vocabulary, facts.hidden])?,
    };
    let mut logits = builder.linear("logits", x, &head, (None, None));
    if let Some(cap) = facts.logit_cap {
        builder.graph.rename(logits, "logits, not capped");
        logits = builder.graph.node("logits", SoftCap { cap: cap as f32 }, &[logits]);
    }
    builder.graph.output(logits);
    grown.into_iter().for_each(|value| builder.graph.output(value));
    let cached = vec![[facts.kv_heads, facts.head]; facts.sees.len()];
    let before = |sees: &Sees| match sees {
        Sees::Window(window) => Some(window.saturating_sub(1)),
        Sees::All | Sees::Before => None,
    };
    let windows = facts.sees.iter().map(before).collect();
    let Facts { vocabulary, context, .. } = facts;
    let raised = std::mem::take(&mut builder.raised);
    Ok(DecoderGraph { graph: builder.finish()?, cached, windows, hidden, vocabulary, context, raised })
}

impl Facts {
    /// Keys and values of before, for every layer.
    fn cache(&self, graph: &mut Graph) -> Vec<[ValueId; 2]> {
        // Layers that see a window may have cached less than the others.
        let past = |layer: usize| match self.sees[layer] {
            Sees::Window(_) => Dim::Named("past in a window".to_owned()),
            Sees::All | Sees::Before => Dim::Named("past".to_owned()),
        };
        let each = |layer| {
            let dims = || Some(vec![past(layer), Dim::Fixed(self.kv_heads), Dim::Fixed(self.head)]);
            ["key", "value"].map(|part| graph.input(format!("cache.{layer}.{part}"), Some(Dtype::F32), dims()))
        };
        (0..self.sees.len()).map(each).collect()
    }
}

/// Cosines and sines of every position.
fn turning(graph: &mut Graph, name: &str, frequencies: Frequencies, positions: ValueId) -> [ValueId; 2] {
    let parts = ["cosines", "sines"].map(|part| graph.value(format!("angles.{name}.{part}")));
    graph.push(Node {
        name: format!("angles.{name}"),
        op: Arc::new(Angles { frequencies }),
        inputs: vec![Some(positions)],
        outputs: parts.map(Some).to_vec(),
    });
    parts
}

/// An operator that ONNX has.
pub(super) fn onnx(op: &str, attributes: &[(&str, Attribute)]) -> Result<Arc<dyn Operator>, Error> {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let definition =
        Definition { op: op.to_owned(), opset: 24, inputs: 2, outputs: 1, attributes, ..Definition::default() };
    let missing = || ErrorKind::Operators(vec![(op.to_owned(), op.to_owned())]).into();
    ops::build(&definition)?.ok_or_else(missing)
}

/// A node of an operator that ONNX has, with one output.
pub(super) fn node(graph: &mut Graph, name: String, op: Arc<dyn Operator>, inputs: &[ValueId]) -> ValueId {
    let output = graph.value(name.clone());
    graph.push(Node { name, op, inputs: inputs.iter().copied().map(Some).collect(), outputs: vec![Some(output)] });
    output
}

/// The norm of rows by the weights `name`.
fn norm(builder: &mut Builder<'_>, facts: &Facts, name: &str, x: ValueId) -> Result<ValueId, Error> {
    rms(builder, facts, (name, facts.hidden), x)
}

fn rms(builder: &mut Builder<'_>, facts: &Facts, (name, len): (&str, usize), x: ValueId) -> Result<ValueId, Error> {
    let weight = match facts.kind.is_gemma() {
        true => builder.raised(&format!("{name}.weight"), len)?,
        false => builder.vector(&format!("{name}.weight"), len)?,
    };
    let op =
        onnx("RMSNormalization", &[("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(facts.epsilon as f32))])?;
    Ok(node(&mut builder.graph, name.to_owned(), op, &[x, weight]))
}

/// One layer on its way.
struct Layer<'l, 'b> {
    builder: &'l mut Builder<'b>,
    facts: &'l Facts,
    at: usize,
}

impl Layer<'_, '_> {
    fn name(&self, part: &str) -> String {
        format!("{LAYERS}.{}.{part}", self.at)
    }

    /// x, and what the layer adds to it.
    fn build(
        &mut self,
        x: ValueId,
        angles: [ValueId; 2],
        cache: [ValueId; 2],
    ) -> Result<(ValueId, [ValueId; 2]), Error> {
        let four = self.facts.kind.norms_results();
        let normed = self.norm("input_layernorm", x)?;
        let (mut attended, grown) = self.attention(normed, angles, cache)?;
        if four {
            attended = self.norm("post_attention_layernorm", attended)?;
        }
        let x = self.add("self_attn.add", x, attended)?;
        let before = if four { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let normed = self.norm(before, x)?;
        let mut fed = self.feed_forward(normed)?;
        if four {
            fed = self.norm("post_feedforward_layernorm", fed)?;
        }
        Ok((self.add("mlp.add", x, fed)?, grown))
    }

    fn norm(&mut self, part: &str, x: ValueId) -> Result<ValueId, Error> {
        norm(self.builder, self.facts, &self.name(part), x)
    }

    fn add(&mut self, part: &str, a: ValueId, b: ValueId) -> Result<ValueId, Error> {
        let (name, op) = (self.name(part), onnx("Add", &[])?);
        Ok(node(&mut self.builder.graph, name, op, &[a, b]))
    }

    fn linear(
        &mut self,
        part: &str,
        x: ValueId,
        [out, width]: [usize; 2],
        (heads, bias): (Option<usize>, bool),
    ) -> Result<ValueId, Error> {
        let name = self.name(part);
        let weights = self.builder.matrix(&format!("{name}.weight"), [out, width])?;
        let bias = bias.then(|| self.builder.vector(&format!("{name}.bias"), out)).transpose()?;
        Ok(self.builder.linear(name, x, &weights, (heads, bias)))
    }

    /// What attention gives, and the cache with keys and values of the text.
    fn attention(
        &mut self,
        x: ValueId,
        angles: [ValueId; 2],
        cache: [ValueId; 2],
    ) -> Result<(ValueId, [ValueId; 2]), Error> {
        let Facts { hidden, heads, kv_heads, head, biases: [qkv, out, _], .. } = *self.facts;
        let mut q = self.linear("self_attn.q_proj", x, [heads.saturating_mul(head), hidden], (Some(heads), qkv))?;
        let mut k =
            self.linear("self_attn.k_proj", x, [kv_heads.saturating_mul(head), hidden], (Some(kv_heads), qkv))?;
        let v = self.linear("self_attn.v_proj", x, [kv_heads.saturating_mul(head), hidden], (Some(kv_heads), qkv))?;
        if self.facts.kind.norms_heads() {
            q = rms(self.builder, self.facts, (&self.name("self_attn.q_norm"), head), q)?;
            k = rms(self.builder, self.facts, (&self.name("self_attn.k_norm"), head), k)?;
        }
        let [cosines, sines] = angles;
        q = self.builder.graph.node(self.name("self_attn.q_rotated"), Rotate, &[q, cosines, sines]);
        k = self.builder.graph.node(self.name("self_attn.k_rotated"), Rotate, &[k, cosines, sines]);
        let name = self.name("self_attn");
        let attended = self.builder.graph.value(name.clone());
        let grown = ["key", "value"].map(|part| self.builder.graph.value(format!("cache.{}.{part}.grown", self.at)));
        let op = SelfAttention {
            scale: self.facts.scale as f32,
            sees: self.facts.sees[self.at],
            cap: self.facts.score_cap.map(|cap| cap as f32),
        };
        self.builder.graph.push(Node {
            name,
            op: Arc::new(op),
            inputs: [q, k, v].into_iter().chain(cache).map(Some).collect(),
            outputs: [attended].into_iter().chain(grown).map(Some).collect(),
        });
        Ok((self.linear("self_attn.o_proj", attended, [hidden, heads.saturating_mul(head)], (None, out))?, grown))
    }

    fn feed_forward(&mut self, x: ValueId) -> Result<ValueId, Error> {
        let Facts { hidden, inner, activation, biases: [.., bias], .. } = *self.facts;
        let gate = self.linear("mlp.gate_proj", x, [inner, hidden], (None, bias))?;
        let up = self.linear("mlp.up_proj", x, [inner, hidden], (None, bias))?;
        let gated = self.builder.graph.node(self.name("mlp.gated"), Gate { activation }, &[gate, up]);
        self.linear("mlp.down_proj", gated, [hidden, inner], (None, bias))
    }
}
