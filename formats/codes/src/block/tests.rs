use std::string::ToString;
use std::vec::Vec;

use super::*;

/// Blocks of every type in their order, each followed by the floats that the gguf package
/// decodes them to; `tests/scripts/make_block_vectors.py` makes it.
const GOLDEN: &[u8] = include_bytes!("../../../../tests/golden/blocks.bin");

/// Weights of each type in it.
const WEIGHTS: usize = 512;

fn golden() -> impl Iterator<Item = (BlockType, &'static [u8], Vec<f32>)> {
    let mut rest = GOLDEN;
    BlockType::ALL.into_iter().map(move |kind| {
        let (blocks, after) = rest.split_at(WEIGHTS / kind.elements() * kind.bytes());
        let (floats, after) = after.split_at(4 * WEIGHTS);
        rest = after;
        (kind, blocks, floats.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    })
}

#[test]
fn every_level_decodes_every_type_as_the_gguf_package_does() {
    let mut seen = 0;
    for (kind, blocks, floats) in golden() {
        let view = BlockView::new(kind, 1, WEIGHTS, blocks).unwrap();
        assert_eq!(view.check(), Ok(()), "{kind}");
        for level in Level::all() {
            let mut out = vec![f32::NAN; WEIGHTS];
            view.dequantize_rows(level, 0..1, &mut out).unwrap();
            for (i, (ours, theirs)) in out.iter().zip(&floats).enumerate() {
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{level:?} {kind} {i}: {ours}, not {theirs}");
            }
        }
        seen += blocks.len() + 4 * WEIGHTS;
    }
    assert_eq!(seen, GOLDEN.len());
}

#[test]
fn a_changed_byte_anywhere_in_a_block_changes_what_it_decodes_to() {
    for (kind, blocks, floats) in golden() {
        let mut bytes = blocks.to_vec();
        for at in 0..kind.bytes() {
            bytes[at] ^= 0xFF;
            let mut out = vec![0.0; WEIGHTS];
            BlockView::new(kind, 1, WEIGHTS, &bytes).unwrap().dequantize_rows(Level::best(), 0..1, &mut out).unwrap();
            assert!(out != floats, "byte {at} of {kind} is not read");
            bytes[at] ^= 0xFF;
        }
    }
}

/// All bytes of a block are read, scales too, so codes and grids of other places decode to others.
#[test]
fn codes_on_their_grids_are_what_blocks_decode_to() {
    for (kind, blocks, floats) in golden() {
        for level in Level::all() {
            let mut codes = vec![0xAA; WEIGHTS];
            unpack_blocks(level, kind, blocks, &mut codes).unwrap();
            assert!(codes.iter().all(|code| u32::from(*code) < kind.code_bits().levels()), "{kind}");
            let all = blocks.chunks(kind.bytes()).zip(codes.chunks(kind.elements()));
            for ((block, codes), floats) in all.zip(floats.chunks(kind.elements())) {
                for (i, (code, float)) in codes.iter().zip(floats).enumerate() {
                    assert_eq!(kind.grid(block, i / kind.sub_block()).value(*code), *float, "{level:?} {kind} {i}");
                }
            }
        }
    }
}

#[test]
fn packed_codes_are_unpacked_again_and_scales_stay() {
    for (kind, blocks, _) in golden() {
        let codes: Vec<u8> = (0..WEIGHTS as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
        let kept: Vec<u8> = codes.iter().map(|code| code & (kind.code_bits().levels() - 1) as u8).collect();
        for level in Level::all() {
            let (mut bytes, mut back) = (blocks.to_vec(), vec![0xAA; WEIGHTS]);
            pack_blocks(level, kind, &codes, &mut bytes).unwrap();
            unpack_blocks(level, kind, &bytes, &mut back).unwrap();
            assert_eq!(back, kept, "{level:?} {kind}");
            let grids = |blocks: &[u8]| -> Vec<BlockGrid> {
                let subs = 0..kind.elements() / kind.sub_block();
                blocks.chunks(kind.bytes()).flat_map(|b| subs.clone().map(|at| kind.grid(b, at))).collect()
            };
            assert_eq!(grids(&bytes), grids(blocks), "{level:?} {kind}");
            unpack_blocks(level, kind, blocks, &mut back).unwrap();
            pack_blocks(level, kind, &back, &mut bytes).unwrap();
            assert_eq!(bytes, blocks, "{level:?} {kind}");
        }
        let short = pack_blocks(Level::best(), kind, &codes, &mut [0; 7]).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Range { needs: blocks.len(), has: 7 });
        let odd = unpack_blocks(Level::best(), kind, blocks, &mut [0; 31]).unwrap_err();
        assert_eq!(odd.kind(), ErrorKind::BlockRow { kind, cols: 31 });
    }
}

#[test]
fn rows_are_decoded_by_their_place() {
    for (kind, blocks, floats) in golden() {
        let cols = kind.elements();
        let rows = WEIGHTS / cols;
        let view = BlockView::new(kind, rows, cols, blocks).unwrap();
        let mut out = vec![0.0; cols];
        view.dequantize_rows(Level::best(), rows - 1..rows, &mut out).unwrap();
        assert_eq!(out, floats[WEIGHTS - cols..], "{kind}");
        assert_eq!(view.row_codes(rows - 1), &blocks[blocks.len() - kind.bytes()..]);
        assert_eq!(view.row_codes(rows), &[] as &[u8]);
        let past = view.dequantize_rows(Level::best(), rows..rows + 1, &mut out).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::Range { needs: rows + 1, has: rows });
        let short = view.dequantize_rows(Level::best(), 0..1, &mut out[1..]).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Range { needs: cols, has: cols - 1 });
    }
}

