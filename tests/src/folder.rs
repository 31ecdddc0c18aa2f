//! Fresh folders, gone when dropped.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};

/// A new empty folder of its own.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one, with `name` in its name.
    ///
    /// # Panics
    ///
    /// If the system's folder for temporary files cannot be written.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("niwaki-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside it, as text.
    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Names of what is inside, sorted.
    ///
    /// # Panics
    ///
    /// If the folder cannot be read.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("a folder that can be read");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind lies where the system cleans up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map_or_else(|| tests.to_owned(), Path::to_owned)
}

/// A file of the bundled network's folder.
pub fn bundled(name: &str) -> String {
    repository().join("tests/fixtures/fashion-cnn").join(name).to_string_lossy().into_owned()
}

/// The bundled network's weights.
pub fn fashion() -> String {
    bundled("model.safetensors")
}

/// The bundled images.
pub fn sample() -> String {
    bundled("sample.safetensors")
}

/// Some of the bundled images, in a file of their own.
///
/// # Panics
///
/// If it cannot be written.
pub fn part_of_sample(folder: &Folder, name: &str, images: Range<usize>) -> String {
    let all = Checkpoint::open(sample(), &Limits::default()).expect("the bundled images");
    let bytes = |name: &str, each: usize| {
        let view = all.get(name).expect("a tensor of the bundled images");
        view.bytes()[images.start * each..images.end * each].to_vec()
    };
    let (pixels, classes, count) = (bytes("images", 784), bytes("labels", 8), images.len());
    let metadata: Vec<(&str, &str)> = all.metadata().into_iter().collect();
    let path = folder.at(name);
    let tensors =
        [("labels", Dtype::I64, &[count][..], &*classes), ("images", Dtype::U8, &[count, 1, 28, 28], &*pixels)];
    write_file(path.as_ref(), &tensors, &metadata, Overwrite::Replace).expect("a folder that can be written");
    path
}
