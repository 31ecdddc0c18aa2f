//! An ONNX model as a checkpoint: its initializers are the tensors.

use std::path::Path;
use std::time::SystemTime;

use niwaki_codes::Shape;
use niwaki_onnx::proto::GraphProto;
use niwaki_onnx::{ALL_DATA_TYPES, Bytes, DataType, Model, ModelFile};
use niwaki_tensors::{Dtype, Limits};

use crate::error::{Blame, Error, ErrorKind};

/// An ONNX model, and its initializers as bytes. Those in the file itself, or in files of external
/// data, are borrowed from the maps; the others are converted when it is opened.
#[derive(Debug)]
pub struct Onnx {
    model: Model,
    files: Vec<ModelFile>,
    tensors: Vec<Initializer>,
    left_out: Vec<(String, &'static str)>,
}

/// One initializer of a type that checkpoints have.
#[derive(Debug)]
pub(crate) struct Initializer {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Shape,
    pub(crate) bytes: Bytes,
}

impl Onnx {
    /// Opens a model and reads all its initializers.
    ///
    /// # Errors
    ///
    /// Those of [`Model::open`] and [`Model::read`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let bounds = niwaki_onnx::Limits {
            dims: usize::try_from(limits.dims).unwrap_or(usize::MAX),
            ..niwaki_onnx::Limits::default()
        };
        Self::of(Model::open(path, &bounds)?, path)
    }

    /// The same, its graph changed.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and of the change.
    pub(crate) fn edited(
        path: &Path,
        limits: &Limits,
        change: impl FnOnce(&mut GraphProto) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let Self { mut model, .. } = Self::open(path, limits)?;
        change(model.graph_mut()).map_err(|e| e.at(path))?;
        Self::of(model, path)
    }

    /// That of a model.
    fn of(model: Model, path: &Path) -> Result<Self, Error> {
        let (mut tensors, mut left_out) = (Vec::new(), Vec::new());
        for initializer in model.initializers() {
            let name = initializer.name().to_owned();
            if let niwaki_onnx::Initializer::Dense(proto) = initializer
                && proto.data_type() == DataType::String.number()
            {
                niwaki_onnx::strings(proto)?;
                left_out.push((name, "it holds texts"));
                continue;
            }
            let read = model.read(initializer)?;
            let Some(dtype) = of_onnx(read.dtype) else {
                left_out.push((name, "checkpoints have no such type of elements"));
                continue;
            };
            let shape = Shape::new(&read.dims).map_err(|e| Error::below(e, Blame::Input).of(&name).at(path))?;
            tensors.push(Initializer { name, dtype, shape, bytes: read.bytes });
        }
        let files = model.files();
        Ok(Self { model, files, tensors, left_out })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        self.model.path().unwrap_or(Path::new(""))
    }

    /// How many of its initializers are tensors of a checkpoint.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Whether it has an initializer of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|tensor| tensor.name == name)
    }

    pub(crate) fn tensors(&self) -> &[Initializer] {
        &self.tensors
    }

    pub(super) fn left_out(&self) -> Vec<(&str, &'static str)> {
        self.left_out.iter().map(|(name, why)| (name.as_str(), *why)).collect()
    }

    /// Its own file, then those of external data.
    pub(crate) fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// Length of each file, and when it was last written.
    pub(super) fn stamps(&self) -> Vec<(u64, Option<SystemTime>)> {
        self.files.iter().map(|file| (file.bytes.len() as u64, file.modified)).collect()
    }

    /// Refuses to change a model of several files.
    ///
    /// # Errors
    ///
    /// One with external data.
    pub(crate) fn check_one_file(&self) -> Result<(), Error> {
        if self.files.len() < 2 {
            return Ok(());
        }
        let what = "patches in models with external data".to_owned();
        let hint = "`niwaki export --to safetensors` makes a checkpoint of its weights";
        Err(Error::from(ErrorKind::Unsupported { what }).at(self.path()).hinting(hint))
    }
}

/// Our type of ONNX's elements; none for those that checkpoints do not have.
pub(crate) fn of_onnx(dtype: DataType) -> Option<Dtype> {
    Some(match dtype {
        DataType::Float => Dtype::F32,
        DataType::Double => Dtype::F64,
        DataType::Float16 => Dtype::F16,
        DataType::Bfloat16 => Dtype::BF16,
        DataType::Uint8 => Dtype::U8,
        DataType::Int8 => Dtype::I8,
        DataType::Uint16 => Dtype::U16,
        DataType::Int16 => Dtype::I16,
        DataType::Uint32 => Dtype::U32,
        DataType::Int32 => Dtype::I32,
        DataType::Uint64 => Dtype::U64,
        DataType::Int64 => Dtype::I64,
        DataType::Bool => Dtype::BOOL,
        DataType::Complex64 => Dtype::C64,
        DataType::Float8E4M3Fn => Dtype::F8_E4M3,
        DataType::Float8E4M3Fnuz => Dtype::F8_E4M3FNUZ,
        DataType::Float8E5M2 => Dtype::F8_E5M2,
        DataType::Float8E5M2Fnuz => Dtype::F8_E5M2FNUZ,
        DataType::Float8E8M0 => Dtype::F8_E8M0,
        // Packed rows, where checkpoints have whole bytes; complex doubles; texts.
        _ => return None,
    })
}

/// ONNX's type of our elements.
pub(crate) fn to_onnx(dtype: Dtype) -> Option<DataType> {
    ALL_DATA_TYPES.into_iter().find(|theirs| of_onnx(*theirs) == Some(dtype))
}
