//! The engine on made-up checkpoints: every kind of scheme, mask, type and shape, end to end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Mask};
use niwaki_conformance::checkpoints::weights;
use niwaki_conformance::compressed::{bytes, compared, open, opened, run};
use niwaki_conformance::folder::Folder;
use niwaki_container::{Artifact, verify};
use niwaki_engine::{Destination, Error, Names, NanPolicy, Options, Plan, Recipe, Tail, compress, export};
use niwaki_tensors::{Dtype, Overwrite, write_file};

/// Writes a checkpoint as plain safetensors.
fn export(from: &str, to: &str) -> Result<u64, Error> {
    let from = opened(from);
    export::safetensors(&from.source(None, Names::Own)?, to.as_ref(), &Options::default())
}

/// Odd shapes of every float type, and tensors that no rule may touch.
fn zoo(path: &Path) {
    let shapes: [(&str, Dtype, &[usize]); 11] = [
        ("a.weight", Dtype::F32, &[96, 130]),
        ("b.weight", Dtype::BF16, &[7, 3, 3, 3]),
        ("c.weight", Dtype::F16, &[33, 64]),
        ("d.weight", Dtype::F64, &[5, 1000]),
        ("e.weight", Dtype::F8_E4M3, &[12, 40]),
        ("long.weight", Dtype::BF16, &[2, 300_001]),
        ("tall.weight", Dtype::F32, &[9000, 3]),
        ("one.weight", Dtype::F32, &[1, 1]),
        ("bias", Dtype::F32, &[130]),
        ("scalar", Dtype::F32, &[]),
        ("none.weight", Dtype::F32, &[0, 16]),
    ];
    let mut data: Vec<_> = shapes
        .iter()
        .enumerate()
        .map(|(i, (_, dtype, shape))| bytes(*dtype, &weights(i as u64 + 1, shape.iter().product())))
        .collect();
    data.push((0..10i64).flat_map(i64::to_le_bytes).collect());
    let mut tensors: Vec<_> = shapes.iter().zip(&data).map(|((n, d, s), b)| (*n, *d, *s, b.as_slice())).collect();
    tensors.push(("ids", Dtype::I64, &[2, 5], data.last().unwrap()));
    write_file(path, &tensors, &[("format", "pt")], Overwrite::Replace).unwrap();
}

fn recipe(rules: &str) -> String {
    format!("version = 1\n{rules}")
}

fn quantize(scheme: &str, fit: &str) -> String {
    recipe(&format!("[[quantize]]\ntensors = \"*\"\nscheme = \"{scheme}\"\nfit = \"{fit}\"\n"))
}

const MASK: &str = "[[mask]]\ntensors = \"*\"\npattern = { keep = 0.3 }\n";
const FEW: &str = "[[mask]]\ntensors = \"*\"\npattern = { keep = 0.01 }\n";
const TWO_OF_FOUR: &str = "[[mask]]\ntensors = \"*\"\npattern = { n = 2, m = 4 }\n";

/// Least dB over the original, by scheme.
fn floor(scheme: &str) -> f64 {
    match scheme {
        "int8/tensor/affine" | "int8/row/sym" | "elastic/g64" => 30.0,
        "int2/g16/sym/f32" => 0.5,
        "int3/g60/affine" => 7.0,
        _ => 12.0,
    }
}

#[test]
fn every_scheme_fit_and_mask_verifies_and_decodes_near_the_source() {
    let folder = Folder::new("schemes");
    let (source, out) = (folder.at("zoo.safetensors"), folder.at("out.safetensors"));
    zoo(source.as_ref());
    let schemes = [
        "int4/g32/sym",
        "int3/g60/affine",
        "int8/row/sym",
        "int4/row/affine",
        "int8/tensor/affine",
        "int2/g16/sym/f32",
        "elastic/g64",
        "elastic/g20/2,4",
    ];
    for scheme in schemes {
        for mask in ["", MASK, TWO_OF_FOUR, FEW] {
            let fit = if mask.is_empty() { "clip" } else { "min_max" };
            let text = quantize(scheme, fit) + mask;
            let report = run(&source, &text, &out, 2).unwrap_or_else(|e| panic!("{scheme} {mask}: {e}"));
            let artifact = open(&out);
            let verified = verify(&artifact, 2);
            assert!(verified.faults.is_empty(), "{scheme} {mask}: {:?}", verified.faults);
            let compared = compared(&source, &out, None);
            for (t, r) in compared.tensors.iter().zip(&report.tensors) {
                let untouched = ["ids", "none.weight"].contains(&t.name.as_str());
                assert_eq!(untouched, r.fate == "keep", "{scheme} {}", t.name);
                if untouched {
                    assert_eq!((t.sqnr_db, t.max_abs), (None, 0.0));
                } else if mask.is_empty() {
                    let db = t.sqnr_db.unwrap_or(f64::INFINITY);
                    assert!(db > floor(scheme), "{scheme} {}: {db} dB", t.name);
                    let says = r.sqnr_db.unwrap_or(f64::INFINITY);
                    assert!(
                        db == says || (db - says).abs() < 0.01,
                        "{scheme} {}: {db} measured, {says} reported",
                        t.name
                    );
                } else {
                    // 2:4 keeps two of the three weights that such a row has.
                    let elements: usize = r.shape.iter().product();
                    assert!(t.zeros.1 >= (elements as f64 * 0.33) as u64, "{scheme} {}: {:?}", t.name, t.zeros);
                }
            }
        }
    }
}

