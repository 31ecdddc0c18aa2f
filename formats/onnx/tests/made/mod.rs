//! A folder that goes away, and a small model with something of everything.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use niwaki_onnx::DataType;
use niwaki_onnx::build::{
    Dim, attr_graph, attr_ints, attr_string, attr_tensor, graph, initializer, model, node, value,
};
use niwaki_onnx::proto::{FunctionProto, ModelProto, StringStringEntryProto, TensorAnnotation, TensorProto};

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A folder of this test's own.
pub(crate) struct Scratch {
    pub(crate) folder: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("niwaki-onnx-{}-{name}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The values of external data's entries.
pub(crate) fn values(entries: &[StringStringEntryProto]) -> Vec<String> {
    entries.iter().map(|entry| entry.value().to_owned()).collect()
}

pub(crate) fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

/// A model with dense and typed initializers, attributes of several types, a subgraph, a
/// function, metadata and annotations.
pub(crate) fn small() -> ModelProto {
    let inner = graph("then", vec![node("Identity", &["w"], &["z"], vec![])], vec![], vec![], vec![]);
    let constant = initializer("c", DataType::Int64, &[2], vec![1; 16]);
    let nodes = vec![
        node("Conv", &["x", "w"], &["a"], vec![attr_ints("pads", &[0, 1]), attr_string("auto_pad", "NOTSET")]),
        node("Constant", &[], &["c"], vec![attr_tensor("value", constant)]),
        node("If", &["b"], &["y"], vec![attr_graph("then_branch", inner)]),
    ];
    let typed = TensorProto {
        name: Some("typed".to_owned()),
        data_type: Some(DataType::Float.number()),
        dims: vec![3],
        float_data: vec![1.0, 2.0, 3.0],
        doc_string: Some("three floats".to_owned()),
        ..TensorProto::default()
    };
    let mut w = initializer("w", DataType::Float, &[2, 2], (0..16).collect::<Vec<u8>>());
    w.metadata_props = vec![entry("role", "weight")];
    let mut main = graph(
        "main",
        nodes,
        vec![value("x", DataType::Float, &[Dim::Named("n"), Dim::Known(2), Dim::Unknown])],
        vec![value("y", DataType::Float, &[])],
        vec![w, typed],
    );
    main.doc_string = Some("a graph".to_owned());
    main.metadata_props = vec![entry("k", "v")];
    main.value_info = vec![value("a", DataType::Float16, &[Dim::Known(1)])];
    let annotation = TensorAnnotation { tensor_name: Some("w".to_owned()), ..TensorAnnotation::default() };
    main.quantization_annotation = vec![annotation];
    let mut message = model(17, main);
    message.doc_string = Some("a model".to_owned());
    message.metadata_props = vec![entry("who", "a test")];
    message.functions = vec![FunctionProto { name: Some("f".to_owned()), ..FunctionProto::default() }];
    message
}
