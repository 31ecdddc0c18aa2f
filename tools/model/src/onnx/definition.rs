//! A node's attributes.

use std::collections::BTreeMap;

use niwaki_onnx::proto::attribute_proto::AttributeType;
use niwaki_onnx::proto::{AttributeProto, NodeProto};

use super::scope::{Scope, Tally};
use super::{tensor, unreadable};
use crate::attributes::{Attribute, Definition};
use crate::error::{Error, ErrorKind};

/// What a node says of itself. Names that its graphs take from around them go to `captured`: of
/// `then_branch` before those of `else_branch`.
pub(super) fn definition<'m>(
    scope: &Scope<'m, '_>,
    node: &NodeProto,
    captured: &mut Vec<String>,
    tally: &mut Tally<'m>,
) -> Result<Definition, Error> {
    let domain = if node.domain() == "ai.onnx" { "" } else { node.domain() };
    let opset = scope.opset(domain).unwrap_or(1);
    let mut all: Vec<&AttributeProto> = node.attribute.iter().collect();
    all.sort_by_key(|attribute| attribute.name() == "else_branch");
    let mut attributes = BTreeMap::new();
    for attribute in all.into_iter().filter_map(|attribute| scope.referred(attribute)) {
        if let Some(value) = value(scope, &attribute, captured, tally)? {
            attributes.insert(attribute.name().to_owned(), value);
        }
    }
    // Codes of four bits take a byte here: what they are is said by the type of the zero point.
    let small = node.input.get(2).and_then(|zero_point| scope.small_type(zero_point));
    if let Some(number) = small.filter(|_| node.op_type() == "QuantizeLinear") {
        attributes.entry("output_dtype".to_owned()).or_insert(Attribute::Int(number.into()));
    }
    Ok(Definition {
        op: node.op_type().to_owned(),
        domain: domain.to_owned(),
        opset,
        inputs: node.input.len() + captured.len(),
        captures: captured.len(),
        outputs: node.output.len(),
        attributes,
    })
}

fn value<'m>(
    scope: &Scope<'m, '_>,
    of: &AttributeProto,
    captured: &mut Vec<String>,
    tally: &mut Tally<'m>,
) -> Result<Option<Attribute>, Error> {
    let text = |bytes: &[u8]| {
        let wrong = |_| Error::from(ErrorKind::Model(format!("attribute `{}` is no text", of.name())));
        std::str::from_utf8(bytes).map(str::to_owned).map_err(wrong)
    };
    Ok(Some(match of.r#type() {
        AttributeType::Int => Attribute::Int(of.i()),
        AttributeType::Float => Attribute::Float(of.f()),
        AttributeType::String => Attribute::Text(text(of.s())?),
        AttributeType::Ints => Attribute::Ints(of.ints.clone()),
        AttributeType::Floats => Attribute::Floats(of.floats.clone()),
        AttributeType::Strings => Attribute::Texts(of.strings.iter().map(|one| text(one)).collect::<Result<_, _>>()?),
        AttributeType::Tensor => {
            let Some(proto) = &of.t else { return Ok(None) };
            Attribute::Tensor(tensor(scope.model.tensor(proto).map_err(unreadable)?)?)
        }
        AttributeType::Graph => {
            let Some(graph) = &of.g else { return Ok(None) };
            Attribute::Graph(scope.within(graph, captured, tally)?)
        }
        // What an optional would hold, were it not empty: values know it themselves.
        AttributeType::TypeProto => return Ok(None),
        other => {
            let what = format!("attribute `{}` of type {}", of.name(), other.as_str_name());
            return Err(ErrorKind::Model(format!("{what} is not supported")).into());
        }
    }))
}
