//! Heads and gates in a graph.
//!
//! ```text
//! input -> [Detach ->] GlobalMaxPool -> Flatten -> Softmax -> Linear = P     a head: weights [C_out, C_in], a bias
//! place -> ChannelGate(P) -> all that took what is at the place
//!      \-> ChannelTargets -> ChannelGate, where P learns or is watched
//! ```

use std::sync::Arc;

use niwaki_model::ops::channels::ChannelGate;
use niwaki_model::ops::linear::Linear;
use niwaki_model::ops::pass::Detach;
use niwaki_model::ops::pool::GlobalPool;
use niwaki_model::ops::softmax::{Kind, Softmax};
use niwaki_model::{Definition, Graph, Node, Tensor, ValueId};

use super::sites::Site;
use super::targets::Targets;
use super::{Dynamic, Pool};

/// What numbers of heads are in the beginning: all channels are there.
const ALL_ON: f32 = 1.0;

/// The numbers of a head.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// `[C_out, C_in]`.
    pub(super) weight: Tensor,
    /// `[C_out]`.
    pub(super) bias: Tensor,
}

impl Head {
    /// One that lets all channels through, whatever it sees.
    pub(super) fn all_on(site: &Site) -> Self {
        let weight = Tensor::of([site.outputs, site.inputs], vec![0.0f32; site.outputs * site.inputs]);
        let bias = Tensor::vector(vec![ALL_ON; site.outputs]);
        // There are as many numbers as the shape says.
        Self { weight: weight.unwrap_or_else(|| bias.clone()), bias }
    }

    /// The tensor that has the weight of the head before a convolution, and the one that has its bias.
    pub(super) fn names(convolution: &str) -> [String; 2] {
        ["weight", "bias"].map(|what| format!("{convolution}.head.{what}"))
    }
}

/// Where the numbers of a head, and what it makes, are in a graph.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) weight: ValueId,
    pub(super) bias: ValueId,
    /// P, `[N, C]`.
    pub(super) numbers: ValueId,
    /// What P is to tell, where that is in the graph.
    pub(super) targets: Option<ValueId>,
}

/// Adds a head that looks at a value: where it is, targets aside.
fn head(graph: &mut Graph, site: &Site, head: &Head, how: &Dynamic) -> Option<Placed> {
    let name = |what: &str| format!("{}.head/{what}", site.name);
    let [weight, bias] = Head::names(&site.name);
    let (weight, bias) = (graph.weight(weight, head.weight.clone()), graph.weight(bias, head.bias.clone()));
    let seen = if how.joint { site.input } else { graph.node(name("detach"), Detach, &[site.input]) };
    let pool = match how.pool {
        Pool::Max => GlobalPool::Max,
        Pool::Average => GlobalPool::Average,
    };
    let pooled = graph.node(name("pool"), pool, &[seen]);
    let definition = Definition { op: "Flatten".to_owned(), inputs: 1, outputs: 1, ..Definition::default() };
    let op = niwaki_model::ops::build(&definition).ok().flatten()?;
    let flat = graph.value(name("flatten"));
    graph.push(Node { name: name("flatten"), op, inputs: vec![Some(pooled)], outputs: vec![Some(flat)] });
    let soft = graph.node(name("softmax"), Softmax { kind: Kind::Softmax, axis: 1, flat: false }, &[flat]);
    let numbers = graph.node(name("linear"), Linear { heads: None }, &[soft, weight, bias]);
    Some(Placed { weight, bias, numbers, targets: None })
}

/// Puts heads into a graph, and gates behind their convolutions. With the weight of the loss of what they are to tell,
/// they learn; a weight of 0 only lets it be seen.
pub(super) fn place(
    graph: &mut Graph,
    (sites, heads): (&[Site], &[Head]),
    how: &Dynamic,
    learns: Option<ValueId>,
) -> Vec<Placed> {
    // All heads first: what they look at is gated like all that others take.
    let mut all: Vec<Placed> =
        sites.iter().zip(heads).filter_map(|(site, numbers)| head(graph, site, numbers, how)).collect();
    for (site, placed) in sites.iter().zip(&mut all) {
        placed.targets = learns.map(|_| graph.value(format!("{}.targets", site.name)));
        let more: Vec<ValueId> = [Some(placed.numbers), placed.targets, learns].into_iter().flatten().collect();
        graph.transform(site.place, format!("{}.gate", site.name), ChannelGate, &more);
        let Some(targets) = placed.targets else { continue };
        graph.push(Node {
            name: graph.name(targets).to_owned(),
            op: Arc::new(Targets { target: how.target }),
            inputs: vec![Some(site.place)],
            outputs: vec![Some(targets)],
        });
    }
    all
}
