//! The graph of an encoder: BERT and its kin.

use std::sync::Arc;

use super::EncoderGraph;
use super::config::Config;
use super::decoder::{node, onnx};
use super::family::EncoderKind;
use super::layers::Layers;
use super::pairs::{Pair, Pairs};
use super::weights::{Builder, Lookup, MatrixOf};
use crate::attributes::Attribute;
use crate::error::{Error, ErrorKind};
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::ops::gate::{Activation, Gate};
use crate::ops::linear::Linear;
use crate::ops::self_attention::{Sees, SelfAttention};
use crate::tensor::{Dtype, Tensor};

/// The table of tokens.
const WORDS: &str = "embeddings.word_embeddings";

/// Why nothing can be divided by way of the norms.
const ADDED: &str = "what their norm gives is added to their outputs, too";

/// What the configuration says of an encoder.
struct Facts {
    hidden: usize,
    inner: usize,
    heads: usize,
    layers: usize,
    epsilon: f64,
    activation: Activation,
    vocabulary: usize,
    places: usize,
    types: usize,
    /// The position of the first token.
    first: usize,
}

/// What the parts of a layer are called.
struct Names {
    layers: &'static str,
    /// Queries, keys, values, what comes of them, and the norm after it.
    attention: [&'static str; 5],
    /// Both products after it, and the norm after those.
    after: [&'static str; 3],
}

const BERT: Names = Names {
    layers: "encoder.layer",
    attention: [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "attention.output.LayerNorm",
    ],
    after: ["intermediate.dense", "output.dense", "output.LayerNorm"],
};

const DISTIL: Names = Names {
    layers: "transformer.layer",
    attention: ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm"],
    after: ["ffn.lin1", "ffn.lin2", "output_layer_norm"],
};

/// What the parts of a layer are called, and what stands before all names where the model has a head.
fn names(kind: EncoderKind) -> (&'static Names, &'static str) {
    match kind {
        EncoderKind::Bert => (&BERT, "bert."),
        EncoderKind::Roberta => (&BERT, "roberta."),
        EncoderKind::DistilBert => (&DISTIL, "distilbert."),
    }
}

/// What may stand before the number of a layer in the names of its weights.
pub(super) fn prefixes(kind: EncoderKind) -> Vec<String> {
    let (Names { layers, .. }, within) = names(kind);
    vec![format!("{within}{layers}."), format!("{layers}.")]
}

/// The key of the number of layers.
pub(super) fn count_key(kind: EncoderKind) -> &'static str {
    if kind == EncoderKind::DistilBert { "n_layers" } else { "num_hidden_layers" }
}

impl Facts {
    fn new(config: &Config, kind: EncoderKind) -> Result<Self, Error> {
        let distil = kind == EncoderKind::DistilBert;
        let key = |plain, of_distil| if distil { of_distil } else { plain };
        if config.text("position_embedding_type")?.is_some_and(|kind| kind != "absolute") {
            return Err(config.wrong("position_embedding_type", "absolute"));
        }
        let layers = Layers::of(config)?.count();
        let act = key("hidden_act", "activation");
        let activation = match config.text(act)?.unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            _ => return Err(config.wrong(act, "gelu, gelu_new, relu or silu")),
        };
        let (hidden, heads) =
            (config.needs(key("hidden_size", "dim"))?, config.needs(key("num_attention_heads", "n_heads"))?);
        if !hidden.is_multiple_of(heads) {
            return Err(config.wrong(key("num_attention_heads", "n_heads"), "a divisor of the width"));
        }
        // Positions of these are counted from behind the padding's number.
        let pad = if kind == EncoderKind::Roberta { config.token("pad_token_id")?.unwrap_or(1) } else { 0 };
        Ok(Self {
            hidden,
            inner: config.needs(key("intermediate_size", "hidden_dim"))?,
            heads,
            layers,
            epsilon: if distil { 1e-12 } else { config.positive("layer_norm_eps")?.unwrap_or(1e-12) },
            activation,
            vocabulary: config.needs("vocab_size")?,
            places: config.size("max_position_embeddings")?.unwrap_or(512),
            types: if distil { 0 } else { config.size("type_vocab_size")?.unwrap_or(2) },
            first: if kind == EncoderKind::Roberta { pad + 1 } else { 0 },
        })
    }
}

