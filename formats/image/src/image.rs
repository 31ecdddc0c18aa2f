//! An image as a whole.

use core::ops::Range;

use crate::check;
use crate::checksum::crc32;
use crate::error::{Error, ErrorKind, Spot};
use crate::fields::Fields;
use crate::layer::Layer;
use crate::step::{Area, Step};
use crate::tensor::{Entry, Kind, PLANES, Tensor};

/// How images begin.
pub(crate) const MAGIC: [u8; 4] = *b"niwk";
/// The version that is read and written.
pub(crate) const MAJOR: u16 = 1;
/// Bytes before the steps.
pub(crate) const HEADER: usize = 64;
/// Where bytes begin that the checksum is of.
pub(crate) const CHECKED: usize = 16;

/// What goes in, or comes out: where it lies, and what its codes mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Where in the arena.
    pub area: Area,
    /// The code of 0.
    pub zero: i8,
    /// What one step of its codes is worth.
    pub scale: f32,
}

impl Place {
    fn read(fields: &mut Fields<'_>) -> Self {
        let at = fields.count();
        let area = Area { at, shape: fields.sizes() };
        let zero = fields.i8();
        fields.skip::<1>();
        Self { area, zero, scale: fields.f32() }
    }
}

/// A device image, checked; it borrows the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    steps: &'a [[u8; 64]],
    tensors: &'a [[u8; 32]],
    /// The widths that these bytes serve.
    layers: &'a [[u8; 32]],
    arena: usize,
    input: Place,
    output: Place,
}

impl<'a> Image<'a> {
    /// Reads an image, and checks all of it. That takes time proportional to its length.
    ///
    /// Where it serves several widths, the bytes may end where those of a width do: see [`widths`](Self::widths).
    ///
    /// # Errors
    ///
    /// Bytes that are no image of version 1, or were cut elsewhere or changed; a plan that reads or writes beyond its arena or
    /// its tensors, or whose sums could leave 32 bits.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let header = |kind| Error::new(kind, Spot::Header);
        let short = ErrorKind::Length { needs: HEADER as u64, has: bytes.len() as u64 };
        let head = bytes.first_chunk::<HEADER>().ok_or(header(short))?;
        let mut fields = Fields(head);
        if [(); 4].map(|()| fields.u8()) != MAGIC {
            return Err(header(ErrorKind::Magic));
        }
        let major = fields.u16();
        if major != MAJOR {
            return Err(header(ErrorKind::Version { major }));
        }
        fields.skip::<2>();
        let (length, says) = (fields.u32(), fields.u32());
        let [steps, tensors, arena, layers] = [(); 4].map(|()| fields.count());
        let (input, output) = (Place::read(&mut fields), Place::read(&mut fields));
        // Of bytes that were cut off or changed nothing else is said.
        let whole = u64::from(length) == bytes.len() as u64;
        if whole {
            matches(says, bytes).map_err(header)?;
        } else if layers == 0 || bytes.len() > length as usize {
            return Err(header(ErrorKind::Length { needs: length.into(), has: bytes.len() as u64 }));
        }
        if layers > PLANES {
            return Err(header(ErrorKind::Field { field: "the number of widths", has: layers as i64 }));
        }
        let (steps, from) = entries::<64>(bytes, "the plan", HEADER, steps).map_err(header)?;
        let (tensors, from) = entries::<32>(bytes, "the table", from, tensors).map_err(header)?;
        let (layers, from) = entries::<32>(bytes, "the table of widths", from, layers).map_err(header)?;
        let layers = served(layers, bytes, from..length as usize).map_err(header)?;
        let image = Self { bytes, steps, tensors, layers, arena, input, output };
        check::image(&image)?;
        Ok(image)
    }

    /// Bits of a weight of elastic tensors; none where there are none.
    pub fn width(&self) -> Option<u8> {
        self.layers.last().map(|bytes| Layer::read(bytes).width)
    }

    /// The widths that these bytes serve, narrowest first, and how many of the first bytes are an image of that width.
    pub fn widths(&self) -> impl ExactSizeIterator<Item = (u8, usize)> + 'a {
        self.layers.iter().map(|bytes| {
            let Layer { width, end, .. } = Layer::read(bytes);
            (width, end)
        })
    }

    /// The same network at another width; none where these bytes do not serve it.
    pub fn at(&self, width: u8) -> Option<Self> {
        let last = self.widths().position(|(served, _)| served == width)?;
        Some(Self { layers: self.layers.get(..=last)?, ..*self })
    }

    /// Bytes that running it takes, beside this image and the stack.
    pub fn arena(&self) -> usize {
        self.arena
    }

    /// What goes in.
    pub fn input(&self) -> Place {
        self.input
    }

    /// What comes out.
    pub fn output(&self) -> Place {
        self.output
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The plan, in order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = Step> + 'a {
        // All of them were read once; what cannot be read does nothing.
        self.steps.iter().map(|bytes| Step::read(bytes).unwrap_or(check::NOTHING))
    }

    /// The entries of the plan as they stand.
    pub(crate) fn entries(&self) -> &'a [[u8; 64]] {
        self.steps
    }

    /// How many tensors there are.
    pub fn tensors(&self) -> usize {
        self.tensors.len()
    }

    /// A tensor, by number; none for one that is not there, or that a later version knows.
    pub fn tensor(&self, at: usize) -> Option<Tensor<'a>> {
        self.open(at).ok()
    }

    /// A tensor, by number.
    pub(crate) fn open(&self, at: usize) -> Result<Tensor<'a>, Error> {
        let wrong = |kind| Error::new(kind, Spot::Tensor(at));
        let absent = ErrorKind::Unlike { what: "tensors", needs: at as u64 + 1, has: self.tensors.len() as u64 };
        let entry = Entry::read(self.tensors.get(at).ok_or(wrong(absent))?);
        let Entry { rows, cols, codes, numbers, kept, .. } = entry;
        let kind = Kind::of(entry.kind).ok_or(wrong(ErrorKind::Kind(entry.kind)))?;
        if kind == Kind::Elastic {
            return self.elastic(entry).map_err(wrong);
        }
        let bytes = rows as u64 * kind.row_bytes(cols) as u64;
        // What all widths have is there with the first of them.
        let limit = self.widths().next().map_or(self.bytes.len(), |(_, end)| end);
        // Kept codes follow the bits of all rows.
        let kept = if kind.sparse() { kept } else { 0 };
        let codes = self.part("its codes", codes, bytes + kept as u64, limit).map_err(wrong)?;
        let (codes, kept) = codes.split_at_checked(bytes as usize).unwrap_or((codes, &[]));
        let each = if kind == Kind::Exponentials { 0 } else { 12 };
        let numbers = self.part("its rows", numbers, rows as u64 * each, limit).map_err(wrong)?.as_chunks().0;
        Ok(Tensor { kind, rows, cols, codes, numbers, planes: [&[]; PLANES], width: 0, kept })
    }

    /// A tensor of bit-planes, at the width of this image.
    fn elastic(&self, Entry { rows, cols, codes, numbers, .. }: Entry) -> Result<Tensor<'a>, ErrorKind> {
        let kind = Kind::Elastic;
        let mut tensor =
            Tensor { kind, rows, cols, codes: &[], numbers: &[], planes: [&[]; PLANES], width: 0, kept: &[] };
        let bytes = rows as u64 * kind.row_bytes(cols) as u64;
        for layer in self.layers.iter().map(Layer::read) {
            let before = usize::from(core::mem::replace(&mut tensor.width, layer.width));
            let part = |what, from: usize, more, bytes| self.part(what, from.saturating_add(more), bytes, layer.end);
            tensor.numbers = part("its rows", layer.numbers, numbers, rows as u64 * 12)?.as_chunks().0;
            let added = tensor.planes.iter_mut().take(layer.width.into()).skip(before);
            for (nth, plane) in added.enumerate() {
                let more = nth.saturating_mul(layer.plane).saturating_add(codes);
                *plane = part("its planes", layer.planes, more, bytes)?;
            }
        }
        match tensor.width {
            0 => Err(ErrorKind::Field { field: "the number of widths", has: 0 }),
            _ => Ok(tensor),
        }
    }

    /// Bytes of the file that end before a limit.
    fn part(&self, what: &'static str, from: usize, bytes: u64, limit: usize) -> Result<&'a [u8], ErrorKind> {
        let end = (from as u64).saturating_add(bytes);
        let part = usize::try_from(end).ok().filter(|end| *end <= limit).and_then(|end| self.bytes.get(from..end));
        part.ok_or(ErrorKind::Beyond { what, end, limit: limit as u64 })
    }
}

