//! The sentences.

use std::fmt::{self, Write as _};
use std::io;

use super::one_line::OneLine;
use super::{Access, Error, ErrorKind, Fault};
use crate::limits::{FORMAT_HEADER_BYTES, Limit};

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine::new(f);
        if let Some(path) = self.path() {
            write!(f, "`{}`: ", path.display())?;
        }
        let tensor = self.tensor().unwrap_or("?");
        match self.kind() {
            ErrorKind::Io { access, error } => f.write_str(&io_text(*access, *error)),
            ErrorKind::Limit { limit, max, has } => limit_text(f, *limit, (*max, *has), self.tensor()),
            ErrorKind::TwiceKey { key } => match self.tensor() {
                Some(tensor) => write!(f, "the entry of tensor `{tensor}` has `{key}` twice"),
                None => write!(f, "the key `{key}` stands twice"),
            },
            ErrorKind::Entry(fault) => fault_text(f, tensor, fault),
            kind => input_text(f, tensor, kind),
        }
    }
}

fn io_text(access: Access, error: io::ErrorKind) -> String {
    let verb = match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Rename => "rename",
    };
    match error {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => format!("permission to {verb} is denied"),
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        other => format!("the system could not {verb} it ({other})"),
    }
}

fn limit_text(f: &mut OneLine<'_, '_>, limit: Limit, (max, has): (u64, u64), tensor: Option<&str>) -> fmt::Result {
    match (limit, tensor) {
        (Limit::HeaderBytes, _) => write!(f, "header says {has} bytes")?,
        (Limit::Tensors, _) => write!(f, "more than {max} tensors")?,
        (Limit::NameBytes, _) => write!(f, "a tensor's name has {has} bytes")?,
        (Limit::Dims, name) => write!(f, "tensor `{}` has {has} dimensions", name.unwrap_or("?"))?,
        (Limit::IndexBytes, _) => write!(f, "{has} bytes of JSON")?,
        (Limit::Shards, _) => write!(f, "index names {has} files")?,
    }
    write!(f, "; the limit is {max} (`{limit}`)")
}

fn fault_text(f: &mut OneLine<'_, '_>, tensor: &str, fault: &Fault) -> fmt::Result {
    match fault {
        Fault::NotAnObject => write!(f, "the entry of tensor `{tensor}` is not an object"),
        Fault::Missing(key) => write!(f, "the entry of tensor `{tensor}` has no `{key}`"),
        Fault::DtypeNoText => write!(f, "the `dtype` of tensor `{tensor}` is not a text"),
        Fault::DtypeUnknown(dtype) => {
            write!(f, "tensor `{tensor}` has type `{dtype}`, which safetensors does not know")
        }
        Fault::Shape => write!(f, "the `shape` of tensor `{tensor}` is not a list of whole numbers from 0"),
        Fault::Offsets => write!(f, "the `data_offsets` of tensor `{tensor}` are not two whole numbers from 0"),
    }
}

/// `256x64`; a 0-d shape is `scalar`.
pub(crate) fn dims<T: fmt::Display>(shape: &[T]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

fn input_text(f: &mut OneLine<'_, '_>, tensor: &str, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        NotAFile => f.write_str("is neither a file nor a folder"),
        NothingFound => f.write_str(
            "holds no checkpoint; looked for `model.safetensors.index.json`, another `*.safetensors.index.json`, and one `*.safetensors`",
        ),
        Several { found } => {
            write!(f, "holds {} candidates and no index that joins them: `{}`", found.len(), found.join("`, `"))
        }
        Short { has } => write!(f, "has {has} bytes; a safetensors file begins with 8 bytes of header length"),
        HeaderBeyondFormat { says } => {
            write!(f, "header says {says} bytes; the format ends at {FORMAT_HEADER_BYTES}")
        }
        HeaderBeyondFile { says, has } => write!(f, "header says {says} bytes, the file has {has} after its length"),
        HeaderUtf8 { at } => write!(f, "header is not UTF-8 at its byte {at}"),
        HeaderJson { line, column } => {
            write!(f, "header is not a JSON object of tensors at its line {line}, column {column}")
        }
        TwiceTensor => write!(f, "two tensors are called `{tensor}`"),
        Metadata => f.write_str("`__metadata__` is not an object of texts"),
        Refused { why } => write!(f, "not a safetensors file: {why}"),
        IndexJson { line, column } => write!(f, "is not a checkpoint index at line {line}, column {column}"),
        IndexNoMap => f.write_str("the index has no `weight_map`"),
        ShardPath { shard } => write!(f, "the index places tensor `{tensor}` in `{shard}`, which is no file name inside the folder"),
        IndexMissing { shard } => write!(f, "the index places tensor `{tensor}` in `{shard}`, which does not have it"),
        IndexElsewhere { says, has } => {
            write!(f, "the index places tensor `{tensor}` in `{says}`, but `{has}` has it")
        }
        IndexUnlisted { shard } => write!(f, "the index does not name tensor `{tensor}` of `{shard}`"),
        TwoShards { first, second } => write!(f, "tensor `{tensor}` is in `{first}` and in `{second}`"),
        other => data_text(f, tensor, other),
    }
}

