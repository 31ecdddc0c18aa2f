//! CRC-32 as zip has it: polynomial 0x04c11db7, bits reversed, all ones before and after.

/// The remainders of four bits.
const TABLE: [u32; 16] = table();

const fn table() -> [u32; 16] {
    let mut table = [0; 16];
    let mut at = 0;
    while at < 16 {
        let mut x = at as u32;
        let mut bit = 0;
        while bit < 4 {
            x = if x & 1 == 1 { x >> 1 ^ 0xedb8_8320 } else { x >> 1 };
            bit += 1;
        }
        table[at] = x;
        at += 1;
    }
    table
}

/// The checksum of bytes.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let half = |crc: u32, bits: u32| {
        let at = ((crc ^ bits) & 15) as usize;
        crc >> 4 ^ TABLE.get(at).copied().unwrap_or(0)
    };
    !bytes.iter().fold(!0, |crc, byte| {
        let byte = u32::from(*byte);
        half(half(crc, byte), byte >> 4)
    })
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn the_check_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
