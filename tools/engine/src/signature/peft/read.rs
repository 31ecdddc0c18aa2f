//! The tensors of an adapter, put together and compared with its configuration.

use std::collections::BTreeMap;

use niwaki_codes::Shape;
use niwaki_tensors::{Checkpoint, TensorView, decodes_to_f32, is_float, is_pad};

use super::config::Config;
use super::names::{Part, Role, is_in, role};
use super::{LowRank, quoted, transposed};
use crate::error::{Error, ErrorKind};

/// What an adapter holds.
pub(super) struct Found {
    pub(super) differences: Vec<LowRank>,
    /// The tensor of the base model, and its name in the file.
    pub(super) replaced: Vec<(String, String)>,
}

/// Bytes of the names of modules that expressions are tried on: a bound on the work.
const NAME_BYTES: usize = 1 << 22;

/// Modules whose weights PEFT saves whole where their vocabulary was changed.
const EMBEDDINGS: [&str; 2] = ["embed_tokens", "lm_head"];

/// Unknown tensors that an error names.
const NAMED: usize = 5;

/// Parts of the difference of one module.
type Parts<'a> = BTreeMap<&'static str, TensorView<'a>>;

pub(super) fn read(checkpoint: &Checkpoint, config: &Config) -> Result<Found, Error> {
    let mut whole = config.whole.clone();
    whole.sort();
    let (mut modules, mut replaced, mut unknown) = (BTreeMap::<&str, Parts<'_>>::new(), Vec::new(), Vec::new());
    for view in checkpoint.tensors().filter(|view| !is_pad(view.name())) {
        match role(view.name()) {
            Some(Role::Part(module, part)) => {
                if let Some(first) = modules.entry(module).or_default().insert(part.name(), view) {
                    return Err(wrong(view, format!("`{}` is the same part of the module", first.name())));
                }
            }
            Some(Role::Magnitude) => return Err(dora(view)),
            Some(Role::Whole { tensor, has_difference }) if has_difference || is_known(&tensor, &whole, config) => {
                replaced.push((tensor, view.name().to_owned()));
            }
            Some(Role::Again(name)) if checkpoint.get(&name).is_some() => {}
            _ => unknown.push(view.name()),
        }
    }
    if let Some(list) = listed(&unknown) {
        return Err(ErrorKind::Adapter { why: format!("no adapter has tensors of these names: {list}") }.into());
    }
    replaced.sort();
    if let Some(pair) = replaced.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let why = format!("{} and {} are the same tensor", quoted(&pair[0].1), quoted(&pair[1].1));
        return Err(ErrorKind::Adapter { why }.into());
    }
    if config.has_expressions() && modules.keys().map(|module| module.len()).sum::<usize>() > NAME_BYTES {
        let why = format!("its patterns are expressions, and names of modules take more than {NAME_BYTES} bytes");
        return Err(ErrorKind::Adapter { why }.into());
    }
    let mut differences = Vec::with_capacity(modules.len());
    for (module, parts) in modules {
        differences.push(difference(module, &parts, config)?);
        differences.extend(bias(module, &parts, config)?);
    }
    differences.sort_by(|x, y| x.tensor.cmp(&y.tensor));
    Ok(Found { differences, replaced })
}

/// Whether an adapter of this configuration holds the base model's tensor.
fn is_known(tensor: &str, whole: &[String], config: &Config) -> bool {
    let bias = config.biases && (tensor == "bias" || tensor.ends_with(".bias"));
    let embedding = || {
        let module = tensor.strip_suffix(".weight").unwrap_or_default();
        EMBEDDINGS.contains(&module.rsplit('.').next().unwrap_or_default())
    };
    bias || embedding() || is_in(tensor, whole)
}

/// The first names of a list, and how many more there are; none for an empty one.
fn listed(names: &[&str]) -> Option<String> {
    let first: Vec<String> = names.iter().take(NAMED).map(|name| quoted(name)).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| first.join(", ") + &more)
}