#[test]
fn rows_that_no_blocks_fill_are_refused() {
    let error = BlockType::Q4K.row_bytes(288).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BlockRow { kind: BlockType::Q4K, cols: 288 });
    assert_eq!(error.to_string(), "a row of 288 weights is no whole number of q4_k blocks of 256");
    assert_eq!(
        BlockView::new(BlockType::Q8_0, 1, 31, &[]).unwrap_err().kind(),
        ErrorKind::BlockRow { kind: BlockType::Q8_0, cols: 31 }
    );
    let most = usize::MAX / 32 * 32;
    assert_eq!(BlockType::Q8_0.row_bytes(most).unwrap_err().kind(), ErrorKind::Overflow);
    assert_eq!(BlockView::new(BlockType::Q4_0, 3, most, &[]).unwrap_err().kind(), ErrorKind::Overflow);
    let short = BlockView::new(BlockType::Q4_0, 2, 32, &[0; 35]).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::PartLength { part: "codes", needs: 36, has: 35 });
    // Rows without a weight need no byte.
    let view = BlockView::new(BlockType::Q4_0, usize::MAX, 0, &[]).unwrap();
    assert!(view.dequantize_rows(Level::best(), 0..usize::MAX, &mut []).is_ok());
}

#[test]
fn scales_that_no_encoder_writes_are_found() {
    for (kind, blocks, _) in golden() {
        let last = WEIGHTS / kind.elements() - 1;
        for at in kind.halves() {
            let mut bytes = blocks.to_vec();
            let at = last * kind.bytes() + at;
            bytes[at + 1] |= 0x7C;
            let view = BlockView::new(kind, 1, WEIGHTS, &bytes).unwrap();
            assert_eq!(view.check().unwrap_err().kind(), ErrorKind::Scale { group: last }, "{kind}");
        }
    }
    let mut block = [0; 17];
    block[0] = 255;
    let view = BlockView::new(BlockType::Mxfp4, 1, 32, &block).unwrap();
    assert_eq!(view.check().unwrap_err().kind(), ErrorKind::Scale { group: 0 });
}

#[test]
fn names_are_there_and_back() {
    for kind in BlockType::ALL {
        assert_eq!(BlockType::from_name(kind.name()), Some(kind));
    }
    assert_eq!(BlockType::from_name("q4_K"), None);
}
