//! Reading numbers and texts from the front of a file.

use crate::error::{Error, ErrorKind};
use crate::value::{Array, Texts, Value, ValueType};

/// How deep arrays may be nested.
const DEEPEST: usize = 4;

/// A place in a file. Everything before it has been read.
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next byte is.
    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    /// How many bytes follow.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next bytes, which are `what`.
    pub(crate) fn take(&mut self, needs: u64, what: &'static str) -> Result<&'a [u8], Error> {
        let cut = || ErrorKind::Cut { what, at: self.at as u64, needs, has: self.left() as u64 };
        let end = usize::try_from(needs).ok().and_then(|n| self.at.checked_add(n)).ok_or_else(cut)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(bytes)
    }

    fn number<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let bytes = self.take(N as u64, what)?;
        // `take` gave as many as were asked for.
        Ok(bytes.try_into().unwrap_or([0; N]))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.number(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.number(what).map(u64::from_le_bytes)
    }

    /// A length, and so many bytes of UTF-8.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, Error> {
        let len = self.u64(what)?;
        let at = self.at();
        let bytes = self.take(len, what)?;
        str::from_utf8(bytes).map_err(|e| ErrorKind::Utf8 { what, at: at + e.valid_up_to() as u64 }.into())
    }

    fn value_type(&mut self) -> Result<ValueType, Error> {
        let at = self.at();
        let found = self.u32("its type")?;
        ValueType::from_id(found).ok_or_else(|| ErrorKind::ValueType { found, at }.into())
    }

    fn bool(&mut self) -> Result<bool, Error> {
        let at = self.at();
        match self.number("its value")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(ErrorKind::Bool { found, at }.into()),
        }
    }

    /// A type and a value of it.
    pub(crate) fn value(&mut self) -> Result<Value, Error> {
        const WHAT: &str = "its value";
        Ok(match self.value_type()? {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.number(WHAT)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.number(WHAT)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.number(WHAT)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.number(WHAT)?)),
            ValueType::U32 => Value::U32(self.u32(WHAT)?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.number(WHAT)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.number(WHAT)?)),
            ValueType::Bool => Value::Bool(self.bool()?),
            ValueType::Text => Value::Text(self.text("its text")?.to_owned()),
            ValueType::Array => Value::Array(self.array(1)?),
            ValueType::U64 => Value::U64(self.u64(WHAT)?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.number(WHAT)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.number(WHAT)?)),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Array, Error> {
        if depth > DEEPEST {
            return Err(ErrorKind::Nesting { max: DEEPEST }.into());
        }
        let element = self.value_type()?;
        let count = self.u64("its number of elements")?;
        // Nothing is reserved for elements that the file has no room for.
        let needs = count.saturating_mul(element.least_bytes() as u64);
        if needs > self.left() as u64 {
            return Err(ErrorKind::Cut { what: "its array", at: self.at(), needs, has: self.left() as u64 }.into());
        }
        Ok(match element {
            ValueType::U8 => Array::U8(self.take(count, "its array")?.to_vec()),
            ValueType::I8 => Array::I8(self.numbers(count, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(self.numbers(count, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(self.numbers(count, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(self.numbers(count, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(self.numbers(count, i32::from_le_bytes)?),
            ValueType::F32 => Array::F32(self.numbers(count, f32::from_le_bytes)?),
            ValueType::U64 => Array::U64(self.numbers(count, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(self.numbers(count, i64::from_le_bytes)?),
            ValueType::F64 => Array::F64(self.numbers(count, f64::from_le_bytes)?),
            ValueType::Bool => Array::Bool((0..count).map(|_| self.bool()).collect::<Result<_, _>>()?),
            ValueType::Array => Array::Array((0..count).map(|_| self.array(depth + 1)).collect::<Result<_, _>>()?),
            ValueType::Text => {
                let mut texts = Texts::new();
                for _ in 0..count {
                    texts.push(self.text("its text")?);
                }
                Array::Text(texts)
            }
        })
    }

    fn numbers<const N: usize, T>(&mut self, count: u64, read: fn([u8; N]) -> T) -> Result<Vec<T>, Error> {
        let bytes = self.take(count.saturating_mul(N as u64), "its array")?;
        Ok(bytes.as_chunks().0.iter().map(|chunk| read(*chunk)).collect())
    }
}
