//! What is written is read: every type, every place of data, every way of saving.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use std::fs;

use made::{Scratch, small};
use niwaki_onnx::build::{
    attr_float, attr_floats, attr_graph, attr_int, attr_string, attr_tensor, graph, initializer, model, node,
};
use niwaki_onnx::proto::{SparseTensorProto, TensorProto};
use niwaki_onnx::{
    ALL_DATA_TYPES, Attributes, Bytes, DataType, Limits, Model, SaveOptions, parse_tensor, save, strings, tensor,
};
use prost::Message;

fn replace() -> SaveOptions {
    SaveOptions { overwrite: true, ..SaveOptions::default() }
}

#[test]
fn numbers_and_names_of_types_are_those_of_the_schema() {
    use niwaki_onnx::proto::tensor_proto::DataType as Schema;
    for (index, dtype) in ALL_DATA_TYPES.into_iter().enumerate() {
        assert_eq!(dtype.number(), index as i32 + 1);
        assert_eq!(DataType::from_i32(dtype.number()), Some(dtype));
        match Schema::try_from(dtype.number()) {
            Ok(schema) => assert_eq!(schema.as_str_name(), dtype.name()),
            Err(_) => assert!(matches!(dtype, DataType::Uint2 | DataType::Int2)),
        }
    }
    for number in [i32::MIN, -1, 0, 27, i32::MAX] {
        assert_eq!(DataType::from_i32(number), None);
    }
}

#[test]
fn every_type_comes_back_from_raw_data() {
    let scratch = Scratch::new("raw");
    for dtype in ALL_DATA_TYPES.into_iter().filter(|dtype| *dtype != DataType::String) {
        for dims in [vec![], vec![3], vec![2, 5], vec![0, 7]] {
            let len = dtype.byte_len(dims.iter().product()).unwrap();
            let bytes: Vec<u8> = (1..=len as u8).collect();
            let inside = graph("g", vec![], vec![], vec![], vec![initializer("w", dtype, &dims, bytes.clone())]);
            for external in [None, Some(0)] {
                let path = scratch.path("m.onnx");
                let options = SaveOptions { external, ..replace() };
                save(&model(21, inside.clone()), &path, &options).unwrap();
                let model = Model::open(&path, &Limits::default()).unwrap();
                let read = model.tensor(&model.graph().initializer[0]).unwrap();
                assert_eq!(
                    (read.dtype, &read.dims, &read.bytes[..]),
                    (dtype, &dims, &bytes[..]),
                    "{dtype} {external:?}"
                );
                let in_file = model.file_range(&read).is_some();
                assert_eq!(in_file, external.is_none() && len > 0, "{dtype} {dims:?} {external:?}");
            }
        }
    }
}

