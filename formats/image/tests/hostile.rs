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
    let bytes = draft().write().unwrap();
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
