//! LoRA adapters: what is read, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::ops::Range;

use niwaki_conformance::adapters::{CONFIG, Factor, WEIGHTS, all, make, open, product, transposed};
use niwaki_conformance::checkpoints::{Tensor, weights, write as write_tensors};
use niwaki_conformance::folder::Folder;
use niwaki_engine::Blame;
use niwaki_engine::signature::peft::{Adapter, LowRank};
use niwaki_tensors::Limits;

/// A tensor of seeded weights.
fn factor(name: &'static str, shape: &'static [usize], seed: u64) -> Factor {
    (name, shape, weights(seed, shape.iter().product()))
}

/// What an adapter is refused with; its folder is shortened to `DIR`.
fn refused(config: &str, tensors: &[Factor]) -> String {
    let folder = make(config, tensors);
    let error = open(&folder).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 600, "{text}");
    text.replace(&*folder.path().to_string_lossy(), "DIR")
}

const PLAIN: &str = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 6}"#;

/// Factors of one linear layer of 4 by 3.
fn linear() -> Vec<Factor> {
    vec![factor("q.lora_A.weight", &[2, 3], 1), factor("q.lora_B.weight", &[4, 2], 2)]
}

#[test]
fn differences_are_products_of_their_factors() {
    let mut seed = 20;
    for (rows, rank, cols) in [(1, 1, 1), (4, 2, 3), (17, 5, 33), (64, 16, 40)] {
        for (transposes, stabilized) in [(false, false), (true, false), (false, true)] {
            let config = format!(
                r#"{{"peft_type": "LORA", "r": {rank}, "lora_alpha": 7.5, "fan_in_fan_out": {transposes},
                    "use_rslora": {stabilized}, "bias": "none", "task_type": null}}"#
            );
            let (a, b) = (weights(seed, rank * cols), weights(seed + 1, rows * rank));
            seed += 2;
            let folder = make(
                &config,
                &[
                    ("m.q.lora_A.default.weight", vec![rank, cols].leak(), a.clone()),
                    ("m.q.lora_B.default.weight", vec![rows, rank].leak(), b.clone()),
                ],
            );
            let adapter = open(&folder).unwrap();
            let [difference] = adapter.differences() else { panic!("{adapter:?}") };
            let scaling = 7.5 / if stabilized { (rank as f64).sqrt() } else { rank as f64 };
            assert_eq!((difference.tensor(), difference.scaling(), difference.rank()), ("m.q.weight", scaling, rank));
            let naive = product(&b, &a, (rows, rank, cols), scaling);
            let (naive, dims) =
                if transposes { (transposed(&naive, cols), [cols, rows]) } else { (naive, [rows, cols]) };
            assert_eq!(difference.shape().dims(), dims);
            for step in [1, 3, rows.max(cols)] {
                assert_eq!(all(difference, step), naive);
            }
            assert_eq!(all(&difference.transposed().unwrap(), 2), transposed(&naive, dims[1]));
        }
    }
}

#[test]
fn convolutions_embeddings_and_biases_have_the_shape_of_their_tensor() {
    let mut tensors = linear();
    tensors.extend([
        factor("conv.lora_A.weight", &[2, 3, 3, 2], 3),
        factor("conv.lora_B.weight", &[5, 2, 1, 1], 4),
        factor("emb.lora_embedding_A", &[2, 9], 5),
        factor("emb.lora_embedding_B", &[4, 2], 6),
        factor("q.lora_B.bias", &[4], 7),
    ]);
    let [.., (_, _, a), (_, _, b), (_, _, ea), (_, _, eb), (_, _, bias)] = &*tensors else { unreachable!() };
    let folder = make(PLAIN, &tensors);
    let adapter = open(&folder).unwrap();
    let found: BTreeMap<&str, &LowRank> = adapter.differences().iter().map(|d| (d.tensor(), d)).collect();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["conv.weight", "emb.weight", "q.bias", "q.weight"]);
    assert_eq!(found["conv.weight"].shape().dims(), [5, 3, 3, 2]);
    assert_eq!(all(found["conv.weight"], 2), product(b, a, (5, 2, 18), 3.0));
    assert_eq!(found["emb.weight"].shape().dims(), [9, 4]);
    assert_eq!(all(found["emb.weight"], 4), transposed(&product(eb, ea, (4, 2, 9), 3.0), 9));
    assert_eq!(found["q.bias"].shape().dims(), [4]);
    assert_eq!(all(found["q.bias"], 3), bias.iter().map(|x| (3.0 * f64::from(*x)) as f32).collect::<Vec<_>>());
    assert!(found["conv.weight"].transposed().is_err());
}

