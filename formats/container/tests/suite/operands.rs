//! Products of packed weights, patches and masks: those of the weights as they are decoded.

use niwaki_codes::half_floats::{f32_to_bf16, f32_to_f16};
use niwaki_codes::product::{Form, Inputs, Kernel, Scratch, Sizes};
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, MaskView};
use niwaki_container::{Artifact, ErrorKind, Floats, Layout, Operand, Overlay, RowScratch, Tensor};
use niwaki_tensors::Dtype;
use serde_json::json;

use crate::made::{Folder, Random, layout, listed, open, write, write_parts};

/// Rows and columns of every tensor here.
const SIZE: [usize; 2] = [37, 600];

fn forms() -> Vec<(&'static str, Layout)> {
    let all = [
        ("plain", Dtype::BF16, "dense"),
        ("floats", Dtype::F32, "dense"),
        ("int4", Dtype::F32, "int4/g64/affine"),
        ("int3", Dtype::F32, "int3/g8/sym"),
        ("int8", Dtype::F32, "int8/row/sym"),
        ("fp8", Dtype::BF16, "fp8_e4m3/b16"),
        ("fp4", Dtype::BF16, "nvfp4"),
        ("nf4", Dtype::F32, "nf4/g5"),
        ("elastic", Dtype::F32, "elastic/g64"),
    ];
    let mut forms: Vec<_> = all.map(|(name, dtype, scheme)| (name, layout(dtype, &SIZE, scheme, None))).into();
    for (name, scheme) in [("blocks", "q4_k"), ("small_blocks", "q4_0"), ("bytes", "q8_0"), ("uneven", "iq4_nl")] {
        forms.push((name, layout(Dtype::F32, &[37, 512], scheme, None)));
    }
    forms.push(("kept", layout(Dtype::F16, &SIZE, "dense", Some(5000))));
    forms.push(("sparse", layout(Dtype::F32, &SIZE, "int5/g16/sym", Some(5000))));
    forms.push(("sparse_elastic", layout(Dtype::F32, &SIZE, "elastic/g16/2,5", Some(5000))));
    forms.push(("kept_floats", layout(Dtype::F32, &SIZE, "dense", Some(5000))));
    forms.push(("few_floats", listed(Dtype::F32, &SIZE, "dense", 2500)));
    forms.push(("few", listed(Dtype::BF16, &SIZE, "dense", 700)));
    forms.push(("few_codes", listed(Dtype::F32, &SIZE, "int4/row/affine", 2000)));
    forms
}

fn floats(n: usize, random: &mut Random) -> Vec<f32> {
    (0..n).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

/// Memory for inputs in a form.
#[derive(Default)]
struct Room {
    floats: Vec<f32>,
    sums: Vec<i32>,
    codes: Vec<i8>,
}

impl Room {
    fn inputs<'a>(&'a mut self, form: Form, x: &'a [f32]) -> Inputs<'a> {
        let Sizes { floats, sums, codes } = form.sizes(x.len());
        self.floats.resize(floats, f32::NAN);
        self.sums.resize(sums, 7);
        self.codes.resize(codes, 7);
        let scratch = Scratch { floats: &mut self.floats, sums: &mut self.sums, codes: &mut self.codes };
        Inputs::new(Level::best(), form, x, scratch).unwrap()
    }
}

/// Weights as they are decoded, patches laid over them and what a mask drops zero.
fn decoded(tensor: Tensor<'_>, width: Option<Bits>, overlay: &Overlay<'_>, mask: Option<MaskView<'_>>) -> Vec<f32> {
    let (rows, cols) = tensor.matrix();
    let mut out = vec![0.0; rows * cols];
    overlay.at(tensor, width).unwrap().dequantize_rows(Level::Scalar, 0..rows, &mut out).unwrap();
    for (at, x) in out.iter_mut().enumerate() {
        *x = if mask.is_none_or(|mask| mask.keeps(at / cols, at % cols).unwrap()) { *x } else { 0.0 };
    }
    out
}

/// Compares what an operand decodes to with `weights`, to the bit, and to halves of them.
fn compare_decoded(operand: &Operand<'_>, weights: &[f32], what: &str) {
    let (cols, sizes) = (operand.cols(), operand.row_sizes());
    let (mut wide, mut values, mut row) = (vec![9.0; sizes.wide], vec![9.0; sizes.values], vec![9.0; sizes.row]);
    let mut decode = |rows, out: Floats<'_>| {
        let scratch = RowScratch { wide: &mut wide, values: &mut values, row: &mut row };
        operand.dequantize_rows(rows, out, scratch).unwrap();
    };
    for rows in [0..operand.rows(), 17..22, 3..3] {
        let weights = &weights[rows.start * cols..rows.end * cols];
        let (mut full, mut half, mut brain) =
            (vec![7.0; weights.len()], vec![7; weights.len()], vec![7; weights.len()]);
        decode(rows.clone(), Floats::F32(&mut full));
        decode(rows.clone(), Floats::F16(&mut half));
        decode(rows.clone(), Floats::Bf16(&mut brain));
        assert!(full.iter().zip(weights).all(|(a, b)| a.to_bits() == b.to_bits()), "{what} {rows:?}");
        assert!(half.iter().zip(weights).all(|(a, b)| *a == f32_to_f16(*b)), "{what} {rows:?}");
        assert!(brain.iter().zip(weights).all(|(a, b)| *a == f32_to_bf16(*b)), "{what} {rows:?}");
    }
}

