//! An image as a whole.

use crate::check;
use crate::checksum::crc32;
use crate::error::{Error, ErrorKind, Spot};
use crate::fields::Fields;
use crate::step::{Area, Step};
use crate::tensor::{Entry, Kind, Tensor};

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
    arena: usize,
    input: Place,
    output: Place,
}

impl<'a> Image<'a> {
    /// Reads an image, and checks all of it. That takes time proportional to its length.
    ///
    /// # Errors
    ///
    /// Bytes that are no image of version 1, or were cut or changed; a plan that reads or writes beyond its arena or its
    /// tensors, or whose sums could leave 32 bits.
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
        if u64::from(length) != bytes.len() as u64 {
            return Err(header(ErrorKind::Length { needs: length.into(), has: bytes.len() as u64 }));
        }
        let has = crc32(bytes.get(CHECKED..).unwrap_or(&[]));
        if has != says {
            return Err(header(ErrorKind::Checksum { says, has }));
        }
        let [steps, tensors, arena] = [(); 3].map(|()| fields.count());
        fields.skip::<4>();
        let (input, output) = (Place::read(&mut fields), Place::read(&mut fields));
        let (steps, from) = entries::<64>(bytes, "the plan", HEADER, steps).map_err(header)?;
        let (tensors, _) = entries::<32>(bytes, "the table", from, tensors).map_err(header)?;
        let image = Self { bytes, steps, tensors, arena, input, output };
        check::image(&image)?;
        Ok(image)
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
        let Entry { rows, cols, codes, numbers, .. } = entry;
        let kind = Kind::of(entry.kind).ok_or(wrong(ErrorKind::Kind(entry.kind)))?;
        let bytes = rows as u64 * kind.row_bytes(cols) as u64;
        let codes = self.part("its codes", codes, bytes).map_err(wrong)?;
        let each = if kind == Kind::Exponentials { 0 } else { 12 };
        let numbers = self.part("its rows", numbers, rows as u64 * each).map_err(wrong)?.as_chunks().0;
        Ok(Tensor { kind, rows, cols, codes, numbers })
    }

    /// Bytes of the file.
    fn part(&self, what: &'static str, from: usize, bytes: u64) -> Result<&'a [u8], ErrorKind> {
        let end = (from as u64).saturating_add(bytes);
        let part = usize::try_from(end).ok().and_then(|end| self.bytes.get(from..end));
        part.ok_or(ErrorKind::Beyond { what, end, limit: self.bytes.len() as u64 })
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