#[test]
fn a_file_opens_like_its_folder() {
    let folder = make(PLAIN, &linear());
    let (whole, file) =
        (open(&folder).unwrap(), Adapter::open(folder.at(WEIGHTS).as_ref(), &Limits::default()).unwrap());
    assert_eq!(all(&whole.differences()[0], 4), all(&file.differences()[0], 4));
    assert!(Adapter::is_at(folder.path()) && Adapter::is_at(folder.at(WEIGHTS).as_ref()));
    assert!(!Adapter::is_at(Folder::new("peft").path()));
}

#[test]
fn patterns_decide_rank_and_scale_of_modules() {
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 6, "base_model_name_or_path": "some/model",
        "rank_pattern": {"^layers.1.q": 3, "q": 1}, "alpha_pattern": {"layers\\.\\d\\.k": 5, "k": 9}}"#;
    let tensors = |module: &'static str, rank: usize| {
        let shapes: [&'static [usize]; 2] = match rank {
            1 => [&[1, 3], &[4, 1]],
            2 => [&[2, 3], &[4, 2]],
            _ => [&[3, 3], &[4, 3]],
        };
        [("lora_A.weight", shapes[0]), ("lora_B.weight", shapes[1])]
            .map(|(end, shape)| (&*format!("{module}.{end}").leak(), shape, weights(3, shape.iter().product())))
    };
    let all = [("layers.0.q", 1), ("layers.1.q", 3), ("layers.1.k", 2), ("k", 2), ("v", 2)];
    let folder = make(config, &all.iter().flat_map(|(module, rank)| tensors(module, *rank)).collect::<Vec<_>>());
    let adapter = open(&folder).unwrap();
    let found: Vec<_> = adapter.differences().iter().map(|d| (d.tensor(), d.rank(), d.scaling())).collect();
    let expected = [
        ("k.weight", 2, 4.5),
        ("layers.0.q.weight", 1, 6.0),
        ("layers.1.k.weight", 2, 2.5),
        ("layers.1.q.weight", 3, 2.0),
        ("v.weight", 2, 3.0),
    ];
    assert_eq!(found, expected);
    assert_eq!(adapter.base_model(), Some("some/model"));
}

#[test]
fn tensors_that_replace_others_are_listed() {
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "all", "modules_to_save": ["score"]}"#;
    let mut tensors = linear();
    tensors.extend([
        factor("model.score.weight", &[2, 2], 7),
        factor("model.score.inner.scale", &[2], 8),
        factor("model.score.inner.modules_to_save.scale", &[2], 8),
        factor("model.score.inner.original_module.scale", &[2], 12),
        factor("q.base_layer.bias", &[4], 9),
        factor("norm.bias", &[2], 10),
        factor("model.embed_tokens.weight", &[3, 2], 11),
    ]);
    let folder = make(config, &tensors);
    let adapter = open(&folder).unwrap();
    let replaced: Vec<_> = adapter.replaced().map(|(tensor, view)| (tensor, view.elements())).collect();
    let expected = [
        ("model.embed_tokens.weight", 6),
        ("model.score.inner.scale", 2),
        ("model.score.weight", 4),
        ("norm.bias", 2),
        ("q.bias", 4),
    ];
    assert_eq!(replaced, expected);
    assert_eq!(adapter.differences().len(), 1);
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let folder = make(PLAIN, &linear());
    let adapter = open(&folder).unwrap();
    let difference = &adapter.differences()[0];
    for (range, len) in [(0..5, 15), (Range { start: 3, end: 2 }, 0), (0..2, 5), (4..5, 3)] {
        let text = difference.rows(range.clone(), &mut vec![0.0; len]).unwrap_err().to_string();
        assert_eq!(text, format!("tensor `q.weight`: rows {range:?} of 4x3 into {len} elements"));
    }
    difference.rows(4..4, &mut []).unwrap();
}

