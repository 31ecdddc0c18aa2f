use super::*;

fn list(dims: &[usize], scheme: &str, kept: Option<usize>) -> Vec<String> {
    list_of(dims, scheme, kept.map(Kept::by_mask))
}

fn list_of(dims: &[usize], scheme: &str, kept: Option<Kept>) -> Vec<String> {
    let scheme = (scheme != "dense").then(|| scheme.parse().unwrap());
    let layout = Layout { dtype: Dtype::BF16, shape: Shape::new(dims).unwrap(), scheme, kept };
    let parts = layout.parts().unwrap();
    parts.iter().map(|p| format!("{} {} {} {}", p.part.name("w"), p.dtype, p.shape, p.bytes)).collect()
}

#[test]
fn a_kept_tensor_is_one_part_under_its_own_name() {
    assert_eq!(list(&[3, 5], "dense", None), ["w BF16 3x5 30"]);
    assert_eq!(list(&[], "dense", None), ["w BF16 scalar 2"]);
}

#[test]
fn uniform_codes_have_a_row_of_bytes_per_row() {
    assert_eq!(list(&[3, 5], "int3/g2/sym", None), ["w.codes U8 3x2 6", "w.scales F16 3x3 18"]);
    assert_eq!(list(&[3, 5], "int4/row/sym", None), ["w.codes U8 3x3 9", "w.scales F32 3x1 12"]);
    let affine = ["w.codes U8 3x5 15", "w.scales F32 1 4", "w.zeros U8 1 1"];
    assert_eq!(list(&[3, 5], "int8/tensor/affine", None), affine);
    let one_row = ["w.codes U8 1x2 2", "w.scales F32 1x3 12"];
    assert_eq!(list(&[5], "int3/g2/sym/f32", None), one_row);
}

#[test]
fn blocks_are_one_part_without_a_mask_and_fill_rows() {
    assert_eq!(list(&[3, 64], "q4_0", None), ["w.codes U8 3x36 108"]);
    assert_eq!(list(&[2, 2, 128], "q6_k", None), ["w.codes U8 2x210 420"]);
    let blocks = |dims: &[usize], kept| {
        let scheme = Some("q4_0".parse().unwrap());
        let layout = Layout { dtype: Dtype::F32, shape: Shape::new(dims).unwrap(), scheme, kept };
        layout.parts().unwrap_err().to_string()
    };
    assert_eq!(blocks(&[3, 48], None), "a row of 48 weights is no whole number of q4_0 blocks of 32");
    assert_eq!(blocks(&[3, 64], Some(Kept::by_mask(9))), "scheme q4_0 with a mask has no place in container version 1");
    let listed = "scheme q4_0 with positions has no place in container version 1";
    assert_eq!(blocks(&[3, 64], Some(Kept::by_positions(9))), listed);
}

#[test]
fn small_floats_have_types_of_their_own_where_there_are_any() {
    let fp8 = |scales| ["w.codes F8_E4M3 3x5 15".to_owned(), format!("w.scales F32 {scales}")];
    assert_eq!(list(&[3, 5], "fp8_e4m3/tensor", None), fp8("1 4"));
    assert_eq!(list(&[3, 5], "fp8_e4m3/row", None), fp8("3x1 12"));
    assert_eq!(list(&[3, 5], "fp8_e4m3/b2", None), fp8("2x3 24"));
    assert_eq!(list(&[3, 5], "fp8_e4m3/b128", None), fp8("1x1 4"));
    assert_eq!(list(&[3, 5], "nf4/g2", None), ["w.codes U8 3x3 9", "w.scales F32 3x3 36"]);
    let nvfp4 = ["w.codes U8 2x10 20", "w.scales F8_E4M3 2x2 4", "w.factor F32 1 4"];
    assert_eq!(list(&[2, 4, 5], "nvfp4", None), nvfp4);
    assert_eq!(list(&[5], "nf4/g64", None), ["w.codes U8 1x3 3", "w.scales F32 1x1 4"]);
    let refused = |scheme, kept| {
        let layout = Layout { dtype: Dtype::F32, shape: Shape::new(&[2, 32]).unwrap(), scheme: Some(scheme), kept };
        layout.parts().unwrap_err().to_string()
    };
    let masked = "scheme nvfp4 with a mask has no place in container version 1";
    assert_eq!(refused(Scheme::Float(Float::Nvfp4), Some(Kept::by_mask(9))), masked);
    let apart = "scheme mxfp4 with its scales apart has no place in container version 1";
    assert_eq!(refused(Scheme::Float(Float::Mxfp4), None), apart);
    assert_eq!(refused(Scheme::Float(Float::Mxfp4), Some(Kept::by_mask(9))), apart);
}

