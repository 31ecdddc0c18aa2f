//! Images that somebody else wrote, badly.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_image::{
    Area, Draft, DraftTensor, ErrorKind, Image, Kind, ONE, Onto, Place, Row, Spot, Step, Times, Window, Work, seal,
};

const TIMES: Times = Times { multiplier: 1 << 30, shift: 38 };
const WINDOW: Window = Window { kernel: [2, 1], stride: [1; 2], dilation: [1; 2], before: [0; 2] };

fn area(at: usize, shape: [usize; 3]) -> Area {
    Area { at, shape }
}

fn step(input: Area, output: Area, work: Work) -> Step {
    Step { input, input_zero: 3, output, output_zero: -4, low: -128, high: 100, work }
}

/// A convolution of 2x1 windows in 4 bits, a sum, a pool, a softmax.
fn draft() -> Draft {
    let [given, conv, pooled, out] =
        [area(0, [3, 2, 3]), area(20, [2, 2, 2]), area(28, [1, 1, 2]), area(32, [1, 1, 2])];
    let onto = Onto { zero: 5, times: 40_000 };
    let kernel = Window { kernel: [2, 2], ..WINDOW };
    let row = Row { bias: -70, times: TIMES };
    let table: Vec<u8> = (0..256u32).flat_map(|at| (ONE >> at.min(21)).to_le_bytes()).collect();
    Draft {
        arena: 48,
        input: Place { area: given, zero: 3, scale: 0.5 },
        output: Place { area: out, zero: -128, scale: 1.0 / 256.0 },
        steps: vec![
            step(given, conv, Work::Conv { window: WINDOW, groups: 1, weights: 0, scratch: 36, onto: Some(onto) }),
            step(conv, area(0, [2, 2, 2]), Work::Add { times: 65536, onto }),
            step(area(0, [2, 2, 2]), pooled, Work::AveragePool { window: kernel, times: TIMES }),
            step(pooled, area(0, [1, 1, 2]), Work::MaxPool(Window { kernel: [1, 1], ..WINDOW })),
            step(pooled, out, Work::Softmax { table: 1 }),
        ],
        tensors: vec![
            DraftTensor {
                kind: Kind::Int4,
                cols: 6,
                codes: vec![0x21, 0x43, 0x87, 0xfe, 0x10, 0x99],
                rows: vec![row; 2],
            },
            DraftTensor { kind: Kind::Exponentials, cols: 256, codes: table, rows: Vec::new() },
        ],
        widths: Vec::new(),
    }
}

fn kind(bytes: &[u8]) -> (ErrorKind, Spot) {
    let error = Image::parse(bytes).unwrap_err();
    assert!(!error.to_string().contains(char::is_control) && !error.to_string().is_empty());
    (error.kind(), error.spot())
}

/// What is wrong with a draft after a change.
fn refused(change: impl FnOnce(&mut Draft)) -> (ErrorKind, Spot) {
    let mut draft = draft();
    change(&mut draft);
    let error = draft.write().unwrap_err();
    (error.kind(), error.spot())
}

#[test]
fn what_was_written_is_read() {
    let draft = draft();
    let bytes = draft.write().unwrap();
    assert_eq!(bytes, draft.write().unwrap(), "the same bytes every time");
    let image = Image::parse(&bytes).unwrap();
    assert!(image.steps().eq(draft.steps.iter().copied()));
    assert_eq!((image.arena(), image.input(), image.output(), image.tensors()), (48, draft.input, draft.output, 2));
    let tensor = image.tensor(0).unwrap();
    assert_eq!((tensor.kind, tensor.rows, tensor.cols, tensor.row(1)), (Kind::Int4, 2, 6, &[0xfe, 0x10, 0x99][..]));
    assert!(tensor.numbers().eq(draft.tensors[0].rows.iter().copied()));
    assert_eq!((image.tensor(1).unwrap().table().len(), image.tensor(2).map(|t| t.rows)), (256, None));
}

