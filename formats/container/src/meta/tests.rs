use niwaki_codes::Shape;
use niwaki_tensors::Dtype;

use super::*;
use crate::parts::Kept;

fn plain(dims: &[usize]) -> TensorMeta {
    let layout = Layout::plain(Dtype::F32, Shape::new(dims).unwrap());
    TensorMeta::new(layout, &[(Part::Whole, Digest::of(b"w"))], None).unwrap()
}

fn coded(scheme: &str, kept: Option<Kept>) -> TensorMeta {
    let layout =
        Layout { dtype: Dtype::BF16, shape: Shape::new(&[4, 6]).unwrap(), scheme: Some(scheme.parse().unwrap()), kept };
    let hash = |spec: &PartSpec| (spec.part, Digest::of(spec.part.suffix().as_bytes()));
    let hashes: Vec<_> = layout.parts().unwrap().iter().map(hash).collect();
    TensorMeta::new(layout, &hashes, Some(Digest::of(b"source"))).unwrap()
}

fn sample() -> Meta {
    let tensors = [
        ("b", plain(&[3])),
        ("e", coded("elastic/g4/2,4", None)),
        ("m", coded("int3/g2/affine", Some(Kept::by_mask(5)))),
        ("n", coded("nvfp4", None)),
        ("w", coded("int4/g4/sym", None)),
    ];
    let mut meta = Meta::new(tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
        .with_recipe("version = 1\n");
    meta.lineage.source = Some(Digest::of(b"s"));
    meta.lineage.parents = vec![Digest::of(b"p")];
    meta.report = json!({"z": 1.5, "a": [1, {"y": 0, "b": null}]});
    meta.source_metadata.insert("format".to_owned(), "pt".to_owned());
    meta
}

#[test]
fn what_a_part_says_is_carried_and_asks_for_version_1_1() {
    let part = json!({"number": 2, "of": 3});
    let meta = Meta { part: Some(part.clone()), ..sample() };
    assert_eq!((sample().version(), meta.version()), ((1, 0), (1, 1)));
    let text = meta.to_json();
    assert!(text.contains("\"part\":{\"number\":2,\"of\":3},\"patches\""), "{text}");
    assert_eq!(parse_meta(text.as_bytes()).unwrap().part, Some(part));
}

#[test]
fn text_goes_there_and_back_and_is_canonical() {
    let text = sample().to_json();
    assert_eq!(parse_meta(text.as_bytes()).unwrap(), sample());
    assert_eq!(canonical(&serde_json::from_str(&text).unwrap()), text);
    assert!(text.starts_with(r#"{"container":[1,0],"digest":""#), "{text}");
    assert!(text.contains(r#""report":{"a":[1,{"b":null,"y":0}],"z":1.5}"#), "{text}");
}

#[test]
fn a_file_says_the_oldest_version_that_has_what_it_uses() {
    let mut meta = sample();
    assert_eq!(meta.version(), (1, 0));
    meta.tensors.insert("p".to_owned(), coded("int3/g2/affine", Some(Kept::by_positions(2))));
    assert_eq!(meta.version(), VERSION);
    let text = meta.to_json();
    assert!(text.starts_with(r#"{"container":[1,1],"digest":""#), "{text}");
    assert_eq!(parse_meta(text.as_bytes()).unwrap(), meta);
}

#[test]
fn a_mask_and_positions_exclude_each_other() {
    let mut meta = sample();
    meta.tensors.insert("p".to_owned(), coded("int3/g2/affine", Some(Kept::by_positions(2))));
    let said = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut value: Value = serde_json::from_str(&meta.to_json()).unwrap();
        change(value["tensors"]["p"].as_object_mut().unwrap());
        parse_meta(canonical(&value).as_bytes()).unwrap_err().to_string()
    };
    let hash = || Value::from(Digest::of(b"").to_string());
    let both = said(&|tensor| drop(tensor["parts"].as_object_mut().unwrap().insert("mask".to_owned(), hash())));
    assert_eq!(both, "tensor `p`: metadata has a part `mask`, which int3/g2/affine has not");
    let neither = said(&|tensor| drop(tensor["parts"].as_object_mut().unwrap().remove("positions")));
    assert_eq!(neither, "tensor `p`: metadata lacks the hash of part `mask`");
    let all_kept = said(&|tensor| drop(tensor.remove("kept")));
    assert_eq!(all_kept, "tensor `p`: metadata has a part `positions`, which int3/g2/affine has not");
    let too_many = said(&|tensor| drop(tensor.insert("kept".to_owned(), json!(25))));
    assert_eq!(too_many, "tensor `p`: keeps 25 of 24 weights");
}

#[test]
fn numbers_of_a_report_keep_every_digit() {
    // Without serde_json's exact reader about one of ten such numbers comes back changed.
    let numbers =
        (1..2000u64).map(|i| f64::from_bits(0x3FE0_0000_0000_0000 ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 2));
    let mut meta = sample();
    meta.report = numbers.map(|x| if x.is_finite() { json!(x) } else { json!(0) }).collect();
    let text = meta.to_json();
    assert!(canonical(&serde_json::from_str(&text).unwrap()) == text);
    assert!(parse_meta(text.as_bytes()).unwrap() == meta);
}

#[test]
fn hashes_that_are_not_those_of_the_parts_are_refused() {
    let layout = Layout::plain(Dtype::F32, Shape::new(&[2]).unwrap());
    let missing = TensorMeta::new(layout, &[], None).unwrap_err();
    assert_eq!(missing.to_string(), "metadata lacks the hash of part ``");
    let stray = TensorMeta::new(layout, &[(Part::Codes, Digest::of(b""))], None).unwrap_err();
    assert_eq!(stray.to_string(), "metadata has a part `codes`, which dense has not");
}

#[test]
fn unknown_keys_of_a_minor_version_are_ignored() {
    let mut value: Value = serde_json::from_str(&sample().to_json()).unwrap();
    value["container"] = json!([1, 7]);
    value["later"] = json!({"a": 1});
    value["tensors"]["w"]["later"] = json!([]);
    assert_eq!(parse_meta(canonical(&value).as_bytes()).unwrap(), sample());
}

/// The message for the sample with the value at `pointer` replaced; removed by null.
fn broken(pointer: &str, new: Value) -> String {
    let mut value: Value = serde_json::from_str(&sample().to_json()).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let object = value.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match new {
        Value::Null => drop(object.remove(key).unwrap()),
        new => drop(object.insert(key.to_owned(), new)),
    }
    parse_meta(canonical(&value).as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_contradiction_is_named() {
    let hash = Digest::of(b"").to_string();
    let cases = [
        ("/container", json!([2, 0]), "container version 2; this niwaki reads 1"),
        ("/container", json!([0, 9]), "container version 0; this niwaki reads 1"),
        ("/digest", json!("12"), "`12` is no digest; one has 64 lower-case hex digits"),
        ("/tensors/w/scheme", json!("int4/g4"), "tensor `w`: scheme `int4/g4` is not known"),
        ("/tensors/w/scheme", json!("int9/g4/sym"), "tensor `w`: scheme `int9/g4/sym` is not known"),
        (
            "/tensors/e/scheme",
            json!("elastic/g64/2,3,4,5,6,7,8"),
            "tensor `e`: scheme `elastic/g64/2,3,4,5,6,7,8` is not known",
        ),
        ("/tensors/w/scheme", json!("int4/g4/affine"), "tensor `w`: metadata lacks the hash of part `zeros`"),
        (
            "/tensors/m/scheme",
            json!("int3/g2/sym"),
            "tensor `m`: metadata has a part `zeros`, which int3/g2/sym has not",
        ),
        ("/tensors/w/scheme", json!("dense"), "tensor `w`: metadata lacks the hash of part ``"),
        ("/tensors/w/kept", json!(3), "tensor `w`: metadata lacks the hash of part `mask`"),
        ("/tensors/w/scheme", json!("nf4/g4/sym"), "tensor `w`: scheme `nf4/g4/sym` is not known"),
        ("/tensors/n/scheme", json!("fp8_e4m3/b0"), "tensor `n`: scheme `fp8_e4m3/b0` is not known"),
        ("/tensors/n/scheme", json!("nf4/g16"), "tensor `n`: metadata has a part `factor`, which nf4/g16 has not"),
        ("/tensors/n/kept", json!(3), "tensor `n`: scheme nvfp4 with a mask has no place in container version 1"),
        ("/tensors/n/parts/factor", Value::Null, "tensor `n`: metadata lacks the hash of part `factor`"),
        ("/tensors/m/kept", Value::Null, "tensor `m`: metadata has a part `mask`, which int3/g2/affine has not"),
        ("/tensors/m/kept", json!(25), "tensor `m`: keeps 25 of 24 weights"),
        ("/tensors/w/dtype", json!("F33"), "tensor `w`: type `F33` is not known"),
        (
            "/tensors/w/dtype",
            json!("I64"),
            "tensor `w`: I64 weights cannot be stored as int4/g4/sym; F64, F32, F16, BF16, F8_E4M3 and F8_E5M2 can",
        ),
        ("/tensors/w/shape", json!([1, 1, 1, 1, 1, 1, 1, 1, 1]), "tensor `w`: 9 dimensions; the limit is 8"),
        ("/tensors/w/shape", json!([u64::MAX, 2]), "tensor `w`: element count does not fit into the address space"),
        ("/tensors/b/shape", json!([u64::MAX / 8]), "tensor `b`: byte count does not fit into the address space"),
        ("/tensors/w/parts/scales", Value::Null, "tensor `w`: metadata lacks the hash of part `scales`"),
        ("/tensors/w/parts/scales", json!("x"), "tensor `w`: `x` is no digest; one has 64 lower-case hex digits"),
        (
            "/tensors/e/parts/plane3",
            json!(hash),
            "tensor `e`: metadata has a part `plane3`, which elastic/g4/2,4 has not",
        ),
        ("/tensors/w/source_digest", json!("y"), "tensor `w`: `y` is no digest; one has 64 lower-case hex digits"),
        ("/lineage/source", json!("z"), "`z` is no digest; one has 64 lower-case hex digits"),
    ];
    for (pointer, new, message) in cases {
        assert_eq!(broken(pointer, new), message, "{pointer}");
    }
}

#[test]
fn json_of_another_form_is_refused() {
    for (pointer, start) in [
        ("/tensors", "metadata `niwaki`: missing field `tensors`"),
        ("/container", "metadata `niwaki`: missing field `container`"),
        ("/lineage", "metadata `niwaki`: missing field `lineage`"),
        ("/tensors/w/parts", "metadata `niwaki`: missing field `parts`"),
    ] {
        let message = broken(pointer, Value::Null);
        assert!(message.starts_with(start), "{message}");
    }
    for text in ["", "[]", "{", "null", "{\"container\":[1,0]}", "{\"container\":\"1\"}", "{\"container\":[1,-1]}"] {
        assert!(matches!(parse_meta(text.as_bytes()).unwrap_err().kind(), ErrorKind::Json(_)), "{text}");
    }
    assert!(parse_meta(&[b'['; 100_000]).is_err());
}

#[test]
fn a_tensor_listed_twice_is_refused() {
    let text = sample().to_json();
    let twice = text.replace(r#""tensors":{"#, &format!(r#""tensors":{{"b":{},"#, plain(&[3]).to_value()));
    let message = parse_meta(twice.as_bytes()).unwrap_err().to_string();
    assert!(message.starts_with("metadata `niwaki`: key `b` stands there twice"), "{message}");
}
