//! One error for this crate: a kind, where, who is to blame, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use niwaki_codes::BlockType;
pub use niwaki_tensors::Blame;

use crate::dataset::DataFault;
use crate::signature::signing::SigningFault;

/// Why a recipe, a plan or a run could not be done.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    tensor: Option<String>,
    hint: Option<String>,
    layer: Option<Layer>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// An error of a crate below, whole.
#[derive(Debug)]
pub enum Layer {
    /// Of reading or writing checkpoints.
    Tensors(niwaki_tensors::Error),
    /// Of the container.
    Container(niwaki_container::Error),
    /// Of GGUF.
    Gguf(niwaki_gguf::Error),
    /// Of ONNX.
    Onnx(niwaki_onnx::Error),
    /// Of the layouts of other tools.
    Foreign(niwaki_foreign::Error),
}

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The recipe's text is not TOML or not a recipe; the line counts from 1.
    Recipe {
        /// Line in the recipe.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A recipe asks for what this version does not do.
    Unsupported {
        /// The key or value.
        what: String,
    },
    /// A glob is malformed.
    Glob {
        /// The glob as written.
        glob: String,
        /// Why.
        why: String,
    },
    /// A rule matches no tensor that it could act on.
    NoMatch {
        /// The rule.
        rule: String,
    },
    /// A preset that nothing has.
    Preset {
        /// The name given.
        name: String,
    },
    /// A scheme that nothing understands.
    Scheme {
        /// The text given.
        text: String,
        /// Why not.
        why: String,
    },
    /// The input is already quantized.
    AlreadyQuantized {
        /// The format it was recognised as.
        format: String,
    },
    /// A row that the group does not divide, under `--tail error`.
    Tail {
        /// Weights in a row.
        row: usize,
        /// Weights in a group.
        group: usize,
    },
    /// A row that blocks do not fill.
    BlockRow {
        /// The blocks.
        kind: BlockType,
        /// Weights in a row.
        row: usize,
    },
    /// A mask, or a fit, for blocks that have none.
    Block {
        /// The blocks.
        kind: BlockType,
        /// What they do not have.
        what: String,
    },
    /// A scheme, or elements, that the output's format does not hold.
    Held {
        /// The format.
        format: &'static str,
        /// What it does not hold.
        scheme: String,
    },
    /// A weight that no code can hold.
    NotFinite {
        /// Flat index in the tensor.
        index: usize,
    },
    /// A scale beyond the range of its stored type.
    ScaleOverflow {
        /// Index of the group in the tensor.
        group: usize,
    },
    /// More private memory is needed than allowed.
    Memory {
        /// Bytes needed.
        needs: usize,
        /// Bytes allowed.
        cap: usize,
    },
    /// A mask file that does not fit its tensor.
    Mask {
        /// What is wrong.
        why: String,
    },
    /// An adapter whose files are not there or do not fit together.
    Adapter {
        /// What is wrong.
        why: String,
    },
    /// A partial output that belongs to another run.
    Journal {
        /// What differs.
        why: String,
    },
    /// Parts of a job that do not make one, or a file that is no part.
    Part {
        /// What is wrong.
        what: String,
    },
    /// A combination of arguments that means nothing.
    Usage {
        /// What is wrong.
        what: String,
    },
    /// The tensors of two checkpoints do not correspond.
    Unlike {
        /// What differs.
        what: String,
    },
    /// A checkpoint of another architecture than the signature's.
    Architecture {
        /// What differs.
        what: String,
    },
    /// A checkpoint of other weights than those that the signature was made for.
    OtherBase {
        /// What differs.
        what: String,
    },
    /// A patch that does not fit the stack, or an undo record that does not fit the file.
    Patch {
        /// What is wrong.
        what: String,
    },
    /// A patch of which too little outlives the rounding to codes.
    Loss {
        /// The share that does, in percent.
        percent: i64,
    },
    /// A detached signature that is missing or does not match, or a key file without the key.
    Signing(SigningFault),
    /// A dataset, or what is to become one, that is not as it should be.
    Data(DataFault),
    /// A training whose numbers are no longer any.
    Diverged {
        /// What, when and where first.
        what: String,
    },
    /// The layer below failed: files, container, codes.
    Below {
        /// Its sentence.
        what: String,
        /// Whose fault it is.
        blame: Blame,
    },
}

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self.kind() {
            ErrorKind::Below { blame, .. } => *blame,
            ErrorKind::AlreadyQuantized { .. }
            | ErrorKind::NotFinite { .. }
            | ErrorKind::Mask { .. }
            | ErrorKind::Adapter { .. }
            | ErrorKind::Part { .. }
            | ErrorKind::Architecture { .. }
            | ErrorKind::OtherBase { .. }
            | ErrorKind::Patch { .. } => Blame::Input,
            ErrorKind::Memory { .. } => Blame::Limit,
            ErrorKind::Journal { .. } => Blame::Environment,
            ErrorKind::Signing(fault) => fault.blame(),
            ErrorKind::Data(fault) => fault.blame(),
            _ => Blame::Caller,
        }
    }

    /// The file it concerns.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The tensor it concerns.
    pub fn tensor(&self) -> Option<&str> {
        self.inner.tensor.as_deref()
    }

    /// What the caller can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The error of the crate below that this one hands on, or itself.
    ///
    /// # Errors
    ///
    /// Itself, where it is the engine's own.
    pub fn into_layer(mut self) -> Result<Layer, Self> {
        self.inner.layer.take().ok_or(self)
    }

    /// The same error, said of `path`.
    pub fn at(mut self, path: &Path) -> Self {
        self.inner.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// The same error, said of the tensor `name`.
    pub fn of(mut self, name: &str) -> Self {
        self.inner.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// The same error with advice.
    pub fn hinting(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// An error of the layer below.
    pub(crate) fn below(error: impl std::error::Error + Send + Sync + 'static, blame: Blame) -> Self {
        let mut ours = Self::from(ErrorKind::Below { what: error.to_string(), blame });
        ours.inner.source = error.source().map(|cause| cause.to_string().into());
        ours
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, path: None, tensor: None, hint: None, layer: None, source: None }) }
    }
}

