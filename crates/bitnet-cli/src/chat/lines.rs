//! Where the lines of a chat come from: an editor on a terminal, else standard input as it is.

use std::io::{self, ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use crate::failure::Failure;
use crate::interrupt;

/// Lines that an editor remembers.
const HISTORY: usize = 1000;

/// What comes next.
pub(super) enum Line {
    /// A line.
    Text(String),
    /// One that cannot be read, and why.
    Refused(String),
    /// Ctrl-C while a line was edited; the line is gone.
    Interrupted,
    /// There are no more.
    End,
}

/// The lines.
pub(super) enum Lines {
    Terminal(Box<Editor>),
    Plain(Receiver<io::Result<String>>),
}

/// A line editor with a history.
pub(super) struct Editor {
    inner: DefaultEditor,
    history: Option<PathBuf>,
}

impl Lines {
    /// An editor where standard input and output are a terminal.
    pub(super) fn open() -> Self {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        match is_terminal.then(Editor::new) {
            Some(Ok(editor)) => Self::Terminal(Box::new(editor)),
            // A terminal that cannot be edited on can still be read.
            Some(Err(_)) | None => Self::Plain(read_plainly()),
        }
    }

    /// Whether a person is at the other end.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Waits for the next line.
    ///
    /// Errors: Ctrl-C where no editor takes it; a terminal that is gone.
    pub(super) fn next(&mut self) -> Result<Line, Failure> {
        match self {
            Self::Terminal(editor) => editor.next(),
            Self::Plain(lines) => loop {
                match lines.recv_timeout(interrupt::POLL) {
                    Ok(Ok(line)) => return Ok(Line::Text(line)),
                    Ok(Err(error)) => return Ok(Line::Refused(format!("standard input: {error}"))),
                    Err(RecvTimeoutError::Timeout) => interrupt::check()?,
                    Err(RecvTimeoutError::Disconnected) => return Ok(Line::End),
                }
            },
        }
    }
}

impl Editor {
    fn new() -> rustyline::Result<Self> {
        let config = Config::builder().max_history_size(HISTORY)?.history_ignore_dups(true)?;
        let mut inner = DefaultEditor::with_config(config.auto_add_history(true).build())?;
        let history = history_file();
        if let Some(file) = &history {
            // The first chat has none.
            drop(inner.load_history(file));
        }
        Ok(Self { inner, history })
    }

    fn next(&mut self) -> Result<Line, Failure> {
        loop {
            match self.inner.readline("> ") {
                Ok(line) => {
                    self.remember();
                    return Ok(Line::Text(line));
                }
                Err(ReadlineError::Interrupted) => return Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => return Ok(Line::End),
                // The window has another size, or the process was stopped and goes on.
                Err(ReadlineError::Signal(_)) => {}
                Err(error) => return Err(Failure::Other(format!("terminal: {error}"))),
            }
        }
    }

    /// Adds the last line to the file, if there can be one: a chat goes on without.
    fn remember(&mut self) {
        if let Some(file) = &self.history {
            drop(self.inner.append_history(file));
        }
    }
}

/// Reads standard input on a thread, so that a wait for it can end with Ctrl-C.
fn read_plainly() -> Receiver<io::Result<String>> {
    let (sender, lines) = sync_channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            // Behind a line that is not UTF-8 there may be others.
            let is_last = line.as_ref().is_err_and(|error| error.kind() != ErrorKind::InvalidData);
            if sender.send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

/// Where the history is kept; its folder is made.
fn history_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| {
        if cfg!(windows) { variable("LOCALAPPDATA") } else { Some(variable("HOME")?.join(".local/state")) }
    });
    let folder = state?.join("bitnet");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("chat_history"))
}