/// Builds the graph.
pub(super) fn build(config: &Config, kind: EncoderKind, lookup: Lookup<'_>) -> Result<EncoderGraph, Error> {
    let facts = Facts::new(config, kind)?;
    let (names, within) = names(kind);
    let mut builder = Builder::new(lookup);
    // Models with a head keep what is below it under a name of its own.
    let within = if builder.has(&format!("{within}{WORDS}.weight"))? { within } else { "" };
    let dims = || Some(["batch", "tokens"].map(|name| Dim::Named(name.to_owned())).to_vec());
    let mut input = |name: &str| builder.graph.input(name, Some(Dtype::I64), dims());
    let (ids, positions, mask) = (input("input_ids"), input("positions"), input("attention_mask"));
    let types = (facts.types > 0).then(|| input("token_type_ids"));
    let classes = classes(config)?;
    let mut parts = Encoding { builder, facts: &facts, names, within };
    let mut x = parts.embeddings(ids, positions, types)?;
    let mut hidden = vec![x];
    for layer in 0..facts.layers {
        x = parts.layer(layer, x, mask)?;
        hidden.push(x);
    }
    let scores = (!classes.is_empty()).then(|| parts.scores(kind, x, classes.len())).transpose()?;
    let Encoding { mut builder, .. } = parts;
    builder.graph.output(x);
    builder.graph.rename(x, "last_hidden_state");
    if let Some(scores) = scores {
        builder.graph.output(scores);
        builder.graph.rename(scores, "logits");
    }
    let named = format!("{within}pooler.dense");
    let left = classes.is_empty() && kind != EncoderKind::DistilBert && builder.has(&format!("{named}.weight"))?;
    let pooler = if left { Pooler::find(&mut builder, named, facts.hidden)? } else { None };
    Ok(EncoderGraph {
        graph: builder.finish()?,
        hidden,
        vocabulary: facts.vocabulary,
        context: facts.places.saturating_sub(facts.first),
        first: facts.first,
        types: types.is_some(),
        classes,
        pooler,
    })
}

/// What makes the inputs of products of its layers. Its norms are what is added to as well.
pub(super) fn pairs(config: &Config, kind: EncoderKind, has: &dyn Fn(&str) -> bool) -> Result<Pairs, Error> {
    let Facts { hidden, inner, heads, layers, activation, .. } = Facts::new(config, kind)?;
    let (names, within) = names(kind);
    let within = if has(&format!("{within}{WORDS}.weight")) { within } else { "" };
    let mut pairs = Pairs::default();
    for layer in 0..layers {
        let weight = |part: &str| format!("{within}{}.{layer}.{part}.weight", names.layers);
        let made = |part: &str| vec![weight(part), format!("{within}{}.{layer}.{part}.bias", names.layers)];
        let [query, key, value, joined, _] = names.attention;
        let [up, down, _] = names.after;
        pairs.none([query, key, value].map(weight).to_vec(), ADDED);
        let (makers, takers) = (made(value), vec![weight(joined)]);
        pairs.found.push(Pair { makers, takers, channels: hidden, head: hidden / heads, shared: 1 });
        pairs.none(vec![weight(up)], ADDED);
        match activation {
            Activation::Relu => pairs.pair(made(up), vec![weight(down)], inner),
            _ => pairs.none(vec![weight(down)], "no scale goes through the function before them"),
        }
    }
    Ok(pairs)
}

/// A layer that makes a vector of a text of its first token's: a product and tanh. Its pretraining told by that whether two
/// texts follow each other; nothing else here takes it.
#[derive(Clone, Debug)]
pub struct Pooler {
    name: String,
    weight: Tensor,
    bias: Tensor,
}