/// An error of a crate below, with whatever it says of itself.
macro_rules! layer {
    ($($variant:ident: $error:ty, path $path:expr;)*) => {$(
        impl From<$error> for Error {
            fn from(e: $error) -> Self {
                let path: fn(&$error) -> Option<&Path> = $path;
                let mut ours = Self::from(ErrorKind::Below { what: e.to_string(), blame: e.blame() });
                ours.inner.path = path(&e).map(Path::to_owned);
                ours.inner.tensor = e.tensor().map(ToString::to_string);
                ours.inner.hint = e.hint().map(ToString::to_string);
                ours.inner.layer = Some(Layer::$variant(e));
                ours
            }
        }
    )*};
}

layer! {
    Tensors: niwaki_tensors::Error, path |e| e.path();
    Container: niwaki_container::Error, path |e| e.path();
    Gguf: niwaki_gguf::Error, path |e| e.path();
    // It knows tensors, not files.
    Foreign: niwaki_foreign::Error, path |_| None;
}

impl From<niwaki_onnx::Error> for Error {
    fn from(e: niwaki_onnx::Error) -> Self {
        let blame = match e.blame() {
            niwaki_onnx::Blame::Io => Blame::Io,
            niwaki_onnx::Blame::Caller => Blame::Caller,
            niwaki_onnx::Blame::Limit => Blame::Limit,
            niwaki_onnx::Blame::Environment => Blame::Environment,
            _ => Blame::Input,
        };
        let mut ours = Self::from(ErrorKind::Below { what: e.to_string(), blame });
        ours.inner.path = e.path().map(Path::to_owned);
        ours.inner.tensor = e.tensor().map(ToOwned::to_owned);
        ours.inner.layer = Some(Layer::Onnx(e));
        ours
    }
}