/// So many entries of `N` bytes, and where they end.
fn entries<'a, const N: usize>(
    bytes: &'a [u8],
    what: &'static str,
    from: usize,
    count: usize,
) -> Result<(&'a [[u8; N]], usize), ErrorKind> {
    let end = from as u64 + count as u64 * N as u64;
    let all = usize::try_from(end).ok().and_then(|end| Some((bytes.get(from..end)?, end)));
    match all {
        Some((all, end)) => Ok((all.as_chunks().0, end)),
        None => Err(ErrorKind::Beyond { what, end, limit: bytes.len() as u64 }),
    }
}

/// That bytes behind the header have a checksum.
fn matches(says: u32, bytes: &[u8]) -> Result<(), ErrorKind> {
    let has = crc32(bytes.get(CHECKED..).unwrap_or(&[]));
    if has == says { Ok(()) } else { Err(ErrorKind::Checksum { says, has }) }
}

/// The widths, of all that there are, that these bytes serve; the whole image goes on behind its tables for `rest`.
fn served<'a>(all: &'a [[u8; 32]], bytes: &[u8], rest: Range<usize>) -> Result<&'a [[u8; 32]], ErrorKind> {
    check::layers(all, &rest)?;
    if bytes.len() == rest.end {
        return Ok(all);
    }
    let last = all.iter().position(|layer| Layer::read(layer).end == bytes.len());
    let cut = ErrorKind::Length { needs: rest.end as u64, has: bytes.len() as u64 };
    let (body, says) = bytes.split_last_chunk::<4>().ok_or(cut)?;
    let served = last.and_then(|last| all.get(..=last)).ok_or(cut)?;
    matches(u32::from_le_bytes(*says), body)?;
    Ok(served)
}
