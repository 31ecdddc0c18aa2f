//! What the library asks of the allocator: nothing in products and in decoding; at opening, what a header takes.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
#![allow(clippy::print_stdout, reason = "it says what it skipped and measured")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "it calls the library as C does, with handles that it keeps")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::ptr;
use std::time::Instant;

use niwaki_capi::*;
use niwaki_conformance::folder::Folder;

/// The system's allocator, which counts.
struct Counting;

thread_local! {
    /// Calls and bytes of this thread: others are those of the test harness.
    static COUNTS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNTS.set((COUNTS.get().0 + 1, COUNTS.get().1 + layout.size() as u64));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<T>(job: impl FnOnce() -> T) -> (T, u64, u64) {
    let before = COUNTS.get();
    let done = job();
    (done, COUNTS.get().0 - before.0, COUNTS.get().1 - before.1)
}

fn open(path: &str) -> *mut Artifact {
    let (path, mut artifact) = (CString::new(path).unwrap(), ptr::null_mut());
    assert_eq!(unsafe { niwaki_open(path.as_ptr(), &raw mut artifact, ptr::null_mut()) }, Status::Ok);
    artifact
}

/// Floats that begin at a multiple of 64 bytes.
fn aligned(buffer: &mut Vec<u8>, bytes: usize) -> Scratch {
    buffer.resize(bytes + SCRATCH_ALIGNMENT, 0xAA);
    let past = buffer.as_ptr().align_offset(SCRATCH_ALIGNMENT);
    Scratch { data: buffer[past..].as_mut_ptr().cast(), len: bytes }
}

/// Every product and decoding of one operand.
fn compute(operand: *const Operand) -> u64 {
    const COUNT: usize = 9;
    let info = unsafe { niwaki_operand_info(operand) };
    let (x, mut y) = (vec![0.5f32; COUNT * info.cols], vec![0f32; COUNT * info.rows]);
    let mut out = vec![0f32; info.rows * info.cols];
    let rows = Rows { start: 0, end: info.rows };
    let mut calls = 0;
    for precision in [0, 1] {
        let mut room = Vec::new();
        let scratch = aligned(&mut room, unsafe { niwaki_product_scratch(operand, precision, COUNT) });
        let mut error = ptr::null_mut();
        let (status, allocated, _) = counted(|| unsafe {
            let (x, y) =
                (Inputs { data: x.as_ptr(), len: x.len(), precision }, Outputs { data: y.as_mut_ptr(), len: y.len() });
            niwaki_gemm(operand, rows, x, y, scratch, &raw mut error)
        });
        assert_eq!(status, Status::Ok);
        calls += allocated;
    }
    for kind in 0..3 {
        let mut room = Vec::new();
        let scratch = aligned(&mut room, unsafe { niwaki_dequantize_scratch(operand) });
        let (status, allocated, _) = counted(|| unsafe {
            let weights = Weights { data: out.as_mut_ptr().cast(), len: out.len(), r#type: kind };
            niwaki_dequantize(operand, rows, weights, scratch, ptr::null_mut())
        });
        assert_eq!(status, Status::Ok);
        calls += allocated;
    }
    calls
}

#[test]
fn products_and_decoding_allocate_nothing() {
    let golden = |name: &str| format!("{}/../../tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let signature = open(&golden("example-signature"));
    let (signatures, mut overlay) = ([signature.cast_const()], ptr::null_mut());
    let made = unsafe { niwaki_overlay_new(signatures.as_ptr(), &2.0, 1, &raw mut overlay, ptr::null_mut()) };
    assert_eq!(made, Status::Ok);
    let mut operands = 0;
    for name in ["example", "uniform", "blocks", "floats", "elastic", "masked", "positions", "mixed"] {
        let artifact = open(&golden(name));
        for index in 0..unsafe { niwaki_tensor_count(artifact) } {
            let mut operand = ptr::null_mut();
            let how = Preparation { width: 0, overlay, mask: ptr::null(), mask_len: 0 };
            let (status, prepared, _) = counted(|| unsafe {
                niwaki_prepare(artifact, index, &raw const how, &raw mut operand, ptr::null_mut())
            });
            // The counter counts.
            assert!(prepared > 0);
            if status == Status::Ok {
                assert_eq!(compute(operand), 0, "tensor {index} of {name}");
                operands += 1;
            }
            unsafe { niwaki_operand_free(operand) };
        }
        unsafe { niwaki_artifact_free(artifact) };
    }
    assert!(operands > 60, "{operands}");
    unsafe { (niwaki_overlay_free(overlay), niwaki_artifact_free(signature)) };
}

/// A container of `count` tensors `int8/row/sym` of `rows` by 1024; of what they hold nothing is written.
fn sparse_file(path: &Path, count: usize, rows: usize) -> u64 {
    let (mut entries, mut metas, mut at) = (Vec::new(), Vec::new(), 0);
    let zero = "0".repeat(64);
    for i in 0..count {
        let mut entry = |part: &str, dtype: &str, shape: &[usize], bytes: usize| {
            entries.push(format!(
                "\"w{i:04}.{part}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{}]}}",
                at + bytes
            ));
            at += bytes;
        };
        entry("codes", "U8", &[rows, 1024], rows * 1024);
        entry("scales", "F32", &[rows, 1], rows * 4);
        metas.push(format!(
            r#""w{i:04}":{{"digest":"{zero}","dtype":"F32","parts":{{"codes":"{zero}","scales":"{zero}"}},"scheme":"int8/row/sym","shape":[{rows},1024],"source_digest":null}}"#
        ));
    }
    let meta = format!(
        r#"{{"container":[1,0],"digest":"{zero}","lineage":{{"parents":[],"source":null}},"patches":[],"recipe":null,"recipe_digest":null,"report":{{}},"source_metadata":{{}},"tensors":{{{}}}}}"#,
        metas.join(",")
    );
    let header = format!("{{\"__metadata__\":{{\"niwaki\":{meta:?}}},{}}}", entries.join(","));
    let length = header.len().next_multiple_of(64) + 56;
    let header = header.clone() + &" ".repeat(length - header.len());
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let bytes = 8 + header.len() as u64 + at as u64;
    file.set_len(bytes).unwrap();
    bytes
}

#[test]
fn opening_costs_the_same_for_any_size_of_tensors() {
    let folder = Folder::new("capi-open");
    // Rows of as many digits: the headers are equally long, but for offsets.
    let mut costs = Vec::new();
    for rows in [10, 2500] {
        let path = folder.path().join(format!("{rows}.safetensors"));
        let bytes = sparse_file(&path, 200, rows);
        let text = path.to_str().unwrap().to_owned();
        let begun = Instant::now();
        let (artifact, calls, heap) = counted(|| open(&text));
        let micros = begun.elapsed().as_micros();
        assert_eq!(unsafe { niwaki_tensor_count(artifact) }, 200);
        unsafe { niwaki_artifact_free(artifact) };
        println!("{bytes} bytes in 400 parts: {micros} us, {calls} allocations, {heap} bytes");
        costs.push((bytes, calls, heap));
        fs::remove_file(path).unwrap();
    }
    let [(small, few, least), (large, calls, heap)] = costs[..] else { panic!("two files") };
    assert!(large > 500_000_000 && large / small > 100, "{small} {large}");
    // Longer numbers in the header: a few bytes for each of 400 parts, no more than their digits take a few times.
    assert!(calls.abs_diff(few) <= 16 && heap.abs_diff(least) < 400 * 64, "{costs:?}");
}