#[test]
fn damaged_files_are_told_apart() {
    let bytes = draft().write().unwrap();
    let header = |kind| (kind, Spot::Header);
    let length = bytes.len() as u64;
    assert_eq!(kind(&bytes[..40]), header(ErrorKind::Length { needs: 64, has: 40 }));
    assert_eq!(kind(&bytes[..100]), header(ErrorKind::Length { needs: length, has: 100 }));
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(kind(&with(0, b'x')), header(ErrorKind::Magic));
    assert_eq!(kind(&with(4, 2)), header(ErrorKind::Version { major: 2 }));
    assert!(matches!(kind(&with(700, 99)), (ErrorKind::Checksum { .. }, Spot::Header)));
    // A later minor version is read.
    let mut later = with(6, 9);
    seal(&mut later);
    assert!(Image::parse(&later).is_ok());
    for (at, byte) in bytes.iter().enumerate() {
        let other = byte ^ 0x10;
        let minor = at == 6 || at == 7;
        assert_eq!(Image::parse(&with(at, other)).is_ok(), minor, "byte {at} changed");
    }
}

#[test]
fn sealed_lies_are_seen_and_cost_no_panic() {
    for draft in [draft(), narrow(Kind::Elastic), narrow(Kind::Sparse8), narrow(Kind::Sparse4)] {
        let bytes = draft.write().unwrap();
        let mut refused = 0;
        for at in 16..bytes.len() {
            for other in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = other;
                seal(&mut bytes);
                refused += usize::from(Image::parse(&bytes).is_err());
            }
        }
        assert!(refused > 300, "{refused}");
    }
}

#[test]
fn plans_stay_within_their_arena() {
    let beyond = |what, end| ErrorKind::Beyond { what, end, limit: 48 };
    let first = Spot::Step(0);
    assert_eq!(refused(|d| d.output.area.at = 47), (beyond("the output", 49), Spot::Header));
    assert_eq!(refused(|d| d.steps[0].input.at = 40), (beyond("its input", 58), first));
    assert_eq!(refused(|d| d.steps[1].output.at = 100), (beyond("its output", 108), Spot::Step(1)));
    assert_eq!(refused(|d| d.steps[0].output.at = 10), (ErrorKind::Overlap, first));
    let scratch = |at| {
        move |d: &mut Draft| {
            if let Work::Conv { scratch, .. } = &mut d.steps[0].work {
                *scratch = at;
            }
        }
    };
    assert_eq!(refused(scratch(44)), (beyond("its scratch", 50), first));
    assert_eq!(refused(scratch(24)), (ErrorKind::Overlap, first));
}

#[test]
fn numbers_that_cannot_be_are_named() {
    let field = |field, has| ErrorKind::Field { field, has };
    let unlike = |what, needs, has| ErrorKind::Unlike { what, needs, has };
    let first = Spot::Step(0);
    assert_eq!(refused(|d| d.steps[0].low = 101), (field("the least code", 101), first));
    assert_eq!(refused(|d| d.steps[0].output.shape = [2, 2, 1]), (unlike("rows", 1, 2), first));
    assert_eq!(refused(|d| d.steps[0].input.shape = [3, 2, 2]), (unlike("weights of a row", 4, 6), first));
    assert_eq!(refused(|d| d.steps[1].output.shape = [2, 2, 1]), (unlike("values", 8, 4), Spot::Step(1)));
    assert_eq!(refused(|d| d.input.scale = f32::NAN).1, Spot::Header);
    assert_eq!(refused(|d| d.tensors[0].rows[1].times.shift = 30), (field("a shift", 30), Spot::Tensor(0)));
    assert_eq!(refused(|d| d.tensors[0].rows[1].bias = i32::MAX), (ErrorKind::Sum { row: 1 }, Spot::Tensor(0)));
    let window = |change: fn(&mut Window)| {
        refused(|d| {
            if let Work::Conv { window, .. } = &mut d.steps[0].work {
                change(window);
            }
        })
    };
    assert_eq!(window(|w| w.stride = [0, 1]), (field("a stride", 0), first));
    assert_eq!(window(|w| w.stride = [4, 1]), (field("where the last window begins", 4), first));
    // More than the field of an entry holds.
    assert_eq!(window(|w| w.before = [300, 0]).0, ErrorKind::Narrow);
    let conv = |change: fn(&mut Work)| refused(|d| change(&mut d.steps[0].work));
    let other = |work: &mut Work| {
        if let Work::Conv { weights, .. } = work {
            *weights = 1;
        }
    };
    assert_eq!(conv(other), (ErrorKind::Kind(3), first));
    let none = |work: &mut Work| {
        if let Work::Conv { weights, .. } = work {
            *weights = 7;
        }
    };
    assert_eq!(conv(none), (unlike("tensors", 8, 2), first));
    let groups = |work: &mut Work| {
        if let Work::Conv { groups, .. } = work {
            *groups = 0;
        }
    };
    assert_eq!(conv(groups), (field("the number of groups", 0), first));
}

