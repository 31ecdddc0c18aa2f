//! Why a verb could not be done, as the command line words it.

use std::fmt::{Debug, Display};
use std::io;
use std::path::Path;

use niwaki_engine::Layer;
use serde::Serialize;

/// What ends a verb early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever read the answer has read enough.
    Closed,
    /// It could not be done.
    Failed(Box<Failure>),
}

/// An error as it is shown: one line, where, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) kind: String,
    pub(crate) blame: String,
    pub(crate) path: Option<String>,
    pub(crate) tensor: Option<String>,
    #[serde(skip)]
    pub(crate) hint: Option<String>,
    /// What the layer below said, for `-v`.
    #[serde(skip)]
    pub(crate) cause: Option<String>,
}

impl Failure {
    /// The arguments mean nothing.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: "usage".to_owned(),
            blame: "caller".to_owned(),
            path: None,
            tensor: None,
            hint: None,
            cause: None,
        }
    }

    /// A verb, flag or value that another version may have.
    pub(crate) fn unsupported(what: impl Display) -> Self {
        let failure = Self::usage(format!("{what} is not supported by this version"));
        Self { kind: "unsupported".to_owned(), ..failure }
    }

    /// A file that cannot be read.
    pub(crate) fn reading(path: &Path, cause: &io::Error) -> Self {
        Self {
            message: format!("`{}`: {}", path.display(), cause_text(cause)),
            kind: "io".to_owned(),
            blame: "io".to_owned(),
            path: Some(path.display().to_string()),
            tensor: None,
            hint: None,
            cause: None,
        }
    }

    /// The same with advice.
    pub(crate) fn hinting(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// An error of a crate below, with what that crate says of it.
    fn below(error: &(dyn std::error::Error + 'static), kind: &dyn Debug, blame: &dyn Debug) -> Self {
        Self {
            message: error.to_string().replace('\n', " "),
            kind: variant(kind),
            blame: variant(blame),
            path: None,
            tensor: None,
            hint: None,
            cause: error.source().map(ToString::to_string),
        }
    }
}

/// What the system says, in our manner: lower case, without the error number.
fn cause_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

/// The name of an enum's variant in snake case: `AlreadyQuantized { .. }` is `already_quantized`.
fn variant(value: &dyn Debug) -> String {
    let text = format!("{value:?}");
    let name = text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut snake = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<io::Error> for Stop {
    /// Only the answer itself is written through `io`; files are the engine's.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        let message = format!("the answer cannot be written: {}", cause_text(&error));
        let failure = Failure::usage(message);
        Failure { kind: "io".to_owned(), blame: "io".to_owned(), ..failure }.into()
    }
}

/// Kind, place and advice of an error of a crate of ours.
macro_rules! failure {
    ($error:expr) => {{
        let error = $error;
        Failure {
            path: error.path().map(|p| p.display().to_string()),
            tensor: error.tensor().map(ToString::to_string),
            hint: error.hint().map(str::to_owned),
            ..Failure::below(&error, &error.kind(), &error.blame())
        }
    }};
}

/// What can be done on the command line about an error of files.
fn advice(kind: &niwaki_tensors::ErrorKind) -> Option<&'static str> {
    match kind {
        niwaki_tensors::ErrorKind::Exists => Some("`--force` replaces it"),
        niwaki_tensors::ErrorKind::Several { found } if found.iter().all(|name| name.contains("-of-")) => {
            Some("`niwaki join` makes one checkpoint of the parts of a job")
        }
        _ => None,
    }
}

impl From<niwaki_tensors::Error> for Failure {
    fn from(error: niwaki_tensors::Error) -> Self {
        let advice = advice(error.kind());
        let failure = failure!(error);
        Self { hint: advice.map(str::to_owned).or(failure.hint), ..failure }
    }
}

impl From<niwaki_container::Error> for Failure {
    fn from(error: niwaki_container::Error) -> Self {
        let file = match error.kind() {
            niwaki_container::ErrorKind::File(file) => Some(variant(&file.kind())),
            _ => None,
        };
        let advice = match error.kind() {
            niwaki_container::ErrorKind::File(file) => advice(file.kind()),
            _ => None,
        };
        let failure = failure!(error);
        let kind = file.unwrap_or_else(|| failure.kind.clone());
        Self { kind, hint: advice.map(str::to_owned).or(failure.hint), ..failure }
    }
}

impl From<niwaki_engine::Error> for Failure {
    fn from(error: niwaki_engine::Error) -> Self {
        let (message, path) = (error.to_string(), error.path().map(|p| p.display().to_string()));
        match error.into_layer() {
            Ok(Layer::Tensors(error)) => error.into(),
            Ok(Layer::Container(error)) => error.into(),
            Ok(Layer::Gguf(error)) => failure!(error),
            Ok(Layer::Onnx(error)) => Self {
                message,
                path,
                tensor: error.tensor().map(str::to_owned),
                ..Self::below(&error, &error.kind(), &error.blame())
            },
            Ok(Layer::Foreign(error)) => Self {
                message,
                path,
                tensor: error.tensor().map(str::to_owned),
                hint: error.hint().map(str::to_owned),
                ..Self::below(&error, &error.kind(), &error.blame())
            },
            Err(error) => {
                let failure = failure!(error);
                // Of what the system says, whose fault it is says more than "below".
                if failure.kind == "below" { Self { kind: failure.blame.clone(), ..failure } } else { failure }
            }
        }
    }
}

macro_rules! stop {
    ($($error:ty),*) => {$(
        impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Failure::from(error).into()
            }
        }
    )*};
}

stop!(niwaki_tensors::Error, niwaki_container::Error, niwaki_engine::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_the_name_of_its_variant() {
        #[derive(Debug)]
        #[allow(dead_code, reason = "only their debug text is used")]
        enum Kind {
            Io,
            NotFinite { index: usize },
            Text(String),
        }
        assert_eq!(variant(&Kind::Io), "io");
        assert_eq!(variant(&Kind::NotFinite { index: 3 }), "not_finite");
        assert_eq!(variant(&Kind::Text("A B".into())), "text");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert!(matches!(Stop::from(io::Error::from(io::ErrorKind::BrokenPipe)), Stop::Closed));
        assert!(matches!(Stop::from(io::Error::from(io::ErrorKind::StorageFull)), Stop::Failed(_)));
    }
}
