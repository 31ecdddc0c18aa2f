//! PNG and JPEG files as planes of bytes.
//!
//! Of PNG, palettes are looked up, samples of 16 bits keep their upper 8, and transparency is
//! dropped. JPEG is decoded without SIMD, so that pixels are the same on every machine; notes of
//! orientation are not followed. Colours become grey as in Pillow: `(19595 R + 38470 G + 7471 B
//! + 32768) / 65536`.

use std::io::Cursor;
use std::path::Path;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::dataset::fault::DataFault;
use crate::dataset::images::fault;
use crate::error::Error;

/// Pixels of a picture at most: 64 million, 192 MiB of colours.
const MOST: u64 = 1 << 26;

/// No byte of deflate unpacks to more than so many.
pub(super) const DEFLATE: u64 = 1032;

/// Sides of a picture at most.
const LONGEST: usize = 1 << 16;

/// No byte of JPEG holds more pixels than so many: a block of 64 takes a bit at least.
const ENTROPY: u64 = 1024;

/// A picture, channel after channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The first channel row by row, then the next.
    pub planes: Vec<u8>,
}

/// What the decoder of PNG says of the file at `path`.
pub(super) fn refused(error: &png::DecodingError, path: &Path) -> Error {
    fault(picture_fault(error), path)
}

fn picture_fault(error: &impl std::fmt::Display) -> DataFault {
    let text = error.to_string();
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    DataFault::Picture { why: line }
}

/// Decodes PNG or JPEG to one channel or, for any other number, three.
///
/// # Errors
///
/// [`DataFault::File`] for another format, [`DataFault::Limit`] for more than 64 million pixels,
/// and [`DataFault::Picture`] for what the decoder refuses: bytes that are missing or broken.
pub fn decode(bytes: &[u8], channels: usize) -> Result<Picture, DataFault> {
    let (pixels, samples, height, width) = match bytes {
        [0x89, b'P', b'N', b'G', ..] => png(bytes)?,
        [0xff, 0xd8, ..] => jpeg(bytes)?,
        _ => {
            let found = "is neither PNG nor JPEG".to_owned();
            return Err(DataFault::File { found, expected: "a picture of either format".to_owned() });
        }
    };
    let colours: Vec<&[u8]> = pixels.chunks_exact(samples).collect();
    let channels = if channels == 1 { 1 } else { 3 };
    let planes = match (channels, samples) {
        (1, 1 | 2) => colours.iter().map(|pixel| pixel[0]).collect(),
        (1, _) => colours.iter().map(|pixel| grey(pixel)).collect(),
        (_, 1 | 2) => (0..channels).flat_map(|_| colours.iter().map(|pixel| pixel[0])).collect(),
        _ => (0..channels).flat_map(|c| colours.iter().map(move |pixel| pixel[c])).collect(),
    };
    Ok(Picture { height, width, planes })
}

fn grey(pixel: &[u8]) -> u8 {
    let weighted = pixel.iter().zip([19_595u32, 38_470, 7471]).map(|(x, weight)| u32::from(*x) * weight);
    ((weighted.sum::<u32>() + 32_768) >> 16) as u8
}

fn check(height: usize, width: usize) -> Result<(), DataFault> {
    let found = height as u64 * width as u64;
    if found == 0 {
        return Err(DataFault::Empty);
    }
    if found > MOST {
        return Err(DataFault::Limit { what: "pixels", found, max: MOST });
    }
    Ok(())
}

/// Whether bytes may hold what their header promises, so that little makes no room for much.
fn enough(bytes: &[u8], needs: u64, most: u64) -> Result<(), DataFault> {
    if needs <= most * bytes.len() as u64 {
        return Ok(());
    }
    Err(DataFault::Picture { why: "it is too short for its size".to_owned() })
}

/// Pixels, samples of each, height and width.
type Decoded = (Vec<u8>, usize, usize, usize);

fn png(bytes: &[u8]) -> Result<Decoded, DataFault> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_limits(png::Limits { bytes: 1 << 26 });
    let mut reader = decoder.read_info().map_err(|e| picture_fault(&e))?;
    let (height, width) = (reader.info().height as usize, reader.info().width as usize);
    check(height, width)?;
    enough(bytes, reader.info().raw_bytes() as u64, DEFLATE)?;
    let size = reader.output_buffer_size().unwrap_or(usize::MAX);
    if size as u64 > 4 * MOST {
        return Err(DataFault::Limit { what: "bytes of pixels", found: size as u64, max: 4 * MOST });
    }
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|e| picture_fault(&e))?;
    // The checksums at the end are part of the file.
    reader.finish().map_err(|e| picture_fault(&e))?;
    pixels.truncate(frame.buffer_size());
    Ok((pixels, frame.color_type.samples(), height, width))
}

fn jpeg(bytes: &[u8]) -> Result<Decoded, DataFault> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_use_unsafe(false)
        .set_max_width(LONGEST)
        .set_max_height(LONGEST);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| picture_fault(&e))?;
    let (width, height) = decoder.dimensions().ok_or(DataFault::Empty)?;
    check(height, width)?;
    enough(bytes, height as u64 * width as u64, ENTROPY)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    decoder.set_options(options.jpeg_set_out_colorspace(if grey { ColorSpace::Luma } else { ColorSpace::RGB }));
    let pixels = decoder.decode().map_err(|e| picture_fault(&e))?;
    let samples = if grey { 1 } else { 3 };
    if pixels.len() != height * width * samples {
        let (found, expected) = (pixels.len(), height * width * samples);
        return Err(DataFault::Buffer { found, expected });
    }
    Ok((pixels, samples, height, width))
}