/// The same network with other weights: elastic ones of 2, 3 and 5 bits, or sparse ones of which five are kept.
fn narrow(kind: Kind) -> Draft {
    let mut draft = draft();
    let tensor = &mut draft.tensors[0];
    tensor.kind = kind;
    if kind == Kind::Elastic {
        draft.widths = vec![2, 3, 5];
        tensor.codes = vec![0x15, 0x3f, 0x2a, 0x01, 0x00, 0x3c, 0x11, 0x22, 0x33, 0x04];
        tensor.rows = vec![tensor.rows[0]; 6];
    } else {
        let kept: &[u8] = if kind == Kind::Sparse4 { &[0x21, 0x87, 0x09] } else { &[1, 2, 0x80, 0x7f, 3] };
        tensor.codes = [&[0b10_0110, 0b00_1001], kept].concat();
    }
    draft
}

#[test]
fn first_bytes_are_a_narrower_image() {
    let bytes = narrow(Kind::Elastic).write().unwrap();
    assert_eq!(bytes, narrow(Kind::Elastic).write().unwrap(), "the same bytes every time");
    let image = Image::parse(&bytes).unwrap();
    assert_eq!(bytes[4..8], [1, 0, 1, 0], "a reader of version 1.0 names the kind of tensor that it does not know");
    let cuts: Vec<(u8, usize)> = image.widths().collect();
    assert_eq!(cuts.iter().map(|cut| cut.0).collect::<Vec<_>>(), [2, 3, 5]);
    let wide = image.tensor(0).unwrap();
    let of = |plane: usize| wide.planes().nth(plane).unwrap();
    assert_eq!((wide.planes().count(), of(0), of(4)), (5, &[0x15, 0x3f][..], &[0x33, 0x04][..]));
    for len in 0..=bytes.len() {
        let cut = Image::parse(&bytes[..len]);
        let served = cuts.iter().find(|cut| cut.1 == len);
        assert_eq!(cut.is_ok(), served.is_some(), "{len} bytes");
        if let (Ok(cut), Some((width, _))) = (cut, served) {
            assert_eq!((cut.width(), cut.steps().len(), cut.tensors()), (Some(*width), 5, 2));
            assert!(cut.tensor(0).unwrap().planes().eq(wide.planes().take((*width).into())));
            assert_eq!(cut.at(5).is_some(), *width == 5);
        }
    }
    // What was cut off has a checksum of its own.
    let end = cuts[1].1;
    for at in 16..end {
        let mut cut = bytes[..end].to_vec();
        cut[at] ^= 0x10;
        assert!(Image::parse(&cut).is_err(), "byte {at} changed");
    }
    // The length and the checksum of the whole are not of the first bytes.
    let mut cut = bytes[..end].to_vec();
    cut[12] ^= 1;
    assert!(Image::parse(&cut).is_ok());
    cut[8] = 0;
    cut[9] = 0;
    assert_eq!(kind(&cut), (ErrorKind::Length { needs: 0, has: end as u64 }, Spot::Header));
}

/// What is wrong with an image of these weights when a field of its table of widths, or of its first tensor, is another.
fn refused_with(of: Kind, at: usize, number: u32) -> (ErrorKind, Spot) {
    let mut bytes = narrow(of).write().unwrap();
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    seal(&mut bytes);
    kind(&bytes)
}