impl From<niwaki_model::Error> for Error {
    fn from(e: niwaki_model::Error) -> Self {
        let blame = match e.kind() {
            niwaki_model::ErrorKind::Memory { .. } => Blame::Limit,
            _ if e.by_caller() => Blame::Caller,
            _ => Blame::Input,
        };
        let mut ours = Self::from(ErrorKind::Below { what: e.to_string(), blame });
        ours.inner.path = e.path().map(Path::to_owned);
        ours
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ErrorKind::Below { what, .. } = self.kind() {
            // A sentence of the layouts of other tools names no file, and not every one a tensor.
            if let Some(Layer::Foreign(error)) = &self.inner.layer {
                if let Some(path) = self.path() {
                    write!(f, "`{}`: ", path.display())?;
                }
                if let (None, Some(tensor)) = (error.tensor(), self.tensor()) {
                    write!(f, "tensor `{tensor}`: ")?;
                }
            }
            return f.write_str(what);
        }
        if let Some(path) = self.path() {
            write!(f, "`{}`: ", path.display())?;
        }
        if let Some(tensor) = self.tensor() {
            write!(f, "tensor `{tensor}`: ")?;
        }
        match self.kind() {
            ErrorKind::Recipe { line: 0, what } => write!(f, "recipe: {what}"),
            ErrorKind::Recipe { line, what } => write!(f, "recipe line {line}: {what}"),
            ErrorKind::Unsupported { what } => write!(f, "{what} is not supported by this version"),
            ErrorKind::Glob { glob, why } => write!(f, "glob `{glob}`: {why}"),
            ErrorKind::NoMatch { rule } => write!(f, "{rule} matches no tensor that it can act on"),
            ErrorKind::Preset { name } => write!(f, "no preset `{name}`"),
            ErrorKind::Scheme { text, why } => write!(f, "scheme `{text}`: {why}"),
            ErrorKind::AlreadyQuantized { format } => {
                write!(f, "already quantized ({format}); codes are not quantized again")
            }
            ErrorKind::Tail { row, group } => write!(f, "group {group} does not divide the row of {row} weights"),
            ErrorKind::BlockRow { kind, row } => {
                write!(f, "{kind} blocks of {} do not fill the row of {row} weights", kind.elements())
            }
            ErrorKind::Block { kind, what } => write!(f, "{kind} blocks have no {what}"),
            ErrorKind::Held { format, scheme } => write!(f, "{format} does not hold {scheme}"),
            ErrorKind::NotFinite { index } => {
                write!(f, "weight {index} is NaN or infinite; codes hold finite weights only")
            }
            ErrorKind::ScaleOverflow { group } => {
                write!(f, "the scale of group {group} is beyond 65504, the largest F16")
            }
            ErrorKind::Memory { needs, cap } => write!(f, "needs {needs} bytes of private memory; the cap is {cap}"),
            ErrorKind::Mask { why } => write!(f, "mask: {why}"),
            ErrorKind::Adapter { why } => write!(f, "adapter: {why}"),
            ErrorKind::Journal { why } => write!(f, "journal: {why}"),
            ErrorKind::Part { what } | ErrorKind::Usage { what } | ErrorKind::Unlike { what } => f.write_str(what),
            ErrorKind::Architecture { what } => write!(f, "another architecture than the signature's: {what}"),
            ErrorKind::OtherBase { what } => write!(f, "other weights than those of the signature: digest {what}"),
            ErrorKind::Patch { what } => f.write_str(what),
            ErrorKind::Loss { percent } => {
                write!(f, "{percent} % of the patch outlives the rounding to codes; 50 % expected")
            }
            ErrorKind::Signing(fault) => fault.fmt(f),
            ErrorKind::Data(fault) => fault.fmt(f),
            ErrorKind::Diverged { what } => f.write_str(what),
            ErrorKind::Below { what, .. } => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|e| &**e as _)
    }
}