#[test]
fn kept_weights_are_one_stream() {
    assert_eq!(list(&[3, 5], "dense", Some(4)), ["w.mask U8 3x1 3", "w.values BF16 4 8"]);
    let grouped = ["w.mask U8 3x1 3", "w.codes U8 3 3", "w.scales F16 4 8", "w.zeros U8 4 4"];
    assert_eq!(list(&[3, 5], "int3/g2/affine", Some(7)), grouped);
    let by_row = ["w.mask U8 3x1 3", "w.codes U8 7 7", "w.scales F32 3x1 12"];
    assert_eq!(list(&[3, 5], "int8/row/sym", Some(7)), by_row);
    let elastic = ["w.mask U8 3x1 3", "w.base F16 2x2 8", "w.fix2 U8 2 2", "w.plane7 U8 2 2", "w.plane6 U8 2 2"];
    assert_eq!(list(&[3, 5], "elastic/g8/2", Some(9)), elastic);
}

#[test]
fn positions_stand_in_the_place_of_a_mask() {
    let listed = |scheme, kept| list_of(&[30, 50], scheme, Some(Kept::by_positions(kept)));
    // 6 low bits a weight, and 15 + 1499/64 + 1 upper ones.
    assert_eq!(listed("dense", 15), ["w.positions U8 17 17", "w.values BF16 15 30"]);
    assert_eq!(listed("int8/row/sym", 15), ["w.positions U8 17 17", "w.codes U8 15 15", "w.scales F32 30x1 120"]);
    assert_eq!(listed("elastic/g8/2", 1)[..2], ["w.positions U8 3 3", "w.base F16 1x2 4"]);
    assert_eq!(listed("int4/tensor/sym", 0), ["w.positions U8 0 0", "w.codes U8 0 0", "w.scales F32 0 0"]);
}

#[test]
fn planes_come_with_the_width_that_first_needs_them() {
    let names: Vec<_> = list(&[1, 8], "elastic/g8/3,4,8", None)
        .iter()
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let expected = "w.base w.fix3 w.plane7 w.plane6 w.plane5 w.fix4 w.plane4 w.plane3 w.plane2 w.plane1 w.plane0";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn sizes_that_overflow_and_masks_that_keep_too_much_are_refused() {
    let layout = Layout::plain(Dtype::F64, Shape::new(&[usize::MAX / 4]).unwrap());
    assert!(matches!(layout.parts().unwrap_err().kind(), ErrorKind::Overflow));
    let layout = Layout { kept: Some(Kept::by_mask(16)), ..Layout::plain(Dtype::F32, Shape::new(&[3, 5]).unwrap()) };
    assert!(matches!(layout.parts().unwrap_err().kind(), ErrorKind::Kept { kept: 16, elements: 15 }));
    let empty =
        Layout { kept: Some(Kept::by_mask(0)), ..Layout::plain(Dtype::F32, Shape::new(&[1 << 40, 0]).unwrap()) };
    assert_eq!(
        empty.parts().unwrap_err().to_string(),
        "a tensor without elements is stored as it is, never as dense with a mask"
    );
    assert_eq!(empty.matrix(), (0, 0));
    let layout = Layout { dtype: Dtype::I64, kept: Some(Kept::by_mask(1)), ..layout };
    assert!(matches!(layout.parts().unwrap_err().kind(), ErrorKind::NotFloat { .. }));
}
