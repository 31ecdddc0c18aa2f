//! niwaki for C: open compressed checkpoints, decode and multiply with them.
//!
//! ```text
//! niwaki_open --> artifact --> niwaki_prepare --> operand --> niwaki_gemv, niwaki_gemm, niwaki_dequantize
//!                    |             ^
//!                    '--> overlay -'
//! ```
//!
//! `examples/dot.c` multiplies a tensor of a file with a vector, which the tests of this crate run:
//!
//! ```c
//! must(niwaki_open(argv[1], &model, &error), error);
//! must(niwaki_tensor_find(model, argv[2], &index, &error), error);
//! must(niwaki_prepare(model, index, NULL, &weights, &error), error);
//! niwaki_artifact_free(model); /* the weights keep what they need */
//! ```
//!
//! `include/niwaki.h` is made from this crate, comments and all, by cbindgen; a test compares them. `install`
//! builds the library and puts it where `pkg-config` finds it.
//!
//! What it promises:
//!
//! - Handles never change: any number of threads may use one at once. They may be freed in any order; what
//!   another handle needs lives on inside it.
//! - Products and decoding allocate nothing when they succeed, start no thread and take no lock.
//! - No global state, no environment variable, no output. A panic would be a fault of ours: it is an answer,
//!   never an unwinding into C, and Rust prints a line about it.
//! - Null handles, misaligned memory and buffers of other lengths are refused, with one line that says found
//!   and expected.
//!
//! What it cannot check: that a pointer is to as much memory as the caller says, and that a handle was not
//! freed.

// The only crate of the project in which whole modules are unsafe: each function trusts its caller for
// exactly what its `# Safety` section says.

mod artifact;
mod error;
mod memory;
mod operand;
mod overlay;
mod product;
mod verification;

pub use artifact::{
    Artifact, Bytes, MAX_DIMS, TensorInfo, niwaki_artifact_free, niwaki_digest, niwaki_open, niwaki_open_bytes,
    niwaki_open_fd, niwaki_part, niwaki_tensor_count, niwaki_tensor_find, niwaki_tensor_info,
};
pub use error::{
    ABI, Error, Status, Text, niwaki_abi, niwaki_error_free, niwaki_error_hint, niwaki_error_message,
    niwaki_error_path, niwaki_error_status, niwaki_error_tensor, niwaki_version,
};
pub use memory::{SCRATCH_ALIGNMENT, Scratch};
pub use operand::{
    FloatType, Operand, OperandInfo, Preparation, Rows, Weights, niwaki_dequantize, niwaki_dequantize_scratch,
    niwaki_operand_free, niwaki_operand_info, niwaki_prepare,
};
pub use overlay::{Overlay, niwaki_overlay_free, niwaki_overlay_new};
pub use product::{Inputs, Outputs, Precision, niwaki_gemm, niwaki_gemv, niwaki_product_scratch};
pub use verification::{
    Verification, niwaki_verification_count, niwaki_verification_fault, niwaki_verification_free, niwaki_verify,
};