impl Pooler {
    /// Where both weights are there.
    fn find(builder: &mut Builder<'_>, name: String, width: usize) -> Result<Option<Self>, Error> {
        let weight = builder.matrix(&format!("{name}.weight"), [width, width])?;
        let bias = builder.vector(&format!("{name}.bias"), width)?;
        let MatrixOf::Value(weight) = weight else { return Ok(None) };
        let [weight, bias] = [weight, bias].map(|value| builder.graph.constant(value).cloned());
        Ok(weight.zip(bias).map(|(weight, bias)| Self { name, weight, bias }))
    }

    /// Adds it to the graph of its encoder, behind the first output, as an output `pooler_output` `[B, width]`.
    ///
    /// # Errors
    ///
    /// A graph without outputs.
    pub fn add(&self, graph: &mut Graph) -> Result<(), Error> {
        let none = || Error::from(ErrorKind::Outputs { found: 0, needs: 1 });
        let hidden = graph.outputs().first().copied().ok_or_else(none)?;
        let x = first(graph, hidden)?;
        let weight = graph.weight(format!("{}.weight", self.name), self.weight.clone());
        let bias = graph.weight(format!("{}.bias", self.name), self.bias.clone());
        let x = graph.node(self.name.as_str(), Linear { heads: None }, &[x, weight, bias]);
        let x = node(graph, "pooler_output".to_owned(), onnx("Tanh", &[])?, &[x]);
        graph.output(x);
        Ok(())
    }
}

/// The vector of each text's first token.
fn first(graph: &mut Graph, hidden: ValueId) -> Result<ValueId, Error> {
    let first = graph.weight("first token", Tensor::scalar(0i64));
    let op = onnx("Gather", &[("axis", Attribute::Int(1))])?;
    Ok(node(graph, "first".to_owned(), op, &[hidden, first]))
}

/// The names of the classes that the model tells, where it does.
fn classes(config: &Config) -> Result<Vec<String>, Error> {
    if !config.architecture().ends_with("ForSequenceClassification") {
        return Ok(Vec::new());
    }
    if config.text("problem_type")?.is_some_and(|kind| kind != "single_label_classification") {
        return Err(config.wrong("problem_type", "single_label_classification"));
    }
    let Some(names) = config.object("id2label")? else {
        return Ok((0..config.size("num_labels")?.unwrap_or(2)).map(|class| class.to_string()).collect());
    };
    let needs = "a name for every class, counted from 0";
    let all: Option<Vec<String>> =
        (0..names.len()).map(|class| names.text(&class.to_string()).ok().flatten().map(str::to_owned)).collect();
    all.filter(|all| !all.is_empty()).ok_or_else(|| config.wrong("id2label", needs))
}

/// An encoder on its way.
struct Encoding<'e, 'b> {
    builder: Builder<'b>,
    facts: &'e Facts,
    names: &'static Names,
    within: &'static str,
}

impl Encoding<'_, '_> {
    fn embeddings(&mut self, ids: ValueId, positions: ValueId, types: Option<ValueId>) -> Result<ValueId, Error> {
        let Facts { vocabulary, places, types: kinds, .. } = *self.facts;
        let mut x = self.rows(WORDS, ids, vocabulary)?;
        // In the order in which the sum is always made.
        if let Some(types) = types {
            let y = self.rows("embeddings.token_type_embeddings", types, kinds)?;
            x = self.add("embeddings.types", x, y)?;
        }
        let y = self.rows("embeddings.position_embeddings", positions, places)?;
        x = self.add("embeddings.positions", x, y)?;
        self.norm("embeddings.LayerNorm", x)
    }

    fn rows(&mut self, part: &str, ids: ValueId, rows: usize) -> Result<ValueId, Error> {
        let name = format!("{}{part}", self.within);
        let table = self.builder.matrix(&format!("{name}.weight"), [rows, self.facts.hidden])?;
        Ok(self.builder.embedding(name, ids, &table, 1.0))
    }

