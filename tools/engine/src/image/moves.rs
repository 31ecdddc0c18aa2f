//! Nodes that only move values: found by what they do to numbered ones.

use niwaki_model::{Context, Inputs, Node, Pool, Tensor};

/// Operators that may be such.
const NAMES: [&str; 8] = ["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Slice", "Pad"];

/// The most values that are numbered: single floats count so far.
const MOST: usize = 1 << 24;

/// The most bytes that a node may make of them.
const LIMIT: u64 = 1 << 28;

/// What a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// All values stay in order.
    Same,
    /// Every so many rows and columns, from the first on.
    Every([usize; 2]),
    /// Channels of the input, by number, and channels of zeros.
    Channels(Vec<Option<usize>>),
}

/// What a node makes of an input of this shape, `[1, C, H, W]` or `[1, N]`; none where it is no such node.
pub(crate) fn of(node: &Node, shape: &[usize], constants: &[Option<&Tensor>]) -> Option<Move> {
    let elements: usize = shape.iter().product();
    if !NAMES.contains(&node.op.name()) || elements >= MOST {
        return None;
    }
    let numbered = Tensor::of(shape, (1..=elements).map(|nth| nth as f32).collect())?;
    let inputs = std::iter::once(Some(numbered)).chain(constants.iter().skip(1).map(|tensor| tensor.cloned()));
    let pool = Pool::default();
    let made = node.op.run(&mut Inputs::new(inputs.collect()), &Context::new(LIMIT, &pool)).ok()?;
    let made = made.first()?;
    let values: Vec<usize> = made.get::<f32>()?.iter().map(|x| *x as usize).collect();
    if values.iter().copied().eq(1..=elements) {
        return Some(Move::Same);
    }
    let (&[_, c, h, w], &[_, channels, rows, cols]) = (shape.first_chunk::<4>()?, made.shape().first_chunk::<4>()?);
    channels_of(&values, [c, h * w], channels).or_else(|| {
        let apart = |at: usize| values.get(at)?.checked_sub(*values.first()?);
        let down = if rows > 1 { apart(cols)?.checked_div(w)? } else { 1 };
        let every = [down, if cols > 1 { apart(1)? } else { 1 }];
        let place = |c: usize, y: usize, x: usize| (c * h + y * every[0]) * w + x * every[1] + 1;
        let places = (0..channels)
            .flat_map(|c| (0..rows).flat_map(move |y| (0..cols).map(move |x| (c, y, x))))
            .map(|(c, y, x)| place(c, y, x));
        (channels == c && values.iter().copied().eq(places)).then_some(Move::Every(every))
    })
}

/// Which channels of the input those of the output are; none where they are cut up.
fn channels_of(values: &[usize], [channels, plane]: [usize; 2], made: usize) -> Option<Move> {
    if values.len() != made * plane {
        return None;
    }
    let one = |values: &[usize]| {
        if values.iter().all(|value| *value == 0) {
            return Some(None);
        }
        let channel = (values[0].checked_sub(1)?) / plane;
        let whole = values.iter().copied().eq(channel * plane + 1..=(channel + 1) * plane);
        (whole && channel < channels).then_some(Some(channel))
    };
    values.chunks(plane.max(1)).map(one).collect::<Option<_>>().map(Move::Channels)
}