/// A tensor of four elements in a typed field, and the bytes it stands for.
fn typed(dtype: DataType) -> (TensorProto, Vec<u8>) {
    let mut proto = TensorProto { data_type: Some(dtype.number()), dims: vec![2, 2], ..TensorProto::default() };
    proto.name = Some("t".to_owned());
    use DataType::*;
    let bytes = match dtype {
        Float | Complex64 => {
            proto.float_data = [1.5, -0.0, 3.0e38, f32::NEG_INFINITY, 1.0, 2.0, 3.0, 4.0].into();
            proto.float_data.truncate(if dtype == Float { 4 } else { 8 });
            proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Double | Complex128 => {
            proto.double_data = [1.5, -0.0, 3.0e300, 5.0, 6.0, 7.0, 8.0, 9.0].into();
            proto.double_data.truncate(if dtype == Double { 4 } else { 8 });
            proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Int64 => {
            proto.int64_data = vec![i64::MIN, -1, 0, i64::MAX];
            proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Uint64 => {
            proto.uint64_data = vec![0, 1, 1 << 63, u64::MAX];
            proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Uint32 => {
            proto.uint64_data = vec![0, 1, 1 << 31, u32::MAX.into()];
            [0u32, 1, 1 << 31, u32::MAX].iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Int32 => {
            proto.int32_data = vec![i32::MIN, -1, 0, i32::MAX];
            proto.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Int16 => {
            proto.int32_data = vec![-32768, -1, 0, 32767];
            [-32768i16, -1, 0, 32767].iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Uint16 | Float16 | Bfloat16 => {
            proto.int32_data = vec![0, 1, 0x8001, 65535];
            [0u16, 1, 0x8001, 65535].iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        Int8 => {
            proto.int32_data = vec![-128, -1, 0, 127];
            vec![0x80, 0xff, 0, 0x7f]
        }
        Bool => {
            proto.int32_data = vec![0, 1, 1, 0];
            vec![0, 1, 1, 0]
        }
        Uint4 | Int4 | Float4E2M1 => {
            proto.int32_data = vec![0xf1, 0x8e];
            vec![0xf1, 0x8e]
        }
        Uint2 | Int2 => {
            proto.int32_data = vec![0b11_01_10_00];
            vec![0b11_01_10_00]
        }
        _ => {
            proto.int32_data = vec![0, 1, 0x80, 255];
            vec![0, 1, 0x80, 255]
        }
    };
    (proto, bytes)
}

#[test]
fn every_type_comes_back_from_its_typed_field() {
    for dtype in ALL_DATA_TYPES.into_iter().filter(|dtype| *dtype != DataType::String) {
        let (proto, bytes) = typed(dtype);
        // There and back through protobuf, as node tests have it.
        let again = parse_tensor(proto.encode_to_vec().into()).unwrap();
        let read = tensor(&again, None).unwrap();
        assert_eq!((read.dtype, read.dims, &read.bytes[..]), (dtype, vec![2, 2], &bytes[..]), "{dtype}");
    }
}

#[test]
fn texts_have_a_reader_of_their_own() {
    let texts = [Bytes::from_static(b"one"), Bytes::new()];
    let mut proto =
        TensorProto { data_type: Some(8), dims: vec![2], string_data: texts.into(), ..TensorProto::default() };
    assert_eq!(strings(&proto).unwrap(), (vec![2], vec!["one".to_owned(), String::new()]));
    assert_eq!(tensor(&proto, None).unwrap_err().to_string(), "tensor ``: holds texts; numbers are expected");
    proto.string_data[0] = Bytes::from_static(b"\xff");
    assert_eq!(strings(&proto).unwrap_err().to_string(), "tensor ``: is not UTF-8");
}

#[test]
fn a_model_comes_back_byte_for_byte() {
    let scratch = Scratch::new("bytes");
    let message = small();
    let path = scratch.path("m.onnx");
    save(&message, &path, &replace()).unwrap();
    let written = fs::read(&path).unwrap();
    // What prost itself would write: fields in the order of their numbers.
    assert_eq!(written, message.encode_to_vec());
    let model = Model::open(&path, &Limits::default()).unwrap();
    assert_eq!(model.proto(), &message);
    assert_eq!((model.opset(""), model.opset("ai.onnx"), model.opset("other")), (Some(17), Some(17), None));
    assert_eq!(model.path(), Some(&*path));
    // Over itself, while it is mapped.
    save(model.proto(), &path, &replace()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), written);
    assert_eq!(scratch.names(), ["m.onnx"]);
}

#[test]
fn odd_fields_are_written_as_they_are() {
    let scratch = Scratch::new("odd");
    let both = |raw: &'static [u8]| TensorProto {
        raw_data: Some(Bytes::from_static(raw)),
        float_data: vec![1.0],
        ..initializer("both", DataType::Float, &[1], vec![])
    };
    let stale = TensorProto {
        external_data: vec![made::entry("location", "old")],
        data_location: Some(0),
        ..initializer("stale", DataType::Uint8, &[1], vec![1])
    };
    let named = |name: &str, proto: TensorProto| TensorProto { name: Some(name.to_owned()), ..proto };
    let weights = vec![both(&[]), named("two", both(&[0; 4])), stale];
    let message = model(17, graph("g", vec![], vec![], vec![], weights));
    let path = scratch.path("m.onnx");
    save(&message, &path, &replace()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), message.encode_to_vec());
    let error = save(&message, &path, &SaveOptions { external: Some(1), ..replace() }).unwrap_err().to_string();
    assert_eq!(error, "tensor `two`: data in `raw_data` and in `float_data`; one of them is expected");
}

#[test]
fn large_initializers_go_outside_and_come_back() {
    let scratch = Scratch::new("external");
    let big: Vec<u8> = (0..1u32 << 16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let mid = vec![7u8; 100];
    let (mut typed, typed_bytes) = typed(DataType::Double);
    typed.name = Some("typed".to_owned());
    let weights = vec![
        initializer("mid", DataType::Uint8, &[100], mid.clone()),
        initializer("tiny", DataType::Uint8, &[3], vec![1, 2, 3]),
        typed,
        initializer("big", DataType::Float, &[256, 256], big.clone()),
    ];
    let message = model(17, graph("g", vec![], vec![], vec![], weights));
    let path = scratch.path("m.onnx");
    save(&message, &path, &SaveOptions { external: Some(32), ..replace() }).unwrap();
    assert_eq!(scratch.names(), ["m.onnx", "m.onnx.data"]);
    let opened = Model::open(&path, &Limits::default()).unwrap();
    let places: Vec<Vec<String>> = opened.graph().initializer.iter().map(|t| made::values(&t.external_data)).collect();
    let at = |offset: &str, len: &str| ["m.onnx.data", offset, len].map(str::to_owned).to_vec();
    assert_eq!(places, [at("0", "100"), vec![], at("128", "32"), at("4096", "262144")]);
    let all: Vec<_> = opened.initializers().map(|i| opened.read(i).unwrap().bytes).collect();
    assert_eq!(all, [&mid[..], &[1, 2, 3], &typed_bytes, &big]);
    let again = scratch.path("again.onnx");
    // Back into one file; without the folder the data is not found.
    let refused = save(opened.proto(), &again, &replace()).unwrap_err().to_string();
    assert_eq!(refused, "tensor `mid`: has external data, and the model is in no folder");
    let folder = Some(scratch.folder.clone());
    save(opened.proto(), &again, &SaveOptions { folder: folder.clone(), ..replace() }).unwrap();
    let inside = Model::open(&again, &Limits::default()).unwrap();
    let names: Vec<_> = inside.initializers().map(|i| inside.file_range(&inside.read(i).unwrap()).is_some()).collect();
    assert_eq!(names, [true; 4]);
    // And outside once more: the same bytes.
    let data = fs::read(scratch.path("m.onnx.data")).unwrap();
    save(opened.proto(), &path, &SaveOptions { external: Some(32), folder, ..replace() }).unwrap();
    assert_eq!(fs::read(scratch.path("m.onnx.data")).unwrap(), data);
}

#[test]
fn sparse_initializers_are_written_out() {
    let sparse = |dtype: DataType, bytes: Vec<u8>, at: &[i64], by: &[usize], dims: &[i64]| {
        let n = by[0];
        let indices = at.iter().flat_map(|i| i.to_le_bytes()).collect::<Vec<u8>>();
        let values = initializer("s", dtype, &[n], bytes);
        let indices = initializer("", DataType::Int64, by, indices);
        let proto = SparseTensorProto { values: Some(values), indices: Some(indices), dims: dims.to_vec() };
        let mut message = small();
        message.graph.as_mut().unwrap().sparse_initializer = vec![proto];
        let model = Model::parse(message.encode_to_vec().into(), &Limits::default()).unwrap();
        let last = model.initializers().last().unwrap();
        assert_eq!(last.name(), "s");
        model.read(last).map(|t| (t.dims, t.bytes.to_vec())).map_err(|e| e.to_string())
    };
    let flat = sparse(DataType::Uint16, vec![1, 0, 2, 0], &[1, 5], &[2], &[2, 3]);
    assert_eq!(flat.unwrap(), (vec![2, 3], vec![0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0]));
    let by_dim = sparse(DataType::Uint8, vec![7, 9], &[0, 2, 1, 0], &[2, 2], &[2, 3]);
    assert_eq!(by_dim.unwrap().1, [0, 0, 7, 9, 0, 0]);
    let packed = sparse(DataType::Uint4, vec![0x65, 0x07], &[1, 2, 4], &[3], &[5]);
    assert_eq!(packed.unwrap().1, [0x50, 0x06, 0x07]);
    let none = sparse(DataType::Uint8, vec![], &[], &[0], &[3]);
    assert_eq!(none.unwrap().1, [0, 0, 0]);
    for (at, by, dims, says) in [
        (&[1, 6][..], &[2][..], &[2i64, 3][..], "position 1 is 6; a place inside the dimensions is expected"),
        (&[-1, 0], &[2], &[2, 3], "position 0 is -1; a place inside the dimensions is expected"),
        (&[3, 3], &[2], &[2, 3], "position 1 is 3; a place after the one before is expected"),
        (&[0, 0, 0, 3], &[2, 2], &[2, 3], "position 1 is 3; a place inside the dimensions is expected"),
        (&[0, 0, 0, 1, 0, 1], &[2, 3], &[2, 3], "positions are INT64 2x3; INT64 2 or 2x2 is expected"),
        (&[0, 1], &[2], &[1 << 40, 1], "1099511627776; the limit is 1073741824 (`Limits::expanded_bytes`)"),
        (&[0, 1], &[2], &[1 << 40, 1 << 40], "UINT8 1099511627776x1099511627776 does not fit into the address space"),
    ] {
        assert_eq!(sparse(DataType::Uint8, vec![1, 2], at, by, dims).unwrap_err(), format!("tensor `s`: {says}"));
    }
}

#[test]
fn attributes_are_asked_for_by_name_and_type() {
    let inner = graph("inner", vec![], vec![], vec![], vec![]);
    let t = initializer("t", DataType::Float, &[], vec![0; 4]);
    let mut all = vec![attr_int("i", 3), attr_float("f", 0.5), attr_string("s", "x"), attr_floats("fs", &[1.0])];
    all.extend([
        attr_tensor("t", t.clone()),
        attr_graph("g", inner.clone()),
        attr_int("twice", 1),
        attr_int("twice", 1),
    ]);
    let mut reference = attr_int("ref", 1);
    reference.ref_attr_name = Some("alpha".to_owned());
    all.push(reference);
    let mut old = attr_int("old", 9);
    old.r#type = None;
    all.push(old);
    let mut made = node("Op", &["x"], &["y"], all);
    let a = Attributes::new(&made);
    assert_eq!((a.int("i").unwrap(), a.int_or("none", 7).unwrap(), a.int("old").unwrap()), (3, 7, 9));
    assert_eq!((a.float("f").unwrap(), a.string("s").unwrap(), a.floats("fs").unwrap()), (0.5, "x".into(), &[1.0][..]));
    assert_eq!((a.tensor("t").unwrap(), a.graph("g").unwrap()), (&t, &inner));
    assert_eq!((a.maybe_tensor("none").unwrap(), a.string_or("none", "d").unwrap()), (None, "d".to_owned()));
    assert!(a.has("twice") && !a.has("none"));
    let says = |error: niwaki_onnx::Error| error.to_string();
    assert_eq!(says(a.int("f").unwrap_err()), "node `y` (Op): attribute `f` is of type FLOAT; INT is expected");
    assert_eq!(says(a.int("twice").unwrap_err()), "node `y` (Op): attribute `twice` stands twice");
    assert_eq!(says(a.graph("none").unwrap_err()), "node `y` (Op): attribute `none` is not there; GRAPH is expected");
    assert_eq!(a.int("ref").unwrap_err().attribute(), Some(("y", "Op", "ref")));
    made.name = None;
    let says = Attributes::new(&made).float("old").unwrap_err().to_string();
    assert_eq!(says, "node without a name (Op): attribute `old` is of type none; FLOAT is expected");
}

#[test]
fn exported_models_are_read_without_copies() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let Ok(files) = fs::read_dir(&folder) else { return println!("skipped: no `../shared/data`") };
    let mut paths: Vec<_> =
        files.map(|file| file.unwrap().path()).filter(|p| p.extension() == Some("onnx".as_ref())).collect();
    paths.sort();
    for path in &paths {
        let model = Model::open(path, &Limits::default()).unwrap();
        let (mut inside, mut numbers) = (0, 0);
        for initializer in model.initializers() {
            let read = model.read(initializer).unwrap();
            numbers += usize::from(!read.bytes.is_empty());
            inside += usize::from(model.file_range(&read).is_some());
        }
        println!("{}: {inside} of {numbers} initializers lie in the map", path.display());
        assert_eq!(inside, numbers, "{}", path.display());
        let scratch = Scratch::new("again");
        let again = scratch.path("again.onnx");
        save(model.proto(), &again, &replace()).unwrap();
        assert!(fs::read(&again).unwrap() == model.bytes()[..], "{} changes when it is written again", path.display());
    }
}