/// Compares products of all rows with three inputs, plain and rounded, with those of `weights`.
fn compare(operand: &Operand<'_>, weights: &[f32], what: &str) {
    compare_decoded(operand, weights, what);
    let (rows, cols) = (operand.rows(), operand.cols());
    let x: Vec<_> = (0..3).map(|seed| floats(cols, &mut Random(seed))).collect();
    for rounded in [false, true] {
        let mut rooms = [(); 3].map(|()| Room::default());
        let form = operand.form(rounded);
        let inputs: Vec<_> = rooms.iter_mut().zip(&x).map(|(room, x)| room.inputs(form, x)).collect();
        let mut y = vec![f32::NAN; 3 * rows];
        operand.gemm(0..rows, &inputs, &mut y).unwrap();
        for (at, y) in y.iter().enumerate() {
            let (input, row) = (&inputs[at / rows], at % rows);
            let pairs = (0..cols).map(|col| (weights[row * cols + col], input.get(col).unwrap()));
            let (mut sum, mut size) = (0.0, 0.0);
            for (w, x) in pairs {
                sum += f64::from(w) * f64::from(x);
                size += f64::from(w).abs();
            }
            // Each of `cols` sums rounds by half an ulp of at most `size`; codes are taken apart from middles.
            let bound = size * cols as f64 * f64::from(f32::EPSILON);
            assert!((f64::from(*y) - sum).abs() <= bound, "{what} rounded {rounded} row {row}: {y} and {sum}");
        }
        // Some rows, and one input, are the same bits.
        let (mut some, mut one) = (vec![0.0; 3 * 5], vec![0.0; 5]);
        operand.gemm(17..22, &inputs, &mut some).unwrap();
        for (input, x) in inputs.iter().enumerate() {
            operand.gemv(17..22, x, &mut one).unwrap();
            let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&some[input * 5..][..5]), bits(&one), "{what}");
            assert_eq!(bits(&y[input * rows + 17..][..5]), bits(&one), "{what}");
        }
    }
}

fn widths(tensor: Tensor<'_>) -> Vec<Option<Bits>> {
    tensor.widths().map_or(vec![None], |widths| widths.iter().map(Some).collect())
}

fn mask_of(rows: usize, cols: usize) -> Vec<u8> {
    let mut random = Random(5);
    let mut bytes: Vec<u8> = (0..MaskView::part_len(rows, cols).unwrap()).map(|_| random.next() as u8).collect();
    if !cols.is_multiple_of(8) {
        let width = cols.div_ceil(8);
        bytes.iter_mut().skip(width - 1).step_by(width).for_each(|last| *last &= 0xff >> (8 - cols % 8));
    }
    bytes
}

#[test]
fn products_of_every_form_are_those_of_its_weights() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 3);
    let artifact = open(&folder.file("a"));
    for tensor in artifact.tensors() {
        let (rows, cols) = tensor.matrix();
        let bytes = mask_of(rows, cols);
        let mask = MaskView::new(rows, cols, &bytes).unwrap();
        for width in widths(tensor) {
            for kernel in Kernel::all() {
                for mask in [None, Some(mask)] {
                    let operand = tensor.prepare(kernel, width, &Overlay::default(), mask).unwrap();
                    let weights = decoded(tensor, width, &Overlay::default(), mask);
                    compare(&operand, &weights, &format!("{tensor:?} {width:?} {} {}", kernel.name(), mask.is_some()));
                }
            }
        }
    }
}

