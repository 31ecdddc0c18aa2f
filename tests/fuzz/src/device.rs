//! Device images.

use niwaki_image::{ErrorKind, Image, seal};

/// An arena in which what was accepted is run.
const ARENA: usize = 1 << 12;

/// An image. One whose checksum is wrong is looked at behind it too: what is accepted there is run, and stays within
/// its arena.
pub fn device_image(bytes: &[u8]) -> bool {
    match Image::parse(bytes) {
        Ok(image) => {
            run_all(&image);
            return true;
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && !text.is_empty(), "{text:?}");
        }
    }
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    if let Ok(image) = Image::parse(&sealed) {
        run_all(&image);
    }
    false
}

/// An image at each width that it serves; of each, its first bytes are an image too.
fn run_all(image: &Image<'_>) {
    run(image);
    for (width, end) in image.widths() {
        run(&image.at(width).expect("a width that it serves"));
        // Of a narrower width only its own checksum can be wrong in an image that is right as a whole.
        match Image::parse(image.bytes().get(..end).unwrap_or_default()) {
            Ok(cut) => assert_eq!(cut.width(), Some(width)),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Checksum { .. }), "{width} bits: {error}"),
        }
    }
}

fn run(image: &Image<'_>) {
    let place = image.input().area;
    // The work of a step is at most its output times a row of weights, and is not what is looked at here.
    if image.arena() > ARENA || image.steps().len() > 16 {
        return;
    }
    let mut arena = vec![7i8; image.arena() + 1];
    let made = niwaki_micro::run(image, &vec![1; place.len()], &mut arena).expect("an arena and an input that fit");
    assert_eq!(made.len(), image.output().area.len());
    assert_eq!(arena.last(), Some(&7), "nothing is written behind the arena");
}
