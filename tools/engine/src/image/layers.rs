//! Nodes with weights, pools, and nodes that move values.

use niwaki_image::{DraftTensor, Kind, ONE, Onto, Row, Times, Window, Work};
use niwaki_model::ops::conv::{Conv, Span};
use niwaki_model::ops::matmul::{Gemm, MatMul};
use niwaki_model::ops::normalize::BatchNormalization;
use niwaki_model::{Node, ValueId};

use super::graph::as_a;
use super::grid::{Grid, times};
use super::lower::{Done, Lowering, steps16};
use super::moves::{self, Move};
use super::plan::Held;
use super::weights::{Rows, bias};
use crate::error::{Error, ErrorKind};

/// A window of one place.
const ONE_PLACE: Window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], before: [0; 2] };

/// The window over rows and columns, and how many results there are; none for images of other dimensions.
fn window(spans: &[Span]) -> Option<(Window, [usize; 2])> {
    let [down, across] = spans else { return None };
    let both = |of: fn(&Span) -> usize| [of(down), of(across)];
    let window = Window {
        kernel: both(|span| span.kernel),
        stride: both(|span| span.stride),
        dilation: both(|span| span.dilation),
        before: both(|span| span.before),
    };
    Some((window, both(|span| span.output)))
}

/// A layer: its weights, and where its windows lie.
struct Layer {
    rows: Rows,
    window: Window,
    groups: usize,
    /// Rows and columns of the output.
    image: [usize; 2],
}

