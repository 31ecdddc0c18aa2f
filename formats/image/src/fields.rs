//! Numbers of an entry, one after the other, little-endian.

/// What is still to be read of an entry. Past its end all is 0.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

macro_rules! read {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $bytes:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&mut self) -> $type {
            <$type>::from_le_bytes(self.take::<$bytes>())
        }
    )*};
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => [0; N],
        }
    }

    read! {
        u8: u8, 1;
        i8: i8, 1;
        u16: u16, 2;
        u32: u32, 4;
        i32: i32, 4;
        f32: f32, 4;
    }

    /// Passes over bytes.
    pub(crate) fn skip<const N: usize>(&mut self) {
        self.take::<N>();
    }

    /// A place or a count, as this machine counts.
    pub(crate) fn count(&mut self) -> usize {
        self.u32() as usize
    }

    /// Rows, columns and channels, or the two sides of a window.
    pub(crate) fn sizes<const N: usize>(&mut self) -> [usize; N] {
        let mut all = [0; N];
        all.iter_mut().for_each(|size| *size = usize::from(self.u16()));
        all
    }
}
