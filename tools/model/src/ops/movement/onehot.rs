//! Numbers as places: OneHot.

use super::bits::{Bits, moved, tensor};
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Data, Tensor, elements};

/// For each number a line with one value at its place, and another elsewhere.
#[derive(Clone, Copy, Debug)]
struct OneHot {
    axis: i64,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "OneHot" => some(OneHot { axis: definition.int("axis")?.unwrap_or(-1) }),
        _ => Ok(None),
    }
}

/// Whole numbers of any type; floats are cut.
fn whole(tensor: &Tensor) -> Option<Vec<i64>> {
    Some(match tensor.data() {
        Data::F32(x) => x.as_slice().iter().map(|x| *x as i64).collect(),
        Data::F64(x) => x.as_slice().iter().map(|x| *x as i64).collect(),
        Data::F16(x) => x.as_slice().iter().map(|x| x.to_f32() as i64).collect(),
        Data::I64(x) => x.as_slice().to_vec(),
        Data::I32(x) => x.as_slice().iter().map(|x| i64::from(*x)).collect(),
        Data::I16(x) => x.as_slice().iter().map(|x| i64::from(*x)).collect(),
        Data::I8(x) => x.as_slice().iter().map(|x| i64::from(*x)).collect(),
        Data::U64(x) => x.as_slice().iter().map(|x| i64::try_from(*x).unwrap_or(i64::MAX)).collect(),
        Data::U32(x) => x.as_slice().iter().map(|x| i64::from(*x)).collect(),
        Data::U16(x) => x.as_slice().iter().map(|x| i64::from(*x)).collect(),
        Data::U8(x) => x.as_slice().iter().map(|x| i64::from(*x)).collect(),
        Data::Bf16(_) | Data::Bool(_) => return None,
    })
}

impl Operator for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let numbers = |at: usize| -> Result<Vec<i64>, Fault> {
            let tensor = inputs.get(at)?;
            whole(tensor).ok_or_else(|| Fault::dtype(at, tensor, "numbers"))
        };
        let (places, depth) = (numbers(0)?, numbers(1)?);
        let [depth] = depth[..] else {
            return Err(Fault::shape(format!("depth {depth:?}"), "one number"));
        };
        let (shape, values) = (inputs.get(0)?.shape(), inputs.get(2)?);
        if values.len() != 2 {
            return Err(Fault::shape(format!("values of {}", dims(values.shape())), "2"));
        }
        let at = axis(self.axis, shape.len() + 1)?;
        let lines = [&shape[..at], &[super::size(depth)?], &shape[at..]].concat();
        let inner = elements(&shape[at..]).unwrap_or(0);
        let data = moved!(values.data(), x => {
            let mut out = Bits::room(context, &lines)?;
            out.fill(x[0]);
            for (number, place) in places.iter().enumerate() {
                let place = if *place < 0 { place.saturating_add(depth) } else { *place };
                if (0..depth).contains(&place) {
                    let (outer, within) = (number / inner, number % inner);
                    out[(outer * depth as usize + place as usize) * inner + within] = x[1];
                }
            }
            out
        });
        Ok(vec![tensor(lines, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}
