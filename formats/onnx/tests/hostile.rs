//! Damaged and hostile models: one line that names tensor, found and expected; never a panic.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use std::fs;

use made::{Scratch, entry, small};
use niwaki_onnx::build::{graph, initializer, model};
use niwaki_onnx::proto::{ModelProto, TensorProto, tensor_proto};
use niwaki_onnx::{Attributes, Blame, DataType, Limits, Model, SaveOptions, save, strings, tensor};
use prost::Message;

fn refused(message: &ModelProto) -> String {
    Model::parse(message.encode_to_vec().into(), &Limits::default()).unwrap_err().to_string()
}

#[test]
fn models_that_are_none() {
    let mut message = small();
    message.graph = None;
    assert_eq!(refused(&message), "the model has no graph");
    let mut message = small();
    message.opset_import.clear();
    assert_eq!(refused(&message), "the model imports no operator set; at least one is expected");
    let mut message = small();
    let weights = &mut message.graph.as_mut().unwrap().initializer;
    weights[1].name = Some("w".to_owned());
    assert_eq!(refused(&message), "two initializers are called `w`");
    let weights = &mut message.graph.as_mut().unwrap().initializer;
    weights[1].name = None;
    assert_eq!(refused(&message), "initializer 1 has no name");
    let bytes = small().encode_to_vec();
    let limits = Limits { file_bytes: 10, ..Limits::default() };
    let error = Model::parse(bytes.clone().into(), &limits).unwrap_err();
    assert_eq!(error.blame(), Blame::Limit);
    assert_eq!(error.to_string(), format!("{}; the limit is 10 (`Limits::file_bytes`)", bytes.len()));
    // Newer versions are read where they can be.
    let mut newer = small();
    newer.ir_version = Some(99);
    assert!(Model::parse(newer.encode_to_vec().into(), &Limits::default()).is_ok());
    let mut cut = newer.encode_to_vec();
    cut.truncate(cut.len() - 1);
    let error = Model::parse(cut.into(), &Limits::default()).unwrap_err().to_string();
    assert!(error.starts_with("IR version 99 is not read; 12 is the newest one known: "), "{error}");
}

#[test]
fn files_that_are_no_models() {
    let scratch = Scratch::new("files");
    let open = |name: &str| Model::open(&scratch.path(name), &Limits::default()).unwrap_err();
    let said = |name: &str| open(name).to_string().replace(&*scratch.folder.to_string_lossy(), "");
    assert_eq!(said("none.onnx"), "`/none.onnx`: cannot be opened: entity not found");
    assert_eq!(open("none.onnx").blame(), Blame::Io);
    fs::create_dir(scratch.path("folder.onnx")).unwrap();
    assert_eq!(said("folder.onnx"), "`/folder.onnx`: is not a file; an ONNX model is expected");
    fs::write(scratch.path("empty.onnx"), "").unwrap();
    assert_eq!(said("empty.onnx"), "`/empty.onnx`: the model has no graph");
    fs::write(scratch.path("text.onnx"), "\x7fELF and so on").unwrap();
    assert!(said("text.onnx").starts_with("`/text.onnx`: not an ONNX file (`ModelProto`): "), "{}", said("text.onnx"));
}

