//! Functions that a model brings along: a node that calls one becomes the nodes of its body.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use niwaki_onnx::Model;
use niwaki_onnx::proto::attribute_proto::AttributeType;
use niwaki_onnx::proto::{AttributeProto, FunctionProto, NodeProto};
use prost::Message;

use super::scope::{Scope, Tally};
use crate::attributes::Definition;
use crate::error::{Error, ErrorKind};
use crate::graph::{Node, ValueId};
use crate::ops;

/// Graphs and functions within each other, at most.
const DEEPEST: usize = 64;
/// Bytes of messages of the bodies that are written out, at most, and what the smallest counts.
const MOST_BYTES: usize = 1 << 28;
const LEAST_BYTES: usize = 4096;

/// A call whose body is being written out.
pub(super) struct Call<'m> {
    function: &'m FunctionProto,
    /// What its nodes refer to.
    attributes: BTreeMap<String, AttributeProto>,
    /// Inputs that the caller leaves out.
    left_out: BTreeSet<&'m str>,
}

fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl Call<'_> {
    pub(super) fn opset(&self, domain: &str) -> Option<i64> {
        let import = self.function.opset_import.iter().find(|import| plain(import.domain()) == plain(domain));
        import.map(|import| import.version())
    }
}

impl<'m> Tally<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        let name = |of: &'m FunctionProto| [plain(of.domain()), of.name(), of.overload()];
        let functions = model.proto().functions.iter().map(|function| (name(function), function)).collect();
        Self { functions, unsupported: Vec::new(), written: 0 }
    }

    /// The function of the model that a node calls.
    pub(super) fn function(&self, node: &NodeProto) -> Option<&'m FunctionProto> {
        self.functions.get(&[plain(node.domain()), node.op_type(), node.overload()]).copied()
    }
}

impl<'m> Scope<'m, '_> {
    /// The call within whose body this is.
    fn calling(&self) -> Option<&Call<'m>> {
        self.call.as_ref().or_else(|| self.parent?.calling())
    }

    /// The version of the operators of a domain here.
    pub(super) fn opset(&self, domain: &str) -> Option<i64> {
        self.calling().map_or_else(|| self.model.opset(domain), |call| call.opset(domain))
    }

    /// Whether this is an input of the function that its caller leaves out.
    pub(super) fn is_left_out(&self, name: &str) -> bool {
        self.calling().is_some_and(|call| call.left_out.contains(name))
    }

    /// An attribute, or that of the caller which it refers to; none where the caller has none.
    pub(super) fn referred<'a>(&self, of: &'a AttributeProto) -> Option<Cow<'a, AttributeProto>> {
        if of.ref_attr_name().is_empty() {
            return Some(Cow::Borrowed(of));
        }
        let mut value = self.calling()?.attributes.get(of.ref_attr_name())?.clone();
        value.name = of.name.clone();
        Some(Cow::Owned(value))
    }

    /// Ensures that another graph or function within this one is not one too deep.
    pub(super) fn deeper(&self) -> Result<usize, Error> {
        match self.depth + 1 {
            depth if depth <= DEEPEST => Ok(depth),
            _ => Err(ErrorKind::Model(format!("more than {DEEPEST} graphs or functions within each other")).into()),
        }
    }

    /// Writes out a call.
    pub(super) fn inline(
        &mut self,
        name: &str,
        node: &NodeProto,
        function: &'m FunctionProto,
        tally: &mut Tally<'m>,
    ) -> Result<(), Error> {
        // Names of the body begin with that of the call.
        let names = name.len().saturating_mul(function.node.len());
        let bytes = function.encoded_len().max(LEAST_BYTES).saturating_add(names);
        tally.written = tally.written.saturating_add(bytes);
        if tally.written > MOST_BYTES {
            let what = format!("functions written out take more than {MOST_BYTES} bytes");
            return Err(ErrorKind::Model(what).into());
        }
        let (found, needs) = (node.input.len(), function.input.len());
        if found > needs || node.output.len() > function.output.len() {
            let (outputs, most) = (node.output.len(), function.output.len());
            let what = format!("{found} inputs and {outputs} outputs, up to {needs} and {most} expected");
            return Err(ErrorKind::Model(what).into());
        }
        let mut names = BTreeMap::new();
        let mut left_out = BTreeSet::new();
        for (at, formal) in function.input.iter().enumerate() {
            let actual = node.input.get(at).map_or(Ok(None), |actual| self.input(actual))?;
            if let Some(value) = actual {
                names.insert(formal.clone(), value);
            } else {
                left_out.insert(formal.as_str());
            }
        }
        let pairs = function.input.iter().zip(&node.input);
        let small = pairs.filter_map(|(formal, actual)| Some((formal.clone(), self.small_type(actual)?))).collect();
        let mut results = BTreeMap::new();
        for (formal, actual) in function.output.iter().zip(&node.output) {
            if let Some(value) = self.names.get(actual) {
                results.insert(formal.as_str(), *value);
            }
        }
        let call = Call { function, attributes: self.arguments(node, function)?, left_out };
        let depth = self.deeper()?;
        let (names, small) = (std::mem::replace(&mut self.names, names), std::mem::replace(&mut self.small, small));
        let outside = (names, small, self.call.replace(call), self.depth);
        self.depth = depth;
        let written = self.body(name, function, results, tally);
        (self.names, self.small, self.call, self.depth) = outside;
        written
    }

    /// What the nodes of a function may refer to.
    fn arguments(&self, node: &NodeProto, function: &FunctionProto) -> Result<BTreeMap<String, AttributeProto>, Error> {
        let mut all = BTreeMap::new();
        for default in &function.attribute_proto {
            all.insert(default.name().to_owned(), default.clone());
        }
        for attribute in node.attribute.iter().filter_map(|attribute| self.referred(attribute)) {
            if matches!(attribute.r#type(), AttributeType::Graph | AttributeType::Graphs) {
                let what = format!("attribute `{}`, a graph for a function, is not supported", attribute.name());
                return Err(ErrorKind::Model(what).into());
            }
            all.insert(attribute.name().to_owned(), attribute.into_owned());
        }
        Ok(all)
    }

    fn body(
        &mut self,
        name: &str,
        function: &'m FunctionProto,
        mut results: BTreeMap<&str, ValueId>,
        tally: &mut Tally<'m>,
    ) -> Result<(), Error> {
        self.nodes(&function.node, Some(name), &mut results, tally)?;
        // Results that no node makes are inputs that are passed on.
        for (formal, result) in results {
            let from = self.names.get(formal).copied();
            let from = from.ok_or_else(|| ErrorKind::Undefined { value: formal.to_owned() })?;
            let identity = Definition { op: "Identity".to_owned(), opset: 1, ..Definition::default() };
            if let Some(op) = ops::build(&identity)? {
                let (inputs, outputs) = (vec![Some(from)], vec![Some(result)]);
                self.graph.push(Node { name: format!("{name}/{formal}"), op, inputs, outputs });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