fn data_text(f: &mut OneLine<'_, '_>, tensor: &str, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        Reversed { begin, end } => write!(f, "tensor `{tensor}` begins at byte {begin} and ends before it, at {end}"),
        Hole { from, to } => write!(f, "bytes {from} to {to}, before tensor `{tensor}`, belong to none"),
        Overlap { begin, other, end } => {
            write!(f, "tensor `{tensor}` begins at byte {begin}, inside `{other}`, which ends at {end}")
        }
        Overflow { dtype, shape } => {
            write!(f, "tensor `{tensor}` ({dtype}, {}) does not fit into the address space", dims(shape))
        }
        PartByte { dtype, shape, bits } => {
            write!(f, "tensor `{tensor}` needs {bits} bits ({dtype}, {}), which are no whole bytes", dims(shape))
        }
        Size { dtype, shape, needs, has } => {
            write!(f, "tensor `{tensor}` needs {needs} bytes ({dtype}, {}), its offsets span {has}", dims(shape))
        }
        Truncated { needs, has } => {
            write!(f, "tensor `{tensor}` ends at byte {needs} of the data, the file ends at {has}")
        }
        Trailing { end, has } => {
            write!(f, "tensors end at byte {end} of {has}; the last {} belong to none", has - end)
        }
        Changed { had, has } if had == has => f.write_str("the file was modified while it was mapped"),
        Changed { had, has } => write!(f, "the file changed while it was mapped: it had {had} bytes, now {has}"),
        Unmapped { bytes } => write!(f, "the system could not map its {bytes} bytes"),
        NoDecode { dtype } => {
            write!(f, "{dtype} is not decoded to f32; F64, F32, F16, BF16, F8_E4M3 and F8_E5M2 are")
        }
        Elements { begin, end, has } => {
            write!(f, "elements {begin} to {end} of tensor `{tensor}` were asked for; it has {has}")
        }
        InsideByte { begin, end, dtype } => {
            write!(f, "elements {begin} to {end} of tensor `{tensor}` ({dtype}) are no whole bytes")
        }
        Buffer { needs, has } => write!(f, "{needs} elements need a buffer of as many; it has {has}"),
        other => output_text(f, tensor, other),
    }
}

fn output_text(f: &mut OneLine<'_, '_>, tensor: &str, kind: &ErrorKind) -> fmt::Result {
    use ErrorKind::*;
    match kind {
        Exists => f.write_str("exists already"),
        IsFolder => f.write_str("is a folder; the output is a file"),
        NotRegular => f.write_str("is not a regular file"),
        ReadOnly => f.write_str("is read-only"),
        NoName => f.write_str("has no file name"),
        NoFolder => f.write_str("its folder does not exist"),
        Busy => f.write_str("is being written by another process"),
        Reserved => write!(f, "`{tensor}` is a reserved name"),
        HeaderRoom { needs, has } => write!(f, "header needs {needs} bytes; {has} are reserved"),
        NoEntry { index, has } => write!(f, "entry {index} was asked for; there are {has}"),
        Bounds { begin, len, has } => {
            write!(f, "{len} bytes at byte {begin} of tensor `{tensor}` were asked for; it has {has}")
        }
        Given { needs, has } => write!(f, "tensor `{tensor}` needs {needs} bytes, {has} were given"),
        other => write!(f, "{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_the_system_says_is_said_plainly() {
        let said = |access, error: io::ErrorKind| Error::io(access, Path::new("out"), error.into()).to_string();
        let cases = [
            (Access::Read, io::ErrorKind::NotFound, "does not exist"),
            (Access::Read, io::ErrorKind::PermissionDenied, "permission to read is denied"),
            (Access::Write, io::ErrorKind::PermissionDenied, "permission to write is denied"),
            (Access::Rename, io::ErrorKind::PermissionDenied, "permission to rename is denied"),
            (Access::Write, io::ErrorKind::StorageFull, "the disk is full"),
            (Access::Write, io::ErrorKind::QuotaExceeded, "the disk quota is used up"),
            (Access::Write, io::ErrorKind::ReadOnlyFilesystem, "the file system is read-only"),
            (Access::Write, io::ErrorKind::FileTooLarge, "the system could not write it (file too large)"),
        ];
        for (access, error, sentence) in cases {
            assert_eq!(said(access, error), format!("`out`: {sentence}"));
        }
    }

    #[test]
    fn control_characters_stay_on_the_line() {
        let error = Error::from(ErrorKind::TwiceTensor).of("a\nb\u{1b}[31mé").at(Path::new("p\r"));
        assert_eq!(error.to_string(), "`p\\r`: two tensors are called `a\\nb\\u{1b}[31mé`");
    }
}