impl Lowering<'_> {
    /// A convolution.
    pub(super) fn conv(&mut self, at: usize, node: &Node, conv: &Conv, input: Held) -> Done {
        let Some(kernel) = self.ready.constant(node, 1) else { return Ok(Some(": weights that change")) };
        let [h, w, c] = input.shape;
        let spans = conv.windows(&[1, c, h, w], kernel.shape()).ok();
        let Some((window, image)) = spans.as_deref().and_then(window) else {
            return Ok(Some(": not of images of two dimensions"));
        };
        let rows = kernel.shape().first().copied().unwrap_or(0);
        let own = bias(&self.ready.graph, node.inputs.get(2).copied().flatten(), rows);
        let Some(rows) = own.and_then(|own| Rows::of_kernel(kernel, own)) else {
            return Ok(Some(": weights that are no single floats"));
        };
        self.layer(at, input, Layer { rows, window, groups: conv.groups(), image })
    }

    /// A linear layer.
    pub(super) fn linear(&mut self, at: usize, node: &Node, input: Held) -> Done {
        let Some(matrix) = self.ready.constant(node, 1) else { return Ok(Some(": weights that change")) };
        let [left, right, alpha, beta] = match (as_a::<Gemm>(node), as_a::<MatMul>(node)) {
            (Some(gemm), _) => {
                let flags = [gemm.transpose_left, gemm.transpose_right].map(|flag| f32::from(u8::from(flag)));
                [flags[0], flags[1], gemm.alpha, gemm.beta]
            }
            (_, Some(product)) => {
                let flags = [product.transpose_left, product.transpose_right].map(|flag| f32::from(u8::from(flag)));
                [flags[0], flags[1], product.alpha.unwrap_or(1.0), 1.0]
            }
            _ => return Ok(Some("")),
        };
        if left != 0.0 || self.ready.dims(node.inputs[0].unwrap_or(self.ready.graph.outputs()[0])).len() != 2 {
            return Ok(Some(": inputs that are no row"));
        }
        let turned = right == 0.0;
        let rows = matrix.shape().get(usize::from(turned)).copied().unwrap_or(0);
        let own = bias(&self.ready.graph, node.inputs.get(2).copied().flatten(), rows);
        let rows = own.and_then(|own| Rows::of_matrix(matrix, turned, input.shape, own));
        let Some(mut rows) = rows else { return Ok(Some(": weights that are no matrix of single floats")) };
        rows.weights.iter_mut().for_each(|w| *w *= alpha);
        rows.bias.iter_mut().for_each(|b| *b *= beta);
        self.layer(at, input.flat(), Layer { rows, window: ONE_PLACE, groups: 1, image: [1, 1] })
    }

    /// A normalization over fixed statistics: a weight and a bias for each channel.
    pub(super) fn norm(&mut self, at: usize, node: &Node, norm: &BatchNormalization, input: Held) -> Done {
        let [h, w, channels] = input.shape;
        let numbers = |place: usize| {
            let all = self.ready.constant(node, place)?.get::<f32>()?;
            (all.len() == channels).then_some(all)
        };
        let [Some(scale), Some(shift), Some(mean), Some(variance)] = [1, 2, 3, 4].map(numbers) else {
            return Ok(Some(": statistics that are no single floats"));
        };
        let mut rows = Rows { cols: 1, weights: Vec::new(), bias: Vec::new() };
        for (((scale, shift), mean), variance) in scale.iter().zip(shift).zip(mean).zip(variance) {
            let weight = f64::from(*scale) / (f64::from(*variance) + f64::from(norm.epsilon)).sqrt();
            rows.weights.push(weight as f32);
            rows.bias.push((f64::from(*shift) - f64::from(*mean) * weight) as f32);
        }
        self.layer(at, input, Layer { rows, window: ONE_PLACE, groups: channels, image: [h, w] })
    }

    /// What has weights, and what follows it.
    fn layer(&mut self, at: usize, input: Held, layer: Layer) -> Done {
        let Layer { mut rows, window, groups, image } = layer;
        let tail = self.tail(at, (rows.count(), Some(input)));
        if let Some(more) = bias(&self.ready.graph, tail.bias, rows.count()) {
            rows.bias.iter_mut().zip(more).for_each(|(bias, more)| *bias += more);
        }
        let named = |e: Error| e.of(&self.ready.node(at).name);
        let coded = rows.encode(self.codes, input.grid).map_err(named)?;
        let grid = self.grid(tail.value, coded.finest(input.grid), tail.onto.as_slice())?;
        let weights = self.plan.tensor(coded.tensor(&rows, input.grid, grid).map_err(named)?);
        let shape = [image[0], image[1], rows.count()];
        let onto = match tail.onto {
            Some(held) => Some(Onto { zero: held.grid.zero, times: steps16(held.grid, grid)? }),
            None => None,
        };
        let room = tail.onto.map(|held| held.room).unwrap_or_else(|| self.plan.room(shape));
        let output = Held { room, shape, grid };
        let work = Work::Conv { window, groups, weights, scratch: 0, onto };
        self.plan.step(input, output, grid.codes(tail.ends), work);
        self.held.insert(tail.value, output);
        Ok(None)
    }

    /// The largest under windows, or of each channel where there are none. The grid stays.
    pub(super) fn most(&mut self, at: usize, input: Held, spans: Option<Vec<Span>>) -> Done {
        let Some((window, image)) = self.whole_or(input, spans) else {
            return Ok(Some(": not of images of two dimensions"));
        };
        let tail = self.tail(at, (0, None));
        let shape = [image[0], image[1], input.shape[2]];
        let output = Held { room: self.plan.room(shape), shape, grid: input.grid };
        self.plan.step(input, output, input.grid.codes(tail.ends), Work::MaxPool(window));
        self.held.insert(tail.value, output);
        Ok(None)
    }

    /// The window of spans, or that over the whole image.
    fn whole_or(&self, input: Held, spans: Option<Vec<Span>>) -> Option<(Window, [usize; 2])> {
        match spans {
            Some(spans) => window(&spans),
            None => Some((Window { kernel: [input.shape[0], input.shape[1]], ..ONE_PLACE }, [1, 1])),
        }
    }

    /// The mean of each channel.
    pub(super) fn mean(&mut self, at: usize, input: Held) -> Done {
        self.average(at, input, None, false)
    }

    /// The mean under windows, or of each channel where there are none.
    pub(super) fn average(&mut self, at: usize, input: Held, spans: Option<Vec<Span>>, padding: bool) -> Done {
        // The last place of the last window; all windows are to count as many places.
        let last = |span: &Span| (span.output - 1) * span.stride + (span.kernel - 1) * span.dilation;
        let uneven = |span: &Span| match padding {
            true => last(span) >= span.before + span.input + span.after,
            false => span.before > 0 || last(span) >= span.input,
        };
        if spans.as_ref().is_some_and(|spans| spans.iter().any(uneven)) {
            return Ok(Some(": windows that count another number of places at the edge"));
        }
        let Some((window, image)) = self.whole_or(input, spans) else {
            return Ok(Some(": not of images of two dimensions"));
        };
        let tail = self.tail(at, (0, None));
        let share = f64::from(input.grid.scale) / (window.kernel[0] * window.kernel[1]) as f64;
        let grid = self.grid(tail.value, share * (1.0 + 2f64.powi(-20)), &[])?;
        let shape = [image[0], image[1], input.shape[2]];
        let output = Held { room: self.plan.room(shape), shape, grid };
        let what = || ErrorKind::Unsupported { what: "a mean that is coarser than its output".to_owned() };
        let times = times(share / f64::from(grid.scale)).ok_or_else(what)?;
        self.plan.step(input, output, grid.codes(tail.ends), Work::AveragePool { window, times });
        self.held.insert(tail.value, output);
        Ok(None)
    }

    /// Shares of classes.
    pub(super) fn softmax(&mut self, input: Held, value: ValueId) -> Done {
        let power = |below: u32| {
            let power = (-f64::from(below) * f64::from(input.grid.scale)).exp();
            (power * f64::from(ONE)).round() as u32
        };
        let codes = (0..256).flat_map(|below| power(below).to_le_bytes()).collect();
        let table = self.plan.tensor(DraftTensor { kind: Kind::Exponentials, cols: 256, codes, rows: Vec::new() });
        let grid = Grid { scale: 1.0 / 256.0, zero: -128 };
        let output = Held { room: self.plan.room(input.shape), shape: input.shape, grid };
        self.plan.step(input, output, (i8::MIN, i8::MAX), Work::Softmax { table });
        self.held.insert(value, output);
        Ok(None)
    }

    /// A node that only moves values.
    pub(super) fn moved(&mut self, node: &Node, input: Held, (from, value): (ValueId, ValueId)) -> Done {
        let constants: Vec<_> = (0..node.inputs.len()).map(|place| self.ready.constant(node, place)).collect();
        let shape = self.ready.shape(value).unwrap_or_default();
        let all = (i8::MIN, i8::MAX);
        let output = match moves::of(node, self.ready.dims(from), &constants) {
            None => return Ok(Some("")),
            Some(Move::Same) if shape == input.shape || shape == [1, 1, input.len()] => input,
            Some(Move::Same) => return Ok(Some(": only flattening")),
            Some(Move::Every(stride)) => {
                let output = Held { room: self.plan.room(shape), shape, grid: input.grid };
                self.plan.step(input, output, all, Work::MaxPool(Window { stride, ..ONE_PLACE }));
                output
            }
            Some(Move::Channels(which)) => {
                let weights = self.plan.tensor(choice(&which, input));
                let output = Held { room: self.plan.room(shape), shape, grid: input.grid };
                let work = Work::Conv { window: ONE_PLACE, groups: 1, weights, scratch: 0, onto: None };
                self.plan.step(input, output, all, work);
                output
            }
        };
        self.held.insert(value, output);
        Ok(None)
    }
}

/// Weights that choose channels: 64 of 64, so that codes come out as they went in.
fn choice(which: &[Option<usize>], input: Held) -> DraftTensor {
    let cols = input.shape[2];
    let codes = which.iter().flat_map(|from| (0..cols).map(move |col| if *from == Some(col) { 64 } else { 0 }));
    let row = |from: &Option<usize>| Row {
        bias: if from.is_some() { -64 * i32::from(input.grid.zero) } else { 0 },
        times: Times { multiplier: 1 << 30, shift: 36 },
    };
    DraftTensor { kind: Kind::Int8, cols, codes: codes.collect(), rows: which.iter().map(row).collect() }
}
