//! One error for this crate: a kind, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// Why a model could not be read or run.
///
/// `Display` is one line; where a file is known, the line begins with its path, and a node's name
/// follows it.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    node: Option<String>,
}

/// What was wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A node that takes what it makes.
    Cycle,
    /// A value that nothing makes.
    Undefined {
        /// Its name.
        value: String,
    },
    /// A value that two nodes make.
    MadeTwice {
        /// Its name.
        value: String,
    },
    /// Operators that are not run here: each node by name, with its operator.
    Operators(Vec<(String, String)>),
    /// Operators that gradients cannot be taken back through: each node by name, with its operator.
    NoWayBack(Vec<(String, String)>),
    /// Values that do not fit in the memory that they may take, even where they are computed again.
    Memory {
        /// The least bytes that they need.
        needs: u64,
        /// The limit.
        limit: u64,
    },
    /// An input that is missing, of another type or shape, or unknown.
    Input {
        /// Its name.
        name: String,
        /// What was found.
        found: String,
        /// What is needed.
        needs: String,
    },
    /// More inputs than the model has, or fewer.
    Inputs {
        /// As many as were given.
        found: usize,
        /// As many as it has.
        needs: usize,
    },
    /// A node that does not take what it is given.
    Fault(Fault),
    /// A node that makes fewer values than the graph takes from it.
    Outputs {
        /// As many as it makes.
        found: usize,
        /// As many as are taken.
        needs: usize,
    },
    /// A file that is no ONNX model, or cannot be read.
    Onnx(Box<niwaki_onnx::Error>),
    /// A checkpoint that cannot be read.
    Tensors(Box<niwaki_tensors::Error>),
    /// A key of a configuration.
    Config {
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// What is needed.
        needs: &'static str,
    },
    /// A model of a family that is not supported.
    Family {
        /// Its `model_type`.
        model_type: String,
        /// The class that it names.
        class: String,
        /// The classes that are supported.
        supported: Vec<&'static str>,
    },
    /// Weights that are missing or do not fit: each in words.
    Weights(Vec<String>),
    /// Something else of the model, in words.
    Model(String),
}

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Whether whoever runs the model gave it what it does not take; else the model is at fault.
    pub fn by_caller(&self) -> bool {
        matches!(self.inner.kind, ErrorKind::Input { .. } | ErrorKind::Inputs { .. })
    }

    /// The file that it concerns.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The node that it concerns.
    pub fn node(&self) -> Option<&str> {
        self.inner.node.as_deref()
    }

    /// The same error, of a node, unless it is of one already.
    #[must_use]
    pub fn of(mut self, node: &str) -> Self {
        self.inner.node.get_or_insert_with(|| node.to_owned());
        self
    }

    /// The same error, of a file, unless it is of one already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.inner.path.get_or_insert_with(|| path.to_owned());
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { inner: Box::new(Inner { kind, path: None, node: None }) }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        ErrorKind::Fault(fault).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.inner.path {
            write!(f, "`{}`: ", path.display())?;
        }
        if let Some(node) = &self.inner.node {
            write!(f, "node `{node}`: ")?;
        }
        write!(f, "{}", self.inner.kind)
    }
}

/// Nodes and their operators, as a line has them.
fn each_node(nodes: &[(String, String)]) -> String {
    let each: Vec<_> = nodes.iter().map(|(node, op)| format!("`{node}` ({op})")).collect();
    each.join(", ")
}

/// Weights that one line names.
const SOME: usize = 20;

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle => f.write_str("takes what it makes itself"),
            Self::Undefined { value } => write!(f, "value `{value}` is made by no node"),
            Self::MadeTwice { value } => write!(f, "value `{value}` is made by another node too"),
            Self::Operators(nodes) => write!(f, "operators that are not supported: {}", each_node(nodes)),
            Self::NoWayBack(nodes) => write!(f, "operators that gradients do not pass: {}", each_node(nodes)),
            Self::Memory { needs, limit } => {
                write!(f, "values need {needs} bytes at least, the limit is {limit}: a smaller batch needs less")
            }
            Self::Input { name, found, needs } => write!(f, "input `{name}`: {found}, {needs} expected"),
            Self::Inputs { found, needs } => write!(f, "{found} inputs, {needs} expected"),
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::Outputs { found, needs } => write!(f, "makes {found} values, {needs} expected"),
            Self::Onnx(error) => write!(f, "{error}"),
            Self::Tensors(error) => write!(f, "{error}"),
            Self::Config { key, found, needs } => write!(f, "`{key}` is {found}, {needs} expected"),
            Self::Family { model_type, class, supported } => {
                let supported = supported.join(", ");
                write!(f, "model type `{model_type}`, class `{class}` is not supported; supported are {supported}")
            }
            Self::Weights(each) => {
                let (first, more) = each.split_at(each.len().min(SOME));
                write!(f, "weights that do not fit: {}", first.join("; "))?;
                if more.is_empty() { Ok(()) } else { write!(f, "; and {} more", more.len()) }
            }
            Self::Model(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
