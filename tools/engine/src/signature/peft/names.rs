//! Names of an adapter's tensors.
//!
//! ```text
//! base_model.model.MODULE.lora_A.weight            rank x in
//! base_model.model.MODULE.lora_B.weight            out x rank; .bias of `lora_bias`
//! base_model.model.MODULE.lora_embedding_A         rank x embeddings
//! base_model.model.MODULE.lora_embedding_B         width x rank
//! ```
//!
//! with the adapter's own name after `lora_A` and its like in files that were not saved by PEFT
//! itself. All others are tensors of the base model; of modules that were trained whole, PEFT
//! saves biases three times, if it saves all biases.

use super::PREFIX;

/// Parts of module names at most; a bound on the work for one name.
pub(super) const DEPTH: usize = 64;

/// What a tensor is of its module's difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    Bias,
}

/// What a tensor's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role<'n> {
    /// A part of a module's difference.
    Part(&'n str, Part),
    /// The magnitudes of DoRA.
    Magnitude,
    /// A tensor of the base model, by its name there; of a layer that also has a difference, or
    /// of any other module.
    Whole { tensor: String, has_difference: bool },
    /// What the file says again, or what was there before training, of the tensor of this name in
    /// the file.
    Again(String),
}

impl Part {
    /// The word for it in names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "lora_A.weight",
            Self::B => "lora_B.weight",
            Self::EmbeddingA => "lora_embedding_A",
            Self::EmbeddingB => "lora_embedding_B",
            Self::Bias => "lora_B.bias",
        }
    }
}

/// What the name says; none where no adapter has it.
pub(super) fn role(name: &str) -> Option<Role<'_>> {
    let path = name.strip_prefix(PREFIX)?;
    if path.split('.').count() > DEPTH {
        return None;
    }
    let mut module = path;
    let mut tail: &str = "";
    while let Some((before, last)) = module.rsplit_once('.') {
        if last == "lora_magnitude_vector" {
            return Some(Role::Magnitude);
        }
        if last.starts_with("lora_") {
            return part(last, tail).map(|part| Role::Part(before, part));
        }
        (module, tail) = (before, &path[before.len() + 1..]);
    }
    for wrapper in [".modules_to_save.", ".original_module."] {
        if let Some((module, leaf)) = name.split_once(wrapper) {
            return Some(Role::Again(format!("{module}.{leaf}")));
        }
    }
    let wrapped = path.rsplit_once(".base_layer.").filter(|(_, leaf)| !leaf.contains('.'));
    Some(match wrapped {
        Some((module, leaf)) => Role::Whole { tensor: format!("{module}.{leaf}"), has_difference: true },
        None => Role::Whole { tensor: path.to_owned(), has_difference: false },
    })
}

/// What stands under `kind`, with `tail` after it.
fn part(kind: &str, tail: &str) -> Option<Part> {
    let (adapter, leaf) = tail.rsplit_once('.').unwrap_or(("", tail));
    match (kind, leaf) {
        _ if adapter.contains('.') => None,
        ("lora_A", "weight") => Some(Part::A),
        ("lora_B", "weight") => Some(Part::B),
        ("lora_B", "bias") => Some(Part::Bias),
        ("lora_embedding_A", _) if adapter.is_empty() => Some(Part::EmbeddingA),
        ("lora_embedding_B", _) if adapter.is_empty() => Some(Part::EmbeddingB),
        _ => None,
    }
}

/// Whether a tensor belongs to a module whose name ends in one of these, sorted.
pub(super) fn is_in(tensor: &str, modules: &[String]) -> bool {
    let begins: Vec<usize> = std::iter::once(0).chain(tensor.match_indices('.').map(|(at, _)| at + 1)).collect();
    let ends = || tensor.match_indices('.').map(|(at, _)| at);
    let listed = |module: &str| modules.binary_search_by(|listed| listed.as_str().cmp(module)).is_ok();
    begins.iter().any(|begin| ends().filter_map(|end| tensor.get(*begin..end)).any(listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_with_and_without_the_adapters_name() {
        for (tail, part) in [
            ("lora_A.weight", Part::A),
            ("lora_B.default.weight", Part::B),
            ("lora_B.bias", Part::Bias),
            ("lora_embedding_A", Part::EmbeddingA),
            ("lora_embedding_B.default", Part::EmbeddingB),
        ] {
            let name = format!("base_model.model.layers.0.q.{tail}");
            assert_eq!(role(&name), Some(Role::Part("layers.0.q", part)), "{name}");
        }
        assert_eq!(role("base_model.model.q.lora_magnitude_vector"), Some(Role::Magnitude));
        assert_eq!(role("base_model.model.q.lora_magnitude_vector.default.weight"), Some(Role::Magnitude));
    }

    #[test]
    fn others_are_tensors_of_the_base_model() {
        let whole = |tensor: &str, has_difference| Some(Role::Whole { tensor: tensor.to_owned(), has_difference });
        assert_eq!(role("base_model.model.score.weight"), whole("score.weight", false));
        assert_eq!(role("base_model.model.q.base_layer.bias"), whole("q.bias", true));
        assert_eq!(role("base_model.model.q.bias"), whole("q.bias", false));
        let again = Some(Role::Again("base_model.model.score.bias".to_owned()));
        assert_eq!(role("base_model.model.score.modules_to_save.bias"), again);
        assert_eq!(role("base_model.model.score.original_module.bias"), again);
    }

    #[test]
    fn other_names_are_none() {
        let deep = format!("base_model.model.{}weight", "a.".repeat(DEPTH));
        for name in [
            "q.lora_A.weight",
            "base_model.model.q.lora_A.bias",
            "base_model.model.q.lora_A.a.b.weight",
            "base_model.model.q.lora_C.weight",
            "base_model.model.q.lora_A",
            "base_model.model.q.lora_embedding_A.a.b",
            &deep,
        ] {
            assert_eq!(role(name), None, "{name}");
        }
    }

    #[test]
    fn modules_are_listed_by_the_end_of_their_name() {
        let modules = ["head.dense".to_owned(), "score".to_owned()];
        for (tensor, listed) in [
            ("score.weight", true),
            ("model.score.weight", true),
            ("model.score.dense.bias", true),
            ("model.head.dense.weight", true),
            ("model.myscore.weight", false),
            ("model.head.weight", false),
            ("score", false),
        ] {
            assert_eq!(is_in(tensor, &modules), listed, "{tensor}");
        }
    }
}