/// The difference of a module's weight.
fn difference(module: &str, parts: &Parts<'_>, config: &Config) -> Result<LowRank, Error> {
    let embedding = [Part::EmbeddingA, Part::EmbeddingB].iter().any(|part| parts.contains_key(part.name()));
    let (a, b) = if embedding { (Part::EmbeddingA, Part::EmbeddingB) } else { (Part::A, Part::B) };
    let (a, b) = (half(module, parts, a)?, half(module, parts, b)?);
    if let Some((_, other)) = parts.iter().find(|(part, _)| embedding != part.starts_with("lora_embedding")) {
        return Err(wrong(*other, format!("`{}` says that the module is an embedding", a.name())));
    }
    let matrix = a.shape().len() == 2;
    if embedding && !matrix {
        return Err(wrong(a, format!("is {}; the factor of an embedding is a matrix", sides(a.shape()))));
    }
    let transposes = embedding || config.transposed && matrix;
    let rank = fitted(a, b, config.rank(module))?;
    let (out, inner) = (b.shape().get(..1).unwrap_or_default(), a.shape().get(1..).unwrap_or_default());
    let dims = if transposes { [inner, out].concat() } else { [out, inner].concat() };
    let shape = Shape::new(&dims).map_err(|e| wrong(a, e.to_string()))?;
    let (b, a) = match (decoded(a)?, decoded(b)?) {
        (a, b) if transposes => (transposed(&a, shape.rows()), transposed(&b, rank)),
        (a, b) => (b, a),
    };
    Ok(LowRank { tensor: format!("{module}.weight"), shape, scaling: config.scaling(module), b, a })
}

/// The difference of a module's bias, where `B` has one: of rank one, in a single column.
fn bias(module: &str, parts: &Parts<'_>, config: &Config) -> Result<Option<LowRank>, Error> {
    let Some(view) = parts.get(Part::Bias.name()) else { return Ok(None) };
    let out = half(module, parts, Part::B)?.shape().first().copied().unwrap_or(0);
    if view.shape() != [out] {
        return Err(wrong(*view, format!("is {}; the module has {out} rows", sides(view.shape()))));
    }
    let shape = Shape::new(&[out]).map_err(|e| wrong(*view, e.to_string()))?;
    let (b, a, scaling) = (decoded(*view)?, vec![1.0], config.scaling(module));
    Ok(Some(LowRank { tensor: format!("{module}.bias"), shape, scaling, b, a }))
}

fn half<'a>(module: &str, parts: &Parts<'a>, part: Part) -> Result<TensorView<'a>, Error> {
    let missing = || {
        let has: Vec<&str> = parts.keys().copied().collect();
        let why = format!("has `{}`, but no `{}`", has.join("`, `"), part.name());
        Error::from(ErrorKind::Adapter { why }).of(module)
    };
    parts.get(part.name()).copied().ok_or_else(missing)
}

/// The rank of two factors that fit each other and have the rank that the configuration says.
fn fitted(a: TensorView<'_>, b: TensorView<'_>, said: u64) -> Result<usize, Error> {
    for view in [a, b] {
        if !(2..=5).contains(&view.shape().len()) || view.elements() == 0 {
            return Err(wrong(view, format!("is {}; a factor has two to five dimensions", sides(view.shape()))));
        }
    }
    let (&[rank, ref inner @ ..], &[out, rank_of_b, ref window @ ..]) = (a.shape(), b.shape()) else {
        return Err(wrong(a, format!("is {}", sides(a.shape()))));
    };
    for (view, has) in [(a, rank), (b, rank_of_b)] {
        if has as u64 != said {
            let why = format!("is {}, of rank {has}; the configuration says rank {said}", sides(view.shape()));
            return Err(wrong(view, why));
        }
    }
    if window.len() + 1 != inner.len() || window.iter().any(|side| *side != 1) {
        let (has, beside) = (sides(b.shape()), sides(a.shape()));
        let needs: Vec<usize> = [out, rank].into_iter().chain(inner.iter().skip(1).map(|_| 1)).collect();
        return Err(wrong(b, format!("is {has}; beside {beside} it is {}", sides(&needs))));
    }
    Ok(rank)
}

/// The elements of a factor.
fn decoded(view: TensorView<'_>) -> Result<Vec<f32>, Error> {
    if !is_float(view.dtype()) || !decodes_to_f32(view.dtype()) {
        return Err(wrong(view, format!("is {}; factors are floats", view.dtype())));
    }
    let mut values = vec![0.0; view.elements()];
    view.decode_f32(0..view.elements(), &mut values)?;
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(values),
        Some(at) => Err(wrong(view, format!("element {at} is NaN or infinite"))),
    }
}

fn dora(view: TensorView<'_>) -> Error {
    Error::from(ErrorKind::Unsupported { what: "an adapter with magnitudes of DoRA".to_owned() }).of(view.name())
}

fn wrong(view: TensorView<'_>, why: String) -> Error {
    Error::from(ErrorKind::Adapter { why }).of(view.name())
}

/// `8x16`
fn sides(shape: &[usize]) -> String {
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    sides.join("x")
}
