//! What the suites share: fresh folders, made-up checkpoints, the command line in
//! process, and transcripts.

pub mod adapters;
pub mod checkpoints;
pub mod cli;
pub mod compressed;
pub mod data;
pub mod device;
pub mod folder;
pub mod llama;
pub mod nets;
pub mod onnx;
pub mod onnx_read;
pub mod random;
pub mod residual;
pub mod scene;
pub mod trained;
pub mod transcript;
pub mod transformer;
