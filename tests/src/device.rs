//! What a device image makes of images on this machine, to be compared with what a device does.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use niwaki_engine::dataset::Dataset;
use niwaki_engine::image::input_codes;
use niwaki_image::Image;

/// The inputs, outputs and labels of the first `count` images of a dataset, as a header of C.
///
/// # Errors
///
/// A file that is no device image, or no dataset for it.
pub fn vectors(image: &Path, data: &Path, count: usize) -> Result<String, Box<dyn Error>> {
    let bytes = std::fs::read(image)?;
    let image = Image::parse(&bytes)?;
    let data = Dataset::open(data)?;
    let (mut inputs, mut outputs, mut labels) = (String::new(), String::new(), String::new());
    let mut numbers = vec![0.0; data.item_len()];
    let mut arena = vec![0; image.arena()];
    for item in 0..count.min(data.len()) {
        data.batch(std::iter::once(item), &mut numbers)?;
        let codes = input_codes(&image, &numbers);
        let made = niwaki_micro::run(&image, &codes, &mut arena)?;
        writeln!(inputs, "{{{}}},", listed(&codes))?;
        writeln!(outputs, "{{{}}},", listed(made))?;
        write!(labels, "{}, ", data.label(item)?)?;
    }
    let count = count.min(data.len());
    let [takes, makes] = [image.input(), image.output()].map(|place| place.area.len());
    Ok(format!(
        "#include <stdint.h>\n#define VECTORS {count}\nstatic const int8_t inputs[VECTORS][{takes}] = {{\n{inputs}}};\n\
         static const int8_t outputs[VECTORS][{makes}] = {{\n{outputs}}};\n\
         static const uint16_t labels[VECTORS] = {{{labels}}};\n"
    ))
}

fn listed(codes: &[i8]) -> String {
    codes.iter().map(i8::to_string).collect::<Vec<_>>().join(",")
}
