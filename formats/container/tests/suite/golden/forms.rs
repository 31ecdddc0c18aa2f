//! What the golden files hold.

use niwaki_codes::BlockType;
use niwaki_container::Layout;
use niwaki_tensors::Dtype;

use crate::made::{layout, listed};

/// Every width, grid and grouping; rows that groups do not divide and bytes do not fill.
pub(super) fn uniform() -> Vec<(String, Layout)> {
    let mut tensors = Vec::new();
    for bits in 2..=8 {
        for form in ["g4/sym", "g5/affine", "g16/sym/f32", "row/affine", "tensor/sym"] {
            let scheme = format!("int{bits}/{form}");
            let dtype = [Dtype::F32, Dtype::BF16, Dtype::F16][bits % 3];
            tensors.push((scheme.replace('/', "_"), layout(dtype, &[3, 13], &scheme, None)));
        }
    }
    tensors.push(("vector".to_owned(), layout(Dtype::F32, &[11], "int3/g4/sym", None)));
    tensors.push(("scalar".to_owned(), layout(Dtype::F32, &[], "int8/tensor/sym", None)));
    tensors.push(("conv".to_owned(), layout(Dtype::F64, &[2, 3, 3, 3], "int5/g32/affine/f32", None)));
    tensors
}

/// Every block type: rows of several blocks, a vector, a tensor of three dimensions.
pub(super) fn blocks() -> Vec<(String, Layout)> {
    let mut tensors: Vec<_> = BlockType::ALL
        .iter()
        .map(|kind| {
            let cols = if kind.elements() == 32 { 96 } else { 512 };
            (kind.to_string(), layout(Dtype::BF16, &[2, cols], kind.name(), None))
        })
        .collect();
    tensors.push(("vector".to_owned(), layout(Dtype::F32, &[64], "q8_0", None)));
    tensors.push(("conv".to_owned(), layout(Dtype::F16, &[3, 16, 4], "q5_1", None)));
    tensors
}

/// Every small float: groups and squares that divide the rows and such that do not, rows that bytes
/// do not fill, a vector, a scalar, a tensor of four dimensions.
pub(super) fn floats() -> Vec<(String, Layout)> {
    let forms = [
        ("fp8_tensor", Dtype::BF16, &[3, 13][..], "fp8_e4m3/tensor"),
        ("fp8_row", Dtype::F32, &[3, 13], "fp8_e4m3/row"),
        ("fp8_squares", Dtype::BF16, &[6, 8], "fp8_e4m3/b2"),
        ("fp8_cut_squares", Dtype::BF16, &[7, 13], "fp8_e4m3/b3"),
        ("fp8_one_square", Dtype::F16, &[3, 5], "fp8_e4m3/b128"),
        ("nvfp4", Dtype::BF16, &[3, 64], "nvfp4"),
        ("nvfp4_short", Dtype::F16, &[4, 37], "nvfp4"),
        ("nf4", Dtype::BF16, &[2, 128], "nf4/g64"),
        ("nf4_short", Dtype::F32, &[3, 21], "nf4/g8"),
        ("nf4_odd", Dtype::F32, &[3, 20], "nf4/g5"),
        ("nf4_wide", Dtype::F32, &[3, 9], "nf4/g64"),
        ("vector", Dtype::F32, &[11], "nvfp4"),
        ("scalar", Dtype::F32, &[], "fp8_e4m3/tensor"),
        ("conv", Dtype::F64, &[2, 3, 3, 3], "fp8_e4m3/row"),
    ];
    forms.map(|(name, dtype, dims, scheme)| (name.to_owned(), layout(dtype, dims, scheme, None))).into()
}

pub(super) fn elastic() -> Vec<(String, Layout)> {
    let forms = [
        ("all", &[3, 21][..], "elastic/g8"),
        ("some", &[2, 17], "elastic/g5/2,4,6"),
        ("one", &[4, 9], "elastic/g64/3"),
        ("wide", &[1, 130], "elastic/g64/4,8"),
        ("vector", &[7], "elastic/g2/5,7"),
    ];
    forms.map(|(name, dims, scheme)| (name.to_owned(), layout(Dtype::BF16, dims, scheme, None))).into()
}

pub(super) fn masked() -> Vec<(String, Layout)> {
    let forms = [
        ("values", Dtype::BF16, 40, "dense"),
        ("values32", Dtype::F32, 17, "dense"),
        ("grouped", Dtype::F32, 33, "int3/g4/affine"),
        ("by_row", Dtype::F16, 19, "int4/row/sym"),
        ("whole", Dtype::F32, 50, "int7/tensor/affine"),
        ("planes", Dtype::F32, 29, "elastic/g8"),
        ("planes24", Dtype::F32, 64, "elastic/g16/2,4"),
        ("nothing", Dtype::F32, 0, "int4/g8/sym"),
        ("nothing_whole", Dtype::F32, 0, "int4/tensor/sym"),
        ("nothing_planes", Dtype::F32, 0, "elastic/g8/2"),
        ("everything", Dtype::F32, 70, "int2/g8/sym"),
    ];
    let tensors =
        forms.map(|(name, dtype, kept, scheme)| (name.to_owned(), layout(dtype, &[5, 14], scheme, Some(kept))));
    tensors.into()
}

/// Every form of kept weights, told by positions: few and many of them, none, one, all.
pub(super) fn positions() -> Vec<(String, Layout)> {
    let forms = [
        ("values", Dtype::BF16, 40, "dense"),
        ("values32", Dtype::F32, 3, "dense"),
        ("grouped", Dtype::F32, 33, "int3/g4/affine"),
        ("by_row", Dtype::F16, 19, "int4/row/sym"),
        ("whole", Dtype::F32, 5, "int7/tensor/affine"),
        ("planes", Dtype::F32, 29, "elastic/g8"),
        ("planes24", Dtype::F32, 9, "elastic/g16/2,4"),
        ("one", Dtype::F32, 1, "int8/g64/sym"),
        ("nothing", Dtype::F32, 0, "int4/g8/sym"),
        ("nothing_whole", Dtype::F32, 0, "int4/tensor/sym"),
        ("nothing_planes", Dtype::F32, 0, "elastic/g8/2"),
        ("everything", Dtype::F32, 350, "int2/g8/sym"),
    ];
    let tensors = forms.map(|(name, dtype, kept, scheme)| (name.to_owned(), listed(dtype, &[7, 50], scheme, kept)));
    tensors.into()
}

/// Kept tensors of every kind of type beside uniform and elastic ones.
pub(super) fn mixed() -> Vec<(String, Layout)> {
    let plain = |name: &str, dtype, dims: &[usize]| (name.to_owned(), layout(dtype, dims, "dense", None));
    vec![
        plain("bias", Dtype::F32, &[5]),
        ("up.weight".to_owned(), layout(Dtype::BF16, &[5, 24], "elastic/g8/2,4,8", None)),
        plain("norm", Dtype::BF16, &[7]),
        ("embed".to_owned(), layout(Dtype::BF16, &[6, 10], "int8/row/sym", None)),
        plain("half", Dtype::F16, &[3, 2]),
        plain("double", Dtype::F64, &[2]),
        plain("ids", Dtype::I64, &[3]),
        plain("flag", Dtype::BOOL, &[3]),
        plain("scalar", Dtype::F32, &[]),
        plain("empty", Dtype::F32, &[0, 4]),
        ("down.weight".to_owned(), layout(Dtype::F32, &[3, 20], "elastic/g8", None)),
        ("sparse.weight".to_owned(), layout(Dtype::F32, &[4, 20], "elastic/g8/3,4,5", Some(31))),
    ]
}