#[test]
fn widths_that_cannot_be_are_named() {
    let of = |at: usize, number| refused_with(Kind::Elastic, at, number);
    let (tensor, table) = (64 + 5 * 64, 64 + 5 * 64 + 2 * 32);
    let header = |kind| (kind, Spot::Header);
    let field = |field, has| ErrorKind::Field { field, has };
    let end = Image::parse(&narrow(Kind::Elastic).write().unwrap()).unwrap().widths().last().unwrap().1 as i64;
    assert_eq!(of(28, 9), header(field("the number of widths", 9)));
    assert_eq!(of(28, 0), (ErrorKind::Field { field: "the number of widths", has: 0 }, Spot::Step(0)));
    assert_eq!(of(28, 2).0, ErrorKind::Unlike { what: "bytes of all widths", needs: end as u64, has: end as u64 - 48 });
    assert_eq!(of(table, 1), header(field("a width", 1)));
    assert_eq!(of(table + 32, 2), header(field("a width", 2)));
    assert_eq!(of(table + 64, 9), header(field("a width", 9)));
    assert_eq!(of(table + 16, 1 << 30), header(field("the end of a width", 1 << 30)));
    assert!(matches!(of(table + 4, 1 << 20), (ErrorKind::Beyond { what: "its rows", .. }, Spot::Step(0))));
    assert!(matches!(of(table + 8, u32::MAX), (ErrorKind::Beyond { what: "its planes", .. }, Spot::Step(0))));
    assert!(matches!(of(table + 64 + 12, u32::MAX), (ErrorKind::Beyond { what: "its planes", .. }, Spot::Step(0))));
    assert!(matches!(of(tensor + 12, u32::MAX), (ErrorKind::Beyond { what: "its planes", .. }, Spot::Step(0))));
    // A narrower width would reach behind its end.
    assert!(matches!(of(table + 4, end as u32 - 32), (ErrorKind::Beyond { what: "its rows", .. }, Spot::Step(0))));
    // Sums are larger the more bits weights have.
    let mut draft = narrow(Kind::Elastic);
    draft.tensors[0].rows[5].bias = i32::MAX - 6 * 128 * 31;
    assert!(draft.write().is_ok());
    draft.tensors[0].rows[5].bias += 1;
    assert_eq!(draft.write().unwrap_err().kind(), ErrorKind::Sum { row: 1 });
}

#[test]
fn kept_codes_are_as_many_as_bits_say() {
    for of in [Kind::Sparse8, Kind::Sparse4] {
        let bytes = narrow(of).write().unwrap();
        let image = Image::parse(&bytes).unwrap();
        let tensor = image.tensor(0).unwrap();
        assert_eq!(
            (tensor.kind, tensor.row(1), tensor.kept().len()),
            (of, &[0b1001][..], if of == Kind::Sparse4 { 3 } else { 5 })
        );
        let change = |change: fn(&mut Vec<u8>)| {
            let mut draft = narrow(of);
            change(&mut draft.tensors[0].codes);
            let error = draft.write().unwrap_err();
            (error.kind(), error.spot())
        };
        let has = tensor.kept().len() as u64;
        let unlike = |needs, has| (ErrorKind::Unlike { what: "bytes of kept codes", needs, has }, Spot::Tensor(0));
        assert_eq!(change(|codes| codes[0] = 0xff >> 2), unlike(if of == Kind::Sparse4 { 4 } else { 8 }, has));
        assert_eq!(change(|codes| codes.push(1)), unlike(has, has + 1));
        let behind = ErrorKind::Field { field: "the bits behind a row", has: 1 };
        assert_eq!(change(|codes| codes[1] |= 0x40), (behind, Spot::Tensor(0)));
        let kept = 64 + 5 * 64 + 20;
        assert!(matches!(
            refused_with(of, kept, u32::MAX),
            (ErrorKind::Beyond { what: "its codes", .. }, Spot::Step(0))
        ));
    }
}

#[test]
fn tensors_do_not_share_bytes() {
    let mut draft = draft();
    let table = draft.tensors.remove(1);
    draft.tensors.extend(vec![table; 3]);
    let mut bytes = draft.write().unwrap();
    let entry = 64 + 5 * 64 + 32;
    for nth in 1..3 {
        bytes.copy_within(entry..entry + 32, entry + 32 * nth);
    }
    bytes.truncate(bytes.len() - 2 * 1024);
    seal(&mut bytes);
    assert!(matches!(kind(&bytes), (ErrorKind::Beyond { what: "all tensors so far", .. }, Spot::Tensor(2))));
}
