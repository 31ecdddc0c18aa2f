//! Random numbers: RandomNormal, RandomUniform, the same like another tensor, Bernoulli.
//!
//! They depend on the attribute `seed` and the place alone, so that a model gives the same each time;
//! where there is no seed, it is 0. Other runtimes give other numbers.

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::element_type::dtype;
use crate::ops::signal::elements;
use crate::ops::{Built, some};
use crate::tensor::{Buffer, Data, Dtype, Tensor};

/// Numbers of one distribution.
#[derive(Clone, Debug)]
struct Random {
    name: &'static str,
    /// Mean and deviation, or the least and the greatest.
    of: Distribution,
    seed: u64,
    dtype: Option<Dtype>,
    /// None where it is that of an input.
    shape: Option<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
enum Distribution {
    Normal { mean: f64, deviation: f64 },
    Uniform { low: f64, high: f64 },
}

/// 1 as often as the input says, else 0.
#[derive(Clone, Copy, Debug)]
struct Bernoulli {
    seed: u64,
    dtype: Option<Dtype>,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let (name, normal, like) = match definition.op.as_str() {
        "RandomNormal" => ("RandomNormal", true, false),
        "RandomNormalLike" => ("RandomNormalLike", true, true),
        "RandomUniform" => ("RandomUniform", false, false),
        "RandomUniformLike" => ("RandomUniformLike", false, true),
        "Bernoulli" => ("Bernoulli", false, true),
        _ => return Ok(None),
    };
    let seed = u64::from(definition.float("seed")?.unwrap_or(0.0).to_bits());
    let dtype = definition.int("dtype")?.map(dtype).transpose()?;
    if name == "Bernoulli" {
        return some(Bernoulli { seed, dtype });
    }
    let number = |name: &str, default: f64| Ok(definition.float(name)?.map_or(default, f64::from));
    let of = match normal {
        true => Distribution::Normal { mean: number("mean", 0.0)?, deviation: number("scale", 1.0)? },
        false => Distribution::Uniform { low: number("low", 0.0)?, high: number("high", 1.0)? },
    };
    let shape = if like { None } else { definition.sizes("shape")? };
    if !like && shape.is_none() {
        return Err(Fault::shape("no attribute `shape`", "one"));
    }
    some(Random { name, of, seed, dtype, shape })
}

/// A number from 0 to 1, without 1, for each seed and place (SplitMix64).
fn uniform(seed: u64, at: u64) -> f64 {
    let mut x = (seed ^ 0x5DEE_CE66_D1CE_4E5B).wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Distribution {
    fn number(self, seed: u64, at: u64) -> f64 {
        match self {
            Self::Uniform { low, high } => low + (high - low) * uniform(seed, at),
            Self::Normal { mean, deviation } => {
                // Box and Muller; the first is never 0.
                let (a, b) = (1.0 - uniform(seed, 2 * at), uniform(seed, 2 * at + 1));
                mean + deviation * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
            }
        }
    }
}

impl Operator for Random {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (shape, dtype) = match &self.shape {
            Some(shape) => (shape.clone(), Dtype::F32),
            None => (inputs.get(0)?.shape().to_vec(), inputs.get(0)?.dtype()),
        };
        let len = context.len::<f64>(&shape)?;
        let all: Vec<f64> = (0..len as u64).map(|at| self.of.number(self.seed, at)).collect();
        let data = elements(self.dtype.unwrap_or(dtype), &all)?;
        Ok(vec![Tensor::new(shape, data).ok_or(Fault::Missing { input: 0 })?])
    }
}

impl Operator for Bernoulli {
    fn name(&self) -> &'static str {
        "Bernoulli"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.get(0)?;
        let often: Vec<f64> = match input.data() {
            Data::F32(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
            Data::F64(x) => x.as_slice().to_vec(),
            Data::F16(x) => x.as_slice().iter().map(|x| x.to_f64()).collect(),
            Data::Bf16(x) => x.as_slice().iter().map(|x| x.to_f64()).collect(),
            _ => return Err(Fault::dtype(0, input, "floats")),
        };
        let hits = (0..).zip(&often).map(|(at, often)| uniform(self.seed, at) < *often);
        let data = match self.dtype.unwrap_or(input.dtype()) {
            Dtype::BOOL => Data::Bool(Buffer::from(hits.map(u8::from).collect::<Vec<_>>())),
            dtype => elements(dtype, &hits.map(|hit| if hit { 1.0 } else { 0.0 }).collect::<Vec<_>>())?,
        };
        Ok(vec![Tensor::new(input.shape().to_vec(), data).ok_or(Fault::Missing { input: 0 })?])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use crate::attributes::Attribute;
    use crate::ops::trial::{definition, run, tensor};

    #[test]
    fn numbers_are_those_of_their_seed() {
        let of = |op: &str, seed: f32| {
            let shape = ("shape", Attribute::Ints(vec![10_000]));
            let made = run(&definition(op, &[shape, ("seed", Attribute::Float(seed))]), &[]).unwrap();
            made[0].get::<f32>().unwrap().to_vec()
        };
        assert_eq!(of("RandomNormal", 1.0), of("RandomNormal", 1.0));
        assert_ne!(of("RandomNormal", 1.0), of("RandomNormal", 2.0));
        let normal = of("RandomNormal", 3.0);
        let mean = normal.iter().map(|x| f64::from(*x)).sum::<f64>() / 1e4;
        let square = normal.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.05 && (square - 1.0).abs() < 0.06, "{mean} {square}");
        let even = of("RandomUniform", 3.0);
        assert!(even.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = even.iter().map(|x| f64::from(*x)).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }

    #[test]
    fn ones_are_as_often_as_asked() {
        let often = [[0.0f32; 1000], [1.0; 1000], [0.25; 1000]].concat();
        let made = run(&definition("Bernoulli", &[]), &[Some(tensor(&[3, 1000], &often))]).unwrap();
        let sums: Vec<f32> = made[0].get::<f32>().unwrap().chunks(1000).map(|x| x.iter().sum()).collect();
        assert!(sums[0] == 0.0 && sums[1] == 1000.0 && (sums[2] - 250.0).abs() < 50.0, "{sums:?}");
    }
}
