//! A gated network as ONNX that any engine runs.
//!
//! ```text
//! input -> GlobalMaxPool -> Flatten -> Softmax -> Gemm -> Greater 0 -> Cast -> Unsqueeze -.
//! Conv -> ... -> place ------------------------------------------------------------------> Mul -> all that took the place
//! ```
//!
//! Engines that compute all channels give the same results; that is how masks are checked, and it saves nothing.

use std::path::Path;

use niwaki_onnx::DataType;
use niwaki_onnx::build::{attr_int, initializer, node};
use niwaki_onnx::proto::{GraphProto, NodeProto, TensorProto};
use niwaki_tensors::Overwrite;

use super::Pool;
use super::file::Network;
use super::heads::Head;
use super::sites::Site;
use crate::error::{Error, ErrorKind};
use crate::train::Filled;

/// The first opset in which `Unsqueeze` takes its axes as an input, and `Softmax` one axis.
const OPSET: i64 = 13;

/// The tensor that numbers of heads are compared with.
const ZERO: &str = "niwaki.heads.zero";

impl Network {
    /// Writes the network as an ONNX model.
    ///
    /// # Errors
    ///
    /// A model that is no ONNX file, or one of an opset before 13; weights that are no plain initializers; those of writing.
    pub fn export(&self, (out, overwrite): (&Path, Overwrite)) -> Result<(), Error> {
        let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(self.model.path());
        let mut file = Filled::of_opset(&self.model, OPSET, "heads")?;
        let graph = file.proto.graph.as_mut().ok_or_else(|| unlike("a file without a graph".to_owned()))?;
        graph.initializer.push(initializer(ZERO, DataType::Float, &[], 0f32.to_le_bytes().to_vec()));
        for (site, head) in self.sites.iter().zip(&self.heads) {
            let at = |e: Error| e.of(&site.name).at(self.model.path());
            self.gate(graph, site, head).map_err(at)?;
        }
        file.save(out, overwrite)
    }

    /// Puts the head and the gate of a site into a file's graph.
    fn gate(&self, graph: &mut GraphProto, site: &Site, head: &Head) -> Result<(), Error> {
        let names = [site.input, site.place].map(|value| self.model.graph().name(value).to_owned());
        let [input, place] = names;
        let unlike = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() });
        let makes = |node: &NodeProto| node.output.contains(&place);
        let maker = graph.node.iter().position(makes).ok_or_else(|| unlike("what its mask lies on is no node's"))?;
        let gated = format!("{}.gated", site.name);
        for taken in graph.node.iter_mut().flat_map(|node| &mut node.input) {
            if *taken == place {
                taken.clone_from(&gated);
            }
        }
        // What a head looks at may be gated: it was renamed with what its convolution takes.
        let takes = |node: &NodeProto| node.input.get(1).is_some_and(|name| *name == site.name);
        let seen = graph.node.iter().find(|node| takes(node)).and_then(|node| node.input.first().cloned());
        let (nodes, tensors) = added(site, head, self.how.pool, [&seen.unwrap_or(input), &place, &gated]);
        graph.initializer.extend(tensors);
        graph.node.splice(maker + 1..maker + 1, nodes);
        Ok(())
    }
}

/// The nodes of a head and of a gate, and their tensors.
fn added(site: &Site, head: &Head, pool: Pool, [input, place, gated]: [&str; 3]) -> (Vec<NodeProto>, Vec<TensorProto>) {
    let name = |what: &str| format!("{}.head.{what}", site.name);
    let [weight, bias] = Head::names(&site.name);
    let float = |name: &str, tensor: &niwaki_model::Tensor| {
        initializer(name, DataType::Float, tensor.shape(), tensor.data().to_bytes())
    };
    let axes = name("axes");
    let behind: Vec<u8> = (2..site.rank as i64).flat_map(i64::to_le_bytes).collect();
    let tensors = vec![
        float(&weight, &head.weight),
        float(&bias, &head.bias),
        initializer(&axes, DataType::Int64, &[site.rank.saturating_sub(2)], behind),
    ];
    let pooling = match pool {
        Pool::Max => "GlobalMaxPool",
        Pool::Average => "GlobalAveragePool",
    };
    let [pooled, flat, soft, numbers, on, mask, planes] =
        ["pooled", "flat", "soft", "numbers", "on", "mask", "planes"].map(name);
    let one = |op: &str, inputs: &[&str], output: &str| node(op, inputs, &[output], Vec::new());
    let nodes = vec![
        one(pooling, &[input], &pooled),
        node("Flatten", &[&pooled], &[&flat], vec![attr_int("axis", 1)]),
        node("Softmax", &[&flat], &[&soft], vec![attr_int("axis", 1)]),
        node("Gemm", &[&soft, &weight, &bias], &[&numbers], vec![attr_int("transB", 1)]),
        one("Greater", &[&numbers, ZERO], &on),
        node("Cast", &[&on], &[&mask], vec![attr_int("to", DataType::Float as i64)]),
        one("Unsqueeze", &[&mask, &axes], &planes),
        one("Mul", &[place, &planes], gated),
    ];
    (nodes, tensors)
}