/// A signature for every tensor: of dimensions `dims`, and of that kind.
fn signature(folder: &Folder, name: &str, kind: &str, dims: &[usize]) -> Artifact {
    let (path, layout) = (folder.file(name), layout(Dtype::F32, dims, "dense", None));
    let names = ["int4", "elastic", "kept", "few_codes"];
    let mut random = Random(name.len() as u64);
    let parts = names.map(|name| {
        let values = floats(dims.iter().product(), &mut random);
        (name.to_owned(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
    });
    write_parts(&path, &names.map(|name| (name, layout)), &parts.into(), |meta| {
        meta.signature = Some(
            json!({"kinds": names.map(|name| (name, kind)).into_iter().collect::<std::collections::BTreeMap<_, _>>()}),
        );
    });
    open(&path)
}

#[test]
fn patches_are_laid_over_products_in_order() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 3);
    let artifact = open(&folder.file("a"));
    let signatures =
        [("fog", "add", &SIZE[..]), ("rain", "blend", &SIZE), ("calm", "scale", &SIZE[..1]), ("haze", "add", &SIZE)]
            .map(|(name, kind, dims)| signature(&folder, name, kind, dims));
    let mut overlay = Overlay::default();
    for (signature, alpha) in signatures.iter().zip([0.5, 0.25, 0.75, -2.0]) {
        overlay.push(signature, alpha).unwrap();
    }
    for name in ["int4", "elastic", "kept", "few_codes", "nf4"] {
        let tensor = artifact.get(name).unwrap();
        let bytes = mask_of(SIZE[0], SIZE[1]);
        for mask in [None, Some(MaskView::new(SIZE[0], SIZE[1], &bytes).unwrap())] {
            let operand = tensor.prepare(Kernel::best(), None, &overlay, mask).unwrap();
            compare(&operand, &decoded(tensor, None, &overlay, mask), name);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = Folder::new();
    let tensors =
        [("w", layout(Dtype::F32, &[3, 40], "int4/row/sym", None)), ("v", layout(Dtype::F32, &[3], "dense", None))];
    write(&folder.file("a"), &tensors, 1);
    let artifact = open(&folder.file("a"));
    let (w, none) = (artifact.get("w").unwrap(), Overlay::default());
    let operand = w.prepare(Kernel::best(), None, &none, None).unwrap();
    let (x, mut y) = (vec![1.0; 40], vec![0.0; 3]);
    let said = |result: Result<(), niwaki_container::Error>| result.unwrap_err().to_string();
    let x = Inputs::plain(&x);
    let decode = |rows, n: usize, room: usize| {
        let scratch = RowScratch { wide: &mut [], values: &mut [], row: &mut vec![0.0; room] };
        said(operand.dequantize_rows(rows, Floats::F16(&mut vec![0; n]), scratch))
    };
    assert_eq!(decode(2..4, 80, 40), "tensor `w`: 4 elements needed, 3 there");
    assert_eq!(decode(0..2, 79, 40), "tensor `w`: 80 elements needed, 79 there");
    assert_eq!(decode(0..2, 80, 39), "tensor `w`: 40 elements needed, 39 there");
    assert_eq!(said(operand.gemv(0..4, &x, &mut y)), "tensor `w`: 4 elements needed, 3 there");
    assert_eq!(said(operand.gemv(0..2, &x, &mut y)), "tensor `w`: 2 elements needed, 3 there");
    assert_eq!(
        said(operand.gemv(0..3, &Inputs::plain(&[1.0; 39]), &mut y)),
        "tensor `w`: 40 elements needed, 39 there"
    );
    assert_eq!(said(operand.gemm(0..3, &[x, x], &mut y)), "tensor `w`: 6 elements needed, 3 there");
    #[expect(clippy::reversed_empty_ranges, reason = "it is what is refused")]
    let backwards = 2..1;
    assert!(operand.gemv(backwards, &x, &mut []).is_err());
    operand.gemv(3..3, &x, &mut []).unwrap();
    let mask = MaskView::new(3, 39, &[0; 15]).unwrap();
    let error = w.prepare(Kernel::best(), None, &none, Some(mask)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PartForm { .. }) && error.tensor() == Some("w"), "{error}");

    let path = folder.file("s");
    write_parts(
        &path,
        &[("v", layout(Dtype::F32, &[3], "dense", None))],
        &[("v".to_owned(), vec![0; 12])].into(),
        |m| {
            m.signature = Some(json!({"kinds": {"v": "scale"}}));
        },
    );
    let (signature, mut overlay) = (open(&path), Overlay::default());
    overlay.push(&signature, 1.0).unwrap();
    let v = artifact.get("v").unwrap();
    assert!(v.prepare(Kernel::best(), None, &overlay, None).is_err());
    assert!(v.prepare(Kernel::best(), None, &none, None).is_ok());
}
