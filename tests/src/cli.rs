//! The command line, run in process.

/// What one command gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The exit code.
    pub code: u8,
    /// Stdout.
    pub out: String,
    /// Stderr.
    pub err: String,
}

/// Runs `niwaki` with these arguments.
///
/// # Panics
///
/// If it prints what is not UTF-8.
pub fn niwaki<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Answer {
    let program = std::ffi::OsString::from("niwaki");
    let args = std::iter::once(program).chain(args.into_iter().map(|a| a.as_ref().to_owned()));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = niwaki_cli::run(args, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("output in UTF-8");
    Answer { code, out: text(out), err: text(err) }
}

impl Answer {
    /// The same, where the exit code is 0 and stderr empty.
    ///
    /// # Panics
    ///
    /// If it is not so.
    pub fn ok(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "stdout: {}", self.out);
        self
    }

    /// The JSON object on stdout.
    ///
    /// # Panics
    ///
    /// If stdout is anything but one line of JSON with `version` 1 in front.
    pub fn json(&self) -> serde_json::Value {
        assert!(self.out.starts_with("{\"version\":1,"), "{self:?}");
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).expect("JSON")
    }

    /// The message of a failure, where exit code and streams are those of one.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub fn error(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (2, ""), "{self:?}");
        let line = self.err.lines().next().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or_else(|| panic!("no error line: {self:?}"))
    }
}