#[test]
fn graphs_in_graphs_end_somewhere() {
    // Fields by hand: an attribute's graph (6) in a node's attribute (5) in a graph's node (1).
    let field = |tag: u8, body: Vec<u8>| {
        let mut len = body.len();
        let mut out = vec![tag << 3 | 2];
        while len > 0x7f {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend(body);
        out
    };
    let nested = |depth: usize| {
        let inner = (0..depth).fold(Vec::new(), |inner, _| field(1, field(5, field(6, inner))));
        let mut bytes = vec![8, 8];
        bytes.extend(field(7, inner));
        bytes.extend(field(8, vec![16, 17]));
        Model::parse(bytes.into(), &Limits::default())
    };
    assert!(nested(30).is_ok());
    let error = nested(40).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
    assert!(nested(20_000).is_err());
}

type Change = fn(&mut TensorProto);

#[test]
fn tensors_that_do_not_fit() {
    let cases: &[(Change, &str)] = &[
        (|t| t.dims = vec![2, 3], "FLOAT 2x3 needs 24 bytes, has 16"),
        (|t| t.dims = vec![], "FLOAT scalar needs 4 bytes, has 16"),
        (|t| t.dims = vec![0, 4], "FLOAT 0x4 needs 0 bytes, has 16"),
        (|t| t.dims = vec![-2, 2], "negative dimension in -2x2"),
        (|t| t.dims = vec![1 << 40, 1 << 40], "FLOAT 1099511627776x1099511627776 does not fit into the address space"),
        (|t| t.dims = vec![i64::MAX], "FLOAT 9223372036854775807 does not fit into the address space"),
        (|t| t.dims = vec![1; 33], "33; the limit is 32 (`Limits::dims`)"),
        (|t| t.data_type = Some(0), "data type 0 is unknown; 1 to 26 are known"),
        (|t| t.data_type = Some(-7), "data type -7 is unknown; 1 to 26 are known"),
        (|t| t.data_type = Some(99), "data type 99 is unknown; 1 to 26 are known"),
        (|t| t.data_type = Some(22), "INT4 2x2 needs 2 bytes, has 16"),
        (|t| t.data_type = Some(8), "holds texts; numbers are expected"),
        (|t| t.segment = Some(tensor_proto::Segment::default()), "is a segment of a tensor; a whole one is expected"),
        (|t| t.data_location = Some(2), "data location 2 is unknown; 0 and 1 are known"),
        (|t| t.float_data = vec![1.0], "data in `raw_data` and in `float_data`; one of them is expected"),
        (|t| t.raw_data = None, "FLOAT 2x2 needs 16 bytes, has 0"),
        (|t| (t.raw_data, t.float_data) = (None, vec![1.0; 3]), "FLOAT 2x2 needs 4 values in `float_data`, has 3"),
        (
            |t| (t.raw_data, t.int64_data) = (None, vec![1; 4]),
            "values of FLOAT stand in `int64_data`; `float_data` or `raw_data` is expected",
        ),
        (
            |t| (t.raw_data, t.int32_data, t.data_type) = (None, vec![1, 2, -129, 3], Some(3)),
            "value 2 is -129, which INT8 cannot hold",
        ),
        (
            |t| (t.raw_data, t.int32_data, t.data_type) = (None, vec![0, 2, 0, 0], Some(9)),
            "value 1 is 2, which BOOL cannot hold",
        ),
        (
            |t| (t.raw_data, t.uint64_data, t.data_type) = (None, vec![0, 0, 0, 1 << 32], Some(12)),
            "value 3 is 4294967296, which UINT32 cannot hold",
        ),
        (
            |t| (t.raw_data, t.int32_data, t.data_type) = (None, vec![1, 2, 3, 4], Some(21)),
            "UINT4 2x2 needs 2 values in `int32_data`, has 4",
        ),
        (|t| t.name = Some("line\nend".to_owned()), ""),
    ];
    for (change, says) in cases {
        let mut proto = initializer("w", DataType::Float, &[2, 2], vec![0; 16]);
        change(&mut proto);
        match (tensor(&proto, None), says.is_empty()) {
            (Ok(_), true) => {}
            (Err(error), false) => assert_eq!(error.to_string(), format!("tensor `w`: {says}")),
            (read, _) => panic!("{says:?}: {read:?}"),
        }
    }
    let mut proto = initializer("line\nend", DataType::Float, &[2], vec![0; 4]);
    assert_eq!(tensor(&proto, None).unwrap_err().to_string(), "tensor `line\\nend`: FLOAT 2 needs 8 bytes, has 4");
    proto.dims = vec![0, i64::MAX, i64::MAX];
    proto.raw_data = None;
    assert_eq!(tensor(&proto, None).unwrap().elements(), 0);
}

fn outside(entries: &[(&str, &str)]) -> TensorProto {
    let mut proto = initializer("w", DataType::Uint8, &[4], vec![]);
    proto.raw_data = None;
    proto.data_location = Some(1);
    proto.external_data = entries.iter().map(|(key, value)| entry(key, value)).collect();
    proto
}

#[test]
fn external_data_stays_inside_the_folder_and_its_file() {
    let scratch = Scratch::new("outside");
    let folder = scratch.path("model");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(folder.join("d"), [1, 2, 3, 4, 5]).unwrap();
    fs::write(folder.join("sub/e"), [9; 4]).unwrap();
    fs::write(scratch.path("secret"), [6; 8]).unwrap();
    let read = |entries: &[(&str, &str)]| {
        let read = tensor(&outside(entries), Some(&folder));
        read.map(|t| t.bytes.to_vec()).map_err(|e| e.to_string().replace(&*folder.to_string_lossy(), ""))
    };
    assert_eq!(read(&[("location", "d")]).unwrap(), [1, 2, 3, 4]);
    assert_eq!(read(&[("location", "./d"), ("offset", "1"), ("length", "4")]).unwrap(), [2, 3, 4, 5]);
    assert_eq!(read(&[("location", "sub/e"), ("checksum", "x"), ("basepath", "y")]).unwrap(), [9; 4]);
    let absolute = scratch.path("secret");
    let absolute = absolute.to_str().unwrap();
    let mut cases = vec![
        (vec![], "has external data without a `location`".to_owned()),
        (vec![("location", "d"), ("location", "d")], "`location` of its external data stands twice".to_owned()),
    ];
    for (key, value) in [("offset", "-1"), ("length", "4k"), ("offset", ""), ("length", "99999999999999999999")] {
        let says = format!("`{key}` of its external data is `{value}`; a number of bytes is expected");
        cases.push((vec![("location", "d"), (key, value)], says));
    }
    for location in ["", "../secret", "sub/../../secret", "sub/../d", absolute, "/", ".."] {
        let says = format!("external data in `{location}`; a file inside the model's folder is expected");
        cases.push((vec![("location", location)], says));
    }
    for (offset, length) in [("2", "4"), ("5", "1"), ("18446744073709551615", "1"), ("0", "18446744073709551615")] {
        let says = format!("external data of {length} bytes at byte {offset} of `d`, which has 5");
        cases.push((vec![("location", "d"), ("offset", offset), ("length", length)], says));
    }
    let other = [("location", "d"), ("offset", "2"), ("length", "3")];
    cases.push((other.to_vec(), "UINT8 4 needs 4 bytes, has 3".to_owned()));
    for (entries, says) in cases {
        assert_eq!(read(&entries).unwrap_err(), format!("tensor `w`: {says}"));
    }
    assert_eq!(read(&[("location", "none")]).unwrap_err(), "`/none`: tensor `w`: cannot be opened: entity not found");
    assert_eq!(
        read(&[("location", "sub")]).unwrap_err(),
        "`/sub`: tensor `w`: is not a file; an ONNX model is expected"
    );
    let alone = tensor(&outside(&[("location", "d")]), None).unwrap_err();
    assert_eq!(alone.to_string(), "tensor `w`: has external data, and the model is in no folder");
    assert_eq!(alone.blame(), Blame::Caller);
}

#[cfg(unix)]
#[test]
fn links_may_not_leave_the_folder() {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new("links");
    let folder = scratch.path("model");
    fs::create_dir(&folder).unwrap();
    fs::write(scratch.path("secret"), [6; 8]).unwrap();
    fs::write(folder.join("d"), [1; 4]).unwrap();
    symlink(scratch.path("secret"), folder.join("out")).unwrap();
    symlink(&scratch.folder, folder.join("up")).unwrap();
    symlink(folder.join("d"), folder.join("in")).unwrap();
    symlink(folder.join("loop"), folder.join("loop")).unwrap();
    let read = |location: &str| tensor(&outside(&[("location", location)]), Some(&folder));
    assert_eq!(read("in").unwrap().bytes[..], [1; 4]);
    for location in ["out", "up/secret"] {
        let says = format!("tensor `w`: external data in `{location}`; a file inside the model's folder is expected");
        assert_eq!(read(location).unwrap_err().to_string(), says);
    }
    assert_eq!(read("loop").unwrap_err().blame(), Blame::Io);
}

#[test]
fn a_file_that_changes_is_noticed() {
    let scratch = Scratch::new("changes");
    let path = scratch.path("m.onnx");
    fs::write(scratch.path("d"), [1; 4]).unwrap();
    let message = model(17, graph("g", vec![], vec![], vec![], vec![outside(&[("location", "d")])]));
    fs::write(&path, message.encode_to_vec()).unwrap();
    let model = Model::open(&path, &Limits::default()).unwrap();
    assert_eq!(model.files().len(), 1);
    model.tensor(&model.graph().initializer[0]).unwrap();
    assert_eq!(model.files().len(), 2);
    model.ensure_unchanged().unwrap();
    fs::OpenOptions::new().append(true).open(scratch.path("d")).unwrap().set_len(6).unwrap();
    let error = model.ensure_unchanged().unwrap_err();
    assert_eq!(error.blame(), Blame::Environment);
    assert!(error.to_string().ends_with("/d`: had 4 bytes when it was opened, has 6 now"), "{error}");
}

#[test]
fn outputs_are_not_taken_by_surprise() {
    let scratch = Scratch::new("outputs");
    let path = scratch.path("m.onnx");
    let message = small();
    let refused = |message: &ModelProto, options: &SaveOptions, name: &str| {
        let error = save(message, &scratch.path(name), options).unwrap_err().to_string();
        error.replace(&*scratch.folder.to_string_lossy(), "")
    };
    let plain = SaveOptions::default();
    save(&message, &path, &plain).unwrap();
    assert_eq!(refused(&message, &plain, "m.onnx"), "`/m.onnx`: exists already");
    fs::write(scratch.path("n.onnx.data"), "mine").unwrap();
    let outside = SaveOptions { external: Some(1), ..plain.clone() };
    assert_eq!(refused(&message, &outside, "n.onnx"), "`/n.onnx.data`: exists already");
    assert!(refused(&message, &plain, "no/m.onnx").starts_with("`/no/m.onnx`: cannot be written: "));
    assert_eq!(
        refused(&message, &SaveOptions { overwrite: true, ..plain.clone() }, ".."),
        "`/..`: is no name of a file"
    );
    fs::create_dir(scratch.path("folder")).unwrap();
    let says = "`/folder`: is not a file; an ONNX model is expected";
    assert_eq!(refused(&message, &SaveOptions { overwrite: true, ..plain.clone() }, "folder"), says);
    let mut inner = message.clone();
    let node = &mut inner.graph.as_mut().unwrap().node[1];
    node.attribute[0].t.as_mut().unwrap().data_location = Some(1);
    let says = "tensor `c`: has external data and is no initializer of the graph; it is not written";
    assert_eq!(refused(&inner, &plain, "o.onnx"), says);
    assert_eq!(scratch.names(), ["folder", "m.onnx", "n.onnx.data"]);
}

#[test]
fn two_gibibytes_are_too_much_for_one_file() {
    let scratch = Scratch::new("large");
    // A sparse file of 3 GiB: nothing is read of it before the model is refused.
    let data = fs::File::create(scratch.path("d")).unwrap();
    let len = 3u64 << 30;
    data.set_len(len).unwrap();
    let mut proto = outside(&[("location", "d")]);
    proto.dims = vec![len as i64];
    let message = model(17, graph("g", vec![], vec![], vec![], vec![proto]));
    let options = SaveOptions { folder: Some(scratch.folder.clone()), ..SaveOptions::default() };
    let error = save(&message, &scratch.path("m.onnx"), &options).unwrap_err().to_string();
    let says = "bytes; protobuf ends at 2147483647, and larger models keep tensors in external data";
    assert!(error.ends_with(says) && error.contains("the model needs 32212"), "{error}");
    assert_eq!(scratch.names(), ["d"]);
}

/// Reads whatever can be read.
fn walk(model: &Model) {
    for initializer in model.initializers() {
        let read = model.read(initializer);
        if let Ok(read) = &read {
            assert_eq!(read.dtype.byte_len(read.elements()), Some(read.bytes.len()));
        }
        one_line(read.err());
    }
    for node in &model.graph().node {
        let attributes = Attributes::new(node);
        for attribute in attributes.all() {
            let name = attribute.name();
            one_line(attributes.int(name).err());
            one_line(attributes.ints(name).err());
            one_line(attributes.string(name).err());
            one_line(attributes.graph(name).err());
            match attributes.tensor(name) {
                Ok(proto) => one_line(model.tensor(proto).err().or(strings(proto).err())),
                Err(error) => one_line(Some(error)),
            }
        }
    }
}

fn one_line(error: Option<niwaki_onnx::Error>) {
    if let Some(error) = error {
        let text = error.to_string();
        assert!(!text.contains(char::is_control) && !text.ends_with('.') && !text.contains(" { "), "{text:?}");
    }
}

#[test]
fn mutations_do_not_panic() {
    let seed = small().encode_to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let mut accepted = 0;
    for _ in 0..30_000 {
        let mut bytes = seed.clone();
        for _ in 0..1 + below(3) {
            let at = below(bytes.len());
            match below(5) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + below(12)).min(bytes.len()))),
                2 => bytes.insert(at, below(256) as u8),
                3 => bytes.iter_mut().skip(at).take(below(10)).for_each(|byte| *byte = 0xff),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << below(8)),
            }
        }
        match Model::parse(bytes.into(), &Limits::default()) {
            Ok(model) => {
                accepted += 1;
                walk(&model);
            }
            Err(error) => one_line(Some(error)),
        }
    }
    assert!((1000..29_000).contains(&accepted), "{accepted} of 30000 mutations are read");
}

#[test]
fn every_truncation_is_refused_or_read() {
    let seed = small().encode_to_vec();
    for len in 0..seed.len() {
        match Model::parse(seed[..len].to_vec().into(), &Limits::default()) {
            Ok(model) => walk(&model),
            Err(error) => one_line(Some(error)),
        }
    }
}
