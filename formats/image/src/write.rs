//! Writes images.

use alloc::vec::Vec;

use crate::checksum::crc32;
use crate::error::{Error, ErrorKind, Spot};
use crate::image::{CHECKED, HEADER, Image, MAGIC, MAJOR, Place};
use crate::layer::Layer;
use crate::step::{ADD, AVERAGE_POOL, Area, CONV, MAX_POOL, ONTO, Onto, RESCALE, SOFTMAX, Step, Times, Window, Work};
use crate::tensor::{Kind, PLANES, Row};

/// Codes and numbers begin at multiples of this.
const ALIGNMENT: usize = 16;

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftTensor {
    /// What it holds.
    pub kind: Kind,
    /// Weights of a row.
    pub cols: usize,
    /// The codes as they will stand, row after row; of elastic ones plane after plane, the most significant first; of sparse ones the bits of all rows,
    /// then the kept codes.
    pub codes: Vec<u8>,
    /// The numbers of each row; of elastic ones those of the narrowest width, then those of the next. None of tables, which have
    /// one row.
    pub rows: Vec<Row>,
}

/// What is to become an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Bytes of the arena.
    pub arena: usize,
    /// What goes in.
    pub input: Place,
    /// What comes out.
    pub output: Place,
    /// The plan.
    pub steps: Vec<Step>,
    /// The tensors that steps name by number.
    pub tensors: Vec<DraftTensor>,
    /// The widths at which elastic tensors are served, narrowest first; empty where there are no such tensors. These have as many
    /// planes as the widest has bits.
    pub widths: Vec<u8>,
}

impl DraftTensor {
    /// Rows, where numbers of them are for so many widths.
    fn count(&self, widths: usize) -> usize {
        match self.kind {
            Kind::Exponentials => 1,
            Kind::Elastic => self.rows.len().checked_div(widths).unwrap_or(0),
            _ => self.rows.len(),
        }
    }
}

impl Draft {
    /// The bytes of the image, which [`Image::parse`] accepts. The same draft gives the same bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Image::parse`]; a number that its field does not hold.
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        let mut pen = Pen(Vec::new());
        pen.0.extend(MAGIC);
        pen.u16(MAJOR.into());
        let first = |kind: Kind| matches!(kind, Kind::Int8 | Kind::Int4 | Kind::Exponentials);
        pen.u16(usize::from(!self.tensors.iter().all(|tensor| first(tensor.kind))));
        pen.zeros(4 + 4);
        for count in [self.steps.len(), self.tensors.len(), self.arena, self.widths.len()] {
            pen.u32(count);
        }
        pen.place(&self.input);
        pen.place(&self.output);
        self.steps.iter().for_each(|step| pen.step(step));
        let end = self.table(&mut pen);
        self.layers(&mut pen, end);
        for tensor in self.tensors.iter().filter(|tensor| tensor.kind != Kind::Elastic) {
            pen.align();
            pen.0.extend(&tensor.codes);
            pen.align();
            tensor.rows.iter().for_each(|row| pen.row(row));
        }
        pen.align();
        self.planes(&mut pen);
        seal(&mut pen.0);
        self.check(&Image::parse(&pen.0)?)?;
        Ok(pen.0)
    }

    /// Entries of tensors; where what all widths share ends.
    fn table(&self, pen: &mut Pen) -> usize {
        let mut at = HEADER + 64 * self.steps.len() + 32 * (self.tensors.len() + self.widths.len());
        // In a plane of all tensors, and among the numbers of a width.
        let (mut plane, mut number) = (0, 0);
        for tensor in &self.tensors {
            let rows = tensor.count(self.widths.len());
            pen.0.extend([tensor.kind.code(), 0, 0, 0]);
            let (codes, numbers) = if tensor.kind == Kind::Elastic {
                let found = (plane, number);
                plane += rows * tensor.kind.row_bytes(tensor.cols);
                number += 12 * rows;
                found
            } else {
                let codes = at.next_multiple_of(ALIGNMENT);
                let numbers = (codes + tensor.codes.len()).next_multiple_of(ALIGNMENT);
                at = numbers + 12 * tensor.rows.len();
                (codes, numbers)
            };
            let bits = rows * tensor.kind.row_bytes(tensor.cols);
            let kept = if tensor.kind.sparse() { tensor.codes.len().saturating_sub(bits) } else { 0 };
            [rows, tensor.cols, codes, numbers, kept].into_iter().for_each(|count| pen.u32(count));
            pen.zeros(8);
        }
        at.next_multiple_of(ALIGNMENT)
    }

    fn elastic(&self) -> impl Iterator<Item = &DraftTensor> {
        self.tensors.iter().filter(|tensor| tensor.kind == Kind::Elastic)
    }

    /// Entries of widths, the first of which begins at `at`.
    fn layers(&self, pen: &mut Pen, mut at: usize) {
        let rows: usize = self.elastic().map(|tensor| tensor.count(self.widths.len())).sum();
        let bytes = |tensor: &DraftTensor| tensor.count(self.widths.len()) * tensor.kind.row_bytes(tensor.cols);
        let plane: usize = self.elastic().map(bytes).sum();
        let mut before = 0;
        for width in &self.widths {
            let planes = (at + 12 * rows).next_multiple_of(ALIGNMENT);
            let added = usize::from(width.saturating_sub(before));
            let end = (planes + added * plane + 4).next_multiple_of(ALIGNMENT);
            pen.0.extend([*width, 0, 0, 0]);
            [at, planes, plane, end].into_iter().for_each(|place| pen.u32(place));
            pen.zeros(12);
            (before, at) = (*width, end);
        }
    }

    /// What each width adds, and room for its checksum.
    fn planes(&self, pen: &mut Pen) {
        let mut before = 0;
        for (nth, width) in self.widths.iter().enumerate() {
            for tensor in self.elastic() {
                let rows = tensor.count(self.widths.len());
                tensor.rows.iter().skip(nth * rows).take(rows).for_each(|row| pen.row(row));
            }
            pen.align();
            for plane in before..usize::from(*width) {
                for tensor in self.elastic() {
                    let bytes = tensor.count(self.widths.len()) * tensor.kind.row_bytes(tensor.cols);
                    pen.0.extend(tensor.codes.iter().skip(plane * bytes).take(bytes));
                }
            }
            pen.zeros(4);
            pen.align();
            before = usize::from(*width);
        }
    }

    /// Refuses numbers that the fields of an entry do not hold.
    fn check(&self, image: &Image<'_>) -> Result<(), Error> {
        let narrow = |spot| Error::new(ErrorKind::Narrow, spot);
        let header = (image.arena(), image.input(), image.output()) == (self.arena, self.input, self.output);
        let at = image.steps().zip(&self.steps).position(|(read, step)| read != *step);
        match at {
            Some(at) => Err(narrow(Spot::Step(at))),
            None if header => Ok(()),
            None => Err(narrow(Spot::Header)),
        }
    }
}

