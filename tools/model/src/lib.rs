//! Graphs of real models, the executor that runs them, and what trains them.
//!
//! ```
//! use niwaki_model::ops::{matmul::MatMul, unary::Relu};
//! use niwaki_model::{Dim, Dtype, Executor, Graph, Run, Tensor};
//!
//! // y = relu(x w), as `onnx::open` would read it from a file.
//! let mut graph = Graph::default();
//! let x = graph.input("x", Some(Dtype::F32), Some(vec![Dim::Any, Dim::Fixed(2)]));
//! let w = graph.weight("w", Tensor::of([2, 2], vec![1.0f32, 2.0, 3.0, -4.0]).unwrap());
//! let product = graph.node("product", MatMul::default(), &[x, w]);
//! let y = graph.node("relu", Relu, &[product]);
//! graph.output(y);
//!
//! let executor = Executor::new(graph)?;
//! let outcome = executor.run(vec![Tensor::of([1, 2], vec![1.0f32, 1.0]).unwrap()], Run::default())?;
//! assert_eq!(outcome.outputs[0].get::<f32>(), Some(&[4.0, 0.0][..]));
//! assert_eq!(outcome.macs, 4);
//! # Ok::<(), niwaki_model::Error>(())
//! ```
//!
//! A graph is loaded at run time. Its operators compute on the CPU, in f32 unless the model says
//! otherwise; results do not depend on the number of threads, which are those of the rayon pool that
//! the caller is in.

mod attributes;
mod awake;
mod blocked;
mod decoder;
mod encoder;
mod error;
mod execute;
mod fault;
mod feed;
mod fold;
mod fuse;
mod graph;
pub mod hf;
mod kernels;
pub mod loss;
mod norms;
pub mod onnx;
mod operator;
pub mod ops;
pub mod optimizer;
mod packed;
mod pooling;
mod real;
mod residual;
mod reverse;
pub mod schedule;
mod skip;
mod tape;
mod tensor;
mod value;

pub use attributes::{Attribute, Definition};
pub use awake::awake;
pub use decoder::{Cache, Decoder, Wanted};
pub use encoder::{Encoder, Text};
pub use error::{Error, ErrorKind};
pub use execute::{Executor, Observer, Outcome, Paused, Run, dims_text};
pub use fault::Fault;
pub use feed::Feed;
pub use graph::{Dim, Graph, Input, Node, ValueId};
pub use norms::Running;
pub use operator::{Context, Inputs, Operator, Pool};
pub use packed::{Activations, Codes, Packed, Planes};
pub use pooling::{PoolMode, Pooling};
pub use residual::{Branch, Residual};
pub use reverse::{Keeps, Pass, Pullback, Reverse};
pub use tape::{Back, Forward, Stop, Tape};
pub use tensor::{Buffer, Data, Dtype, Element, Tensor, elements};
pub use value::{Kind, OnValues, Value};