#[test]
fn a_mask_alone_keeps_the_largest_weights_exactly() {
    let folder = Folder::new("sparse");
    let (source, out, back) =
        (folder.at("zoo.safetensors"), folder.at("out.safetensors"), folder.at("back.safetensors"));
    zoo(source.as_ref());
    run(&source, &recipe(MASK), &out, 2).unwrap();
    export(&out, &back).unwrap();
    let (before, after) = (open(&source), open(&back));
    for name in ["a.weight", "b.weight", "d.weight", "long.weight", "bias"] {
        let read = |a: &Artifact| {
            let t = a.get(name).unwrap();
            let (rows, cols) = t.matrix();
            let mut out = vec![0.0; rows * cols];
            t.dequantize_rows(Level::best(), None, 0..rows, &mut out).unwrap();
            out
        };
        let (x, y) = (read(&before), read(&after));
        let mut sizes: Vec<f32> = x.iter().map(|w| w.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let kept = (x.len() as f64 * 0.3).round().max(1.0) as usize;
        let least = sizes[x.len() - kept];
        assert_eq!(y.iter().filter(|w| **w != 0.0).count(), kept, "{name}");
        assert!(x.iter().zip(&y).all(|(x, y)| *y == 0.0 && x.abs() <= least || y == x && x.abs() >= least), "{name}");
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_the_run() {
    let folder = Folder::new("threads");
    let source = folder.at("zoo.safetensors");
    zoo(source.as_ref());
    let text = recipe(
        "[[quantize]]\ntensors = \"{a,c,long}.weight\"\nscheme = \"int4/g32/affine\"\nfit = \"lsq\"\n\
         [[quantize]]\ntensors = \"{b,d}.weight\"\nscheme = \"int8/tensor/sym\"\nfit = \"clip\"\n\
         [[elastic]]\ntensors = \"{tall,e}.weight\"\n[[mask]]\ntensors = \"{a,tall,d}.weight\"\npattern = { keep = 0.5 }\n",
    );
    let mut first = None;
    for (run_index, threads) in [1, 2, 8, 2].into_iter().enumerate() {
        let out = folder.at(&format!("out{run_index}.safetensors"));
        run(&source, &text, &out, threads).unwrap();
        let bytes = std::fs::read(&out).unwrap();
        assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{threads} threads");
    }
}

#[test]
fn a_given_mask_is_obeyed() {
    let folder = Folder::new("given");
    let (source, out, file) =
        (folder.at("zoo.safetensors"), folder.at("out.safetensors"), folder.at("mask.safetensors"));
    zoo(source.as_ref());
    let mask = Mask::from_fn(96, 130, |row, col| (row + col) % 3 == 0).unwrap();
    let entry = ("a.weight.mask", Dtype::U8, &[96usize, 17][..], mask.bytes());
    write_file(file.as_ref(), &[entry], &[], Overwrite::Replace).unwrap();
    let rule = format!(
        "[[mask]]\ntensors = \"a.weight\"\npattern = {{ file = {:?} }}\n[[quantize]]\ntensors = \"a.weight\"\nscheme = \"int8/row/sym\"\n",
        file
    );
    run(&source, &recipe(&rule), &out, 2).unwrap();
    let artifact = open(&out);
    let mut weights = vec![0.0; 96 * 130];
    artifact.get("a.weight").unwrap().dequantize_rows(Level::best(), None, 0..96, &mut weights).unwrap();
    let dropped = weights.iter().enumerate().filter(|(i, _)| (i / 130 + i % 130) % 3 != 0);
    assert!(dropped.clone().count() > 8000 && dropped.into_iter().all(|(_, w)| w.to_bits() == 0));
}

#[test]
fn elastic_widths_are_those_that_were_asked_for_and_lose_less_when_wider() {
    let folder = Folder::new("widths");
    let (source, out) = (folder.at("zoo.safetensors"), folder.at("out.safetensors"));
    zoo(source.as_ref());
    let report = run(&source, &recipe("[[elastic]]\ntensors = \"a.weight\"\n"), &out, 2).unwrap();
    let widths: Vec<f64> = report.tensors[0].widths.values().copied().collect();
    assert_eq!(widths.len(), 7);
    assert!(widths.windows(2).all(|w| w[0] + 4.0 < w[1]), "{widths:?}");
    for (bits, says) in (2..=8).zip(widths) {
        let bits = Some(Bits::new(bits).unwrap());
        let compared = compared(&source, &out, bits);
        assert!((compared.tensors[0].sqnr_db.unwrap() - says).abs() < 0.01);
    }
}

#[test]
fn a_nan_is_named_or_its_tensor_is_carried() {
    let folder = Folder::new("nan");
    let (source, out) = (folder.at("nan.safetensors"), folder.at("out.safetensors"));
    let mut values = weights(1, 4000);
    values[3210] = f32::NAN;
    values[3500] = f32::INFINITY;
    let data = bytes(Dtype::F32, &values);
    write_file(source.as_ref(), &[("w", Dtype::F32, &[40, 100], &data)], &[], Overwrite::Replace).unwrap();
    for scheme in ["int4/g32/sym", "int8/row/affine", "int8/tensor/sym", "elastic/g64"] {
        for mask in ["", MASK] {
            let error = run(&source, &(quantize(scheme, "min_max") + mask), &out, 2).unwrap_err();
            let expected = "tensor `w`: weight 3210 is NaN or infinite; codes hold finite weights only";
            assert_eq!(error.to_string(), expected, "{scheme} {mask}");
            assert_eq!(error.hint(), Some("`--nan keep` carries such tensors as they are"));
            assert_eq!(folder.names(), ["nan.safetensors"], "nothing is left behind");
        }
    }
    let checkpoint = opened(&source);
    let checkpoint = checkpoint.source(None, Names::Own).unwrap();
    let mut plan = Plan::new(
        &checkpoint,
        Recipe::parse(&quantize("int4/g32/sym", "min_max")).unwrap(),
        Tail::Short,
        Destination::default(),
    )
    .unwrap();
    let options = Options { nan: NanPolicy::Keep, ..Options::default() };
    let report = compress(&checkpoint, &mut plan, out.as_ref(), &options, &|_, _| {}).unwrap();
    assert_eq!(
        (report.tensors[0].fate, plan.tensors[0].note.as_deref()),
        ("keep", Some("weight 3210 is NaN or infinite"))
    );
}

#[test]
fn a_given_mask_may_drop_a_nan_but_not_keep_one() {
    let folder = Folder::new("nan-mask");
    let (source, out, file) =
        (folder.at("nan.safetensors"), folder.at("out.safetensors"), folder.at("mask.safetensors"));
    let mut values = weights(1, 4000);
    values[3210] = f32::NAN;
    let data = bytes(Dtype::F32, &values);
    write_file(source.as_ref(), &[("w", Dtype::F32, &[40, 100], &data)], &[], Overwrite::Replace).unwrap();
    for (even, fails) in [(true, true), (false, false)] {
        let mask = Mask::from_fn(40, 100, |_, col| col.is_multiple_of(2) == even).unwrap();
        let entry = ("w.mask", Dtype::U8, &[40usize, 13][..], mask.bytes());
        write_file(file.as_ref(), &[entry], &[], Overwrite::Replace).unwrap();
        let rule = format!("[[mask]]\ntensors = \"w\"\npattern = {{ file = {file:?} }}\n");
        for scheme in ["int4/g32/sym", "int8/row/affine", "int8/tensor/sym", "elastic/g64"] {
            match run(&source, &(quantize(scheme, "min_max") + &rule), &out, 2) {
                Ok(_) => assert!(!fails, "{scheme}"),
                Err(error) => {
                    assert!(
                        fails && error.to_string().starts_with("tensor `w`: weight 3210 is NaN"),
                        "{scheme}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn rules_that_cannot_act_are_errors() {
    let folder = Folder::new("rules");
    let (source, out) = (folder.at("zoo.safetensors"), folder.at("out.safetensors"));
    zoo(source.as_ref());
    let cases = [
        ("[[keep]]\ntensors = \"nothing.*\"\n", "keep `nothing.*` matches no tensor that it can act on"),
        (
            "[[quantize]]\ntensors = \"ids\"\nscheme = \"int4/row/sym\"\n",
            "quantize `ids` int4/row/sym matches no tensor that it can act on",
        ),
        (
            "[[keep]]\ntensors = \"{a\"\n",
            "glob `{a`: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        ("only = [\"zzz\"]\n", "only `zzz` matches no tensor that it can act on"),
    ];
    for (rules, expected) in cases {
        assert_eq!(run(&source, &recipe(rules), &out, 1).unwrap_err().to_string(), expected);
    }
    let checkpoint = opened(&source);
    let checkpoint = checkpoint.source(None, Names::Own).unwrap();
    let strict = Plan::new(
        &checkpoint,
        Recipe::parse(&quantize("int4/g32/sym", "min_max")).unwrap(),
        Tail::Refuse,
        Destination::default(),
    );
    assert_eq!(strict.unwrap_err().to_string(), "tensor `a.weight`: group 32 does not divide the row of 130 weights");
}

#[test]
fn the_last_rule_wins_and_the_plan_names_those_it_shadowed() {
    let folder = Folder::new("shadow");
    let source = folder.at("zoo.safetensors");
    zoo(source.as_ref());
    let checkpoint = opened(&source);
    let checkpoint = checkpoint.source(None, Names::Own).unwrap();
    let text = recipe(
        "[[quantize]]\ntensors = \"*.weight\"\nscheme = \"int4/g32/sym\"\n[[keep]]\ntensors = \"c.*\"\n\
         [[quantize]]\ntensors = \"a.*\"\nscheme = \"int8/row/sym\"\n",
    );
    let plan = Plan::new(&checkpoint, Recipe::parse(&text).unwrap(), Tail::Short, Destination::default()).unwrap();
    let of = |name: &str| plan.tensors.iter().find(|t| t.name == name).unwrap();
    assert_eq!(of("a.weight").rule.as_deref(), Some("quantize `a.*` int8/row/sym"));
    assert_eq!(of("a.weight").shadowed, ["quantize `*.weight` int4/g32/sym"]);
    assert_eq!((of("c.weight").fate(), of("bias").fate()), ("keep", "keep"));
    assert_eq!((of("bias").rule.clone(), of("ids").note.clone()), (None, None));
}

#[test]
fn a_memory_cap_that_one_thread_cannot_keep_is_an_error() {
    let folder = Folder::new("memory");
    let (source, out) = (folder.at("zoo.safetensors"), folder.at("out.safetensors"));
    zoo(source.as_ref());
    let checkpoint = opened(&source);
    let checkpoint = checkpoint.source(None, Names::Own).unwrap();
    let plan = || {
        Plan::new(
            &checkpoint,
            Recipe::parse(&quantize("int4/g32/sym", "min_max")).unwrap(),
            Tail::Short,
            Destination::default(),
        )
        .unwrap()
    };
    let capped = |memory| Options { memory: Some(memory), replace: true, ..Options::default() };
    let error = compress(&checkpoint, &mut plan(), out.as_ref(), &capped(1000), &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("private memory; the cap is 1000"), "{error}");
    compress(&checkpoint, &mut plan(), out.as_ref(), &capped(8 << 20), &|_, _| {}).unwrap();
}

#[test]
fn a_folder_stays_a_folder_with_its_other_files() {
    let folder = Folder::new("folders");
    let at = |name: &str| folder.at(name);
    std::fs::create_dir(at("source")).unwrap();
    zoo(at("source/model.safetensors").as_ref());
    std::fs::write(at("source/config.json"), "{}").unwrap();
    run(&at("source"), &recipe("[[elastic]]\ntensors = \"*.weight\"\n"), &at("small"), 2).unwrap();
    let three = Bits::new(3).unwrap();
    let small = opened(&at("small"));
    let source = small.source(None, Names::Own).unwrap();
    export::slice(&source, three, at("three").as_ref(), &Options::default()).unwrap();
    export(&at("three"), &at("plain")).unwrap();
    for out in ["small", "three", "plain"] {
        let names = ["config.json", "model.safetensors"];
        let mut found: Vec<_> = std::fs::read_dir(at(out)).unwrap().map(|e| e.unwrap().file_name()).collect();
        found.sort();
        assert_eq!(found, names, "{out}");
    }
    assert!(verify(&open(&at("three")), 1).faults.is_empty());
    let error = export(&at("three"), &at("plain")).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}`: exists", at("plain")));
    let sparse = run(&at("source"), "version = 1\n[[keep]]\ntensors = \"gone\"\n", &at("new"), 1).unwrap_err();
    assert!(sparse.to_string().starts_with("keep `gone`") && !std::fs::exists(at("new")).unwrap());
}