/// Puts their length and their checksums into the bytes of an image.
pub fn seal(bytes: &mut [u8]) {
    put(bytes, 8, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let count = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes);
    let [steps, tensors, widths] = [16, 20, 28].map(|at| count(at) as usize);
    let from = steps.saturating_mul(64).saturating_add(tensors.saturating_mul(32)).saturating_add(HEADER);
    for nth in 0..widths.min(PLANES) {
        let at = from.saturating_add(32 * nth);
        let entry = bytes.get(at..).and_then(|entry| entry.first_chunk::<32>());
        let sum = entry.and_then(|entry| Layer::read(entry).end.checked_sub(4));
        if let Some(sum) = sum.filter(|sum| *sum >= CHECKED) {
            put(bytes, sum, crc32(bytes.get(CHECKED..sum).unwrap_or_default()));
        }
    }
    put(bytes, 12, crc32(bytes.get(CHECKED..).unwrap_or_default()));
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(4)) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// Writes numbers one after the other. One that does not fit its field is another there, and the checks that
/// follow see it.
struct Pen(Vec<u8>);

impl Pen {
    fn u16(&mut self, number: usize) {
        self.0.extend(u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
    }

    fn u32(&mut self, number: usize) {
        self.0.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn i32(&mut self, number: i32) {
        self.0.extend(number.to_le_bytes());
    }

    fn zeros(&mut self, count: usize) {
        self.0.resize(self.0.len() + count, 0);
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn place(&mut self, Place { area, zero, scale }: &Place) {
        self.u32(area.at);
        area.shape.iter().for_each(|size| self.u16(*size));
        self.0.extend([*zero as u8, 0]);
        self.0.extend(scale.to_le_bytes());
    }

    fn row(&mut self, Row { bias, times: Times { multiplier, shift } }: &Row) {
        self.i32(*bias);
        self.i32(*multiplier);
        self.0.extend([*shift, 0, 0, 0]);
    }

    fn step(&mut self, step: &Step) {
        let none = Onto { zero: 0, times: 0 };
        let no_times = Times { multiplier: 0, shift: 0 };
        let times = |multiplier| Times { multiplier, shift: 0 };
        // What it does, where a row is unpacked, its tensor, its groups, its factor, what is added.
        let (operation, scratch, tensor, groups, factor, onto) = match step.work {
            Work::Conv { groups, weights, scratch, onto, .. } => (CONV, scratch, weights, groups, no_times, onto),
            Work::MaxPool(_) => (MAX_POOL, 0, 0, 0, no_times, None),
            Work::AveragePool { times, .. } => (AVERAGE_POOL, 0, 0, 0, times, None),
            Work::Add { times: by, onto } => (ADD, 0, 0, 0, times(by), Some(onto)),
            Work::Rescale { times: by } => (RESCALE, 0, 0, 0, times(by), None),
            Work::Softmax { table } => (SOFTMAX, 0, table, 0, no_times, None),
        };
        let flags = if onto.is_some() { ONTO } else { 0 };
        let onto = onto.unwrap_or(none);
        let codes = [step.low, step.high, step.input_zero, step.output_zero, onto.zero].map(|code| code as u8);
        self.0.extend([operation, flags]);
        self.0.extend(codes);
        self.0.extend([factor.shift]);
        for place in [step.input.at, step.output.at, scratch, tensor] {
            self.u32(place);
        }
        let sizes = |Area { shape, .. }: Area| shape;
        for size in sizes(step.input).into_iter().chain(sizes(step.output)) {
            self.u16(size);
        }
        self.window(step.window());
        self.u16(groups);
        self.i32(factor.multiplier);
        self.i32(onto.times);
        self.zeros(8);
    }

    fn window(&mut self, window: Option<&Window>) {
        let none = Window { kernel: [0; 2], stride: [0; 2], dilation: [0; 2], before: [0; 2] };
        let Window { kernel, stride, dilation, before } = window.unwrap_or(&none);
        kernel.iter().for_each(|size| self.u16(*size));
        let small = |size: &usize| u8::try_from(*size).unwrap_or(0);
        self.0.extend([stride, dilation, before].into_iter().flatten().map(small));
    }
}