    fn add(&mut self, part: &str, a: ValueId, b: ValueId) -> Result<ValueId, Error> {
        let op = onnx("Add", &[])?;
        Ok(node(&mut self.builder.graph, format!("{}{part}", self.within), op, &[a, b]))
    }

    fn norm(&mut self, part: &str, x: ValueId) -> Result<ValueId, Error> {
        let name = format!("{}{part}", self.within);
        let weight = self.builder.vector(&format!("{name}.weight"), self.facts.hidden)?;
        let bias = self.builder.vector(&format!("{name}.bias"), self.facts.hidden)?;
        let epsilon = Attribute::Float(self.facts.epsilon as f32);
        let op = onnx("LayerNormalization", &[("axis", Attribute::Int(-1)), ("epsilon", epsilon)])?;
        Ok(node(&mut self.builder.graph, name, op, &[x, weight, bias]))
    }

    fn linear(
        &mut self,
        part: &str,
        x: ValueId,
        [out, width]: [usize; 2],
        heads: Option<usize>,
    ) -> Result<ValueId, Error> {
        let name = format!("{}{part}", self.within);
        let weight = self.builder.matrix(&format!("{name}.weight"), [out, width])?;
        let bias = self.builder.vector(&format!("{name}.bias"), out)?;
        Ok(self.builder.linear(name, x, &weight, (heads, Some(bias))))
    }

    /// Scores of classes, of the first token's vector.
    fn scores(&mut self, kind: EncoderKind, x: ValueId, classes: usize) -> Result<ValueId, Error> {
        let width = self.facts.hidden;
        let x = first(&mut self.builder.graph, x)?;
        let (dense, act, last) = match kind {
            EncoderKind::Bert => (format!("{}pooler.dense", self.within), "Tanh", "classifier"),
            EncoderKind::Roberta => ("classifier.dense".to_owned(), "Tanh", "classifier.out_proj"),
            EncoderKind::DistilBert => ("pre_classifier".to_owned(), "Relu", "classifier"),
        };
        let within = std::mem::take(&mut self.within);
        let x = self.linear(&dense, x, [width, width], None)?;
        let x = node(&mut self.builder.graph, format!("{dense}.{act}"), onnx(act, &[])?, &[x]);
        let x = self.linear(last, x, [classes, width], None)?;
        self.within = within;
        Ok(x)
    }

    fn layer(&mut self, at: usize, x: ValueId, mask: ValueId) -> Result<ValueId, Error> {
        let Facts { hidden, inner, heads, activation, .. } = *self.facts;
        let part = |part: &str| format!("{}.{at}.{part}", self.names.layers);
        let [query, key, value, joined, norm] = self.names.attention.map(&part);
        let [up, down, last] = self.names.after.map(&part);
        let attention = format!("{}{}", self.within, part("attention"));
        let (sum, gate, end) = (part("attention.add"), part("activation"), part("add"));
        let q = self.linear(&query, x, [hidden, hidden], Some(heads))?;
        let k = self.linear(&key, x, [hidden, hidden], Some(heads))?;
        let v = self.linear(&value, x, [hidden, hidden], Some(heads))?;
        let op = SelfAttention { scale: ((hidden / heads) as f32).sqrt().recip(), sees: Sees::All, cap: None };
        let attended = self.builder.graph.value(attention.clone());
        self.builder.graph.push(Node {
            name: attention,
            op: Arc::new(op),
            inputs: vec![Some(q), Some(k), Some(v), None, None, Some(mask)],
            outputs: vec![Some(attended)],
        });
        let y = self.linear(&joined, attended, [hidden, hidden], None)?;
        let y = self.add(&sum, y, x)?;
        let x = self.norm(&norm, y)?;
        let y = self.linear(&up, x, [inner, hidden], None)?;
        let y = self.builder.graph.node(format!("{}{gate}", self.within), Gate { activation }, &[y]);
        let y = self.linear(&down, y, [hidden, inner], None)?;
        let y = self.add(&end, y, x)?;
        self.norm(&last, y)
    }
}
