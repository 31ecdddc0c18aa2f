//! Mask files: safetensors with a tensor `NAME.mask` for each tensor that they mask.

use std::path::{Path, PathBuf};

use niwaki_codes::Mask;
use niwaki_tensors::{Checkpoint, Limits};

use crate::error::{Error, ErrorKind};

/// Mask files opened so far, each once.
#[derive(Default)]
pub(crate) struct MaskFiles {
    open: Vec<(PathBuf, Checkpoint)>,
}

impl MaskFiles {
    /// The mask of the tensor `name`, of `rows` by `cols`, in the file at `path`.
    ///
    /// # Errors
    ///
    /// Those of opening the file, and [`ErrorKind::Mask`] if the file has none for the
    /// tensor or one of another size.
    pub(crate) fn mask(&mut self, path: &Path, name: &str, (rows, cols): (usize, usize)) -> Result<Mask, Error> {
        let wrong = |why: String| Error::from(ErrorKind::Mask { why }).of(name).at(path);
        let file = self.file(path)?;
        let part = format!("{name}.mask");
        let view = file.get(&part).ok_or_else(|| wrong(format!("no tensor `{part}`")))?;
        let (has, needs) = (view.shape(), [rows, cols.div_ceil(8)]);
        if has != needs {
            let found: Vec<_> = has.iter().map(ToString::to_string).collect();
            let found = found.join("x");
            return Err(wrong(format!("`{part}` is {found}; {rows}x{cols} weights need {}x{}", needs[0], needs[1])));
        }
        Mask::new(rows, cols, view.bytes().to_vec()).map_err(|e| wrong(e.to_string()))
    }

    fn file(&mut self, path: &Path) -> Result<&Checkpoint, Error> {
        let at = match self.open.iter().position(|(p, _)| p == path) {
            Some(at) => at,
            None => {
                self.open.push((path.to_owned(), Checkpoint::open(path, &Limits::default())?));
                self.open.len() - 1
            }
        };
        Ok(&self.open[at].1)
    }
}