#[test]
fn differences_beyond_floats_are_refused() {
    let mut tensors = linear();
    tensors[0].2 = vec![1e30; 6];
    tensors[1].2 = vec![1e30; 8];
    let folder = make(PLAIN, &tensors);
    let error = open(&folder).unwrap().differences()[0].rows(1..2, &mut [0.0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `q.weight`: adapter: difference 3 is beyond F32");
}

#[test]
fn configurations_that_are_no_lora_are_refused() {
    let long = format!(r#"{{"peft_type": "LORA", "r": "{}"}}"#, "x".repeat(100_000));
    let deep = format!(r#"{{"peft_type": "LORA", "x": {}}}"#, "[".repeat(100_000));
    let cases = [
        ("", "EOF while parsing"),
        ("[1]", "expected struct Text"),
        ("{\"peft_type\": \"LORA\"", "EOF while parsing"),
        ("{}", "adapter: no `peft_type`"),
        (r#"{"peft_type": "LOHA"}"#, "an adapter of `peft_type` `LOHA` is not supported by this version"),
        (r#"{"peft_type": "a\nb"}"#, "`peft_type` `a\\nb`"),
        (r#"{"peft_type": "LORA", "r": -1}"#, "invalid value: integer `-1`"),
        (r#"{"peft_type": "LORA", "r": 2.5}"#, "invalid type: floating point"),
        (r#"{"peft_type": "LORA", "r": 2, "r": 3}"#, "duplicate field `r`"),
        (r#"{"peft_type": "LORA", "lora_alpha": 1e999}"#, "number out of range"),
        (r#"{"peft_type": "LORA", "rank_pattern": [1]}"#, "expected an object"),
        (r#"{"peft_type": "LORA", "rank_pattern": {"(": 1}}"#, "`rank_pattern`: error: unclosed group"),
        (r#"{"peft_type": "LORA", "alpha_pattern": {"q": 1, "q": 2}}"#, "entries 1 and 2 have the same key"),
        (r#"{"peft_type": "LORA", "bias": "some"}"#, "`bias` is `some`; known: none, all, lora_only"),
        (r#"{"peft_type": "LORA", "use_dora": true}"#, "an adapter with `use_dora` is not supported"),
        (r#"{"peft_type": "LORA", "layer_replication": [[0, 2]]}"#, "an adapter with `layer_replication`"),
        (r#"{"peft_type": "LORA", "init_lora_weights": "pissa_niter_4"}"#, "`init_lora_weights` `pissa_niter_4`"),
        (&long, "invalid type: string \\\"xxx"),
        (&deep, "recursion limit"),
    ];
    for (config, expected) in cases {
        let text = refused(config, &linear());
        assert!(text.starts_with("`DIR/adapter_config.json`: ") && text.contains(expected), "{expected}: {text}");
    }
    let fine = r#"{"peft_type": "LORA", "r": 2, "use_dora": false, "layer_replication": null, "unknown": {},
        "alora_invocation_tokens": [], "init_lora_weights": "gaussian", "rank_pattern": null}"#;
    open(&make(fine, &linear())).unwrap();
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let with = |at: usize, shape: &'static [usize]| {
        let mut tensors = linear();
        tensors[at].1 = shape;
        tensors[at].2 = weights(1, shape.iter().product());
        tensors
    };
    let and = |name: &'static str, shape: &'static [usize]| {
        let mut tensors = linear();
        tensors.push((name, shape, weights(1, shape.iter().product())));
        tensors
    };
    let mut nan = linear();
    nan[1].2[5] = f32::NAN;
    let a = "tensor `base_model.model.q.lora_A.weight`: adapter: ";
    let b = "tensor `base_model.model.q.lora_B.weight`: adapter: ";
    let part = |name: &str, why: &str| format!("tensor `base_model.model.{name}`: {why}");
    let unknown = "adapter: no adapter has tensors of these names: ";
    let cases = [
        (with(0, &[3, 3]), format!("{a}is 3x3, of rank 3; the configuration says rank 2")),
        (with(1, &[4, 3]), format!("{b}is 4x3, of rank 3; the configuration says rank 2")),
        (with(0, &[6]), format!("{a}is 6; a factor has two to five dimensions")),
        (with(0, &[2, 0]), format!("{a}is 2x0; a factor has two to five dimensions")),
        (with(1, &[4, 2, 1]), format!("{b}is 4x2x1; beside 2x3 it is 4x2")),
        (with(0, &[2, 3, 1, 1]), format!("{b}is 4x2; beside 2x3x1x1 it is 4x2x1x1")),
        (nan, format!("{b}element 5 is NaN or infinite")),
        (linear()[..1].to_vec(), "tensor `q`: adapter: has `lora_A.weight`, but no `lora_B.weight`".to_owned()),
        (linear()[1..].to_vec(), "tensor `q`: adapter: has `lora_B.weight`, but no `lora_A.weight`".to_owned()),
        (
            and("k.lora_embedding_B", &[4, 2]),
            "tensor `k`: adapter: has `lora_embedding_B`, but no `lora_embedding_A`".to_owned(),
        ),
        (
            and("q.lora_A.x.weight", &[2, 3]),
            part("q.lora_A.x.weight", "adapter: `base_model.model.q.lora_A.weight` is the same part of the module"),
        ),
        (and("q.lora_B.bias", &[3]), part("q.lora_B.bias", "adapter: is 3; the module has 4 rows")),
        (
            and("q.lora_magnitude_vector", &[4]),
            part("q.lora_magnitude_vector", "an adapter with magnitudes of DoRA is not supported by this version"),
        ),
        (and("norm.weight", &[4]), format!("{unknown}`base_model.model.norm.weight`")),
        (and("q.bias", &[4]), format!("{unknown}`base_model.model.q.bias`")),
        (and("q.original_module.bias", &[4]), format!("{unknown}`base_model.model.q.original_module.bias`")),
    ];
    for (tensors, expected) in cases {
        assert_eq!(refused(PLAIN, &tensors), format!("`DIR/adapter_model.safetensors`: {expected}"));
    }
    let huge = r#"{"peft_type": "LORA", "r": 18446744073709551615}"#;
    assert!(refused(huge, &linear()).contains("is 2x3, of rank 2; the configuration says rank 18446744073709551615"));
    assert!(refused(r#"{"peft_type": "LORA", "r": 0}"#, &with(0, &[0, 3])).contains("two to five dimensions"));
}

#[test]
fn unknown_tensors_are_listed_and_counted() {
    let mut tensors = linear();
    let names: Vec<String> = (0..8).map(|at| format!("layers.{at}.norm.weight")).collect();
    tensors.extend(names.into_iter().map(|name| factor(name.leak(), &[1], 3)));
    let text = refused(PLAIN, &tensors);
    assert!(text.ends_with("`base_model.model.layers.4.norm.weight` and 3 more"), "{text}");
}

#[test]
fn files_that_are_not_there_are_named() {
    let folder = Folder::new("peft");
    assert!(open(&folder).unwrap_err().to_string().ends_with("adapter: no `adapter_config.json`"));
    std::fs::write(folder.at(CONFIG), PLAIN).unwrap();
    assert!(
        open(&folder).unwrap_err().to_string().ends_with("no `adapter_model.safetensors` beside `adapter_config.json`")
    );
    std::fs::write(folder.at("adapter_model.bin"), "PK").unwrap();
    let error = open(&folder).unwrap_err();
    assert!(error.to_string().ends_with("an adapter with `adapter_model.bin` only is not supported by this version"));
    assert!(error.hint().is_some_and(|hint| hint.contains("pickles run code")));
    std::fs::write(folder.at(WEIGHTS), "short").unwrap();
    assert_eq!(open(&folder).unwrap_err().blame(), Blame::Input);
    let limits = Limits { index_bytes: 10, ..Limits::default() };
    assert_eq!(Adapter::open(folder.path(), &limits).unwrap_err().blame(), Blame::Limit);
}

#[test]
fn integers_are_no_factors() {
    let folder = Folder::new("peft");
    std::fs::write(folder.at(CONFIG), PLAIN).unwrap();
    let shapes: [(&str, &[usize]); 2] = [("A", &[2, 3]), ("B", &[4, 2])];
    let names = shapes.map(|(half, _)| format!("base_model.model.q.lora_{half}.weight"));
    let stored: Vec<Tensor<'_>> = names
        .iter()
        .zip(shapes)
        .map(|(name, (_, shape))| (name.as_str(), "I32", shape, vec![0; 4 * shape.iter().product::<usize>()]))
        .collect();
    write_tensors(folder.at(WEIGHTS), &stored);
    assert!(open(&folder).unwrap_err().to_string().ends_with("is I32; factors are floats"));
}

#[test]
fn damaged_files_are_refused_or_read_but_never_crash() {
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 6, "rank_pattern": {"^q.*": 2, "k": 3},
        "alpha_pattern": {"q": 4.5}, "modules_to_save": ["score"], "bias": "all"}"#;
    let mut tensors = linear();
    tensors.push(factor("score.weight", &[2, 2], 5));
    let folder = make(config, &tensors);
    let whole = [CONFIG, WEIGHTS].map(|name| std::fs::read(folder.at(name)).unwrap());
    let (mut state, mut read) = (0x2545_F491_4F6C_DD1D_u64, 0);
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    for round in 0..3000 {
        let (name, mut bytes) = ([CONFIG, WEIGHTS][round % 2], whole[round % 2].clone());
        for _ in 0..=next(3) {
            let at = next(bytes.len().max(1));
            match next(4) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = br#"0129-.eE"[]{}(),:*\"#[next(19)],
                2 => bytes.insert(at, b'0' + next(10) as u8),
                _ if next(8) == 0 => bytes.truncate(at.max(1)),
                _ => drop(bytes.remove(at)),
            }
        }
        std::fs::write(folder.at(name), &bytes).unwrap();
        match open(&folder) {
            Ok(adapter) => {
                read += 1;
                for difference in adapter.differences() {
                    let mut out = vec![0.0; difference.shape().cols()];
                    let _ = difference.rows(0..1, &mut out);
                }
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
        std::fs::write(folder.at(name), &whole[round % 2]).unwrap();
    }
    assert!((100..2900).contains(&read), "{read}");
}
