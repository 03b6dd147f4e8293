//! Prompts into an engine, rows out of it, in the same order.

use std::collections::VecDeque;
use std::time::Duration;

use bitnet_inference::engine::Handle;
use bitnet_inference::{Error, GenerateOptions, Generation, InferenceEngine, Message, Request};

use super::header::Header;
use super::journal::Journal;
use super::prompts::{Prompt, Prompts};
use super::row::Row;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, grouped};

/// Prompts that are waiting or running, or wait for one before them: enough that a long text holds up nobody, few enough to
/// be kept in memory.
pub(super) const IN_FLIGHT: usize = 2048;

/// What drives an engine.
pub(super) struct Pump<'e> {
    engine: &'e InferenceEngine,
    /// That of the first row, whatever its prompt.
    request: Request,
    /// Whether prompts go through the chat template.
    is_chat: bool,
    system: Option<Message>,
}

/// A prompt on its way.
struct Pending {
    index: usize,
    prompt: Prompt,
    /// Its text to come, or why there will be none.
    answer: Result<Handle, String>,
}

impl<'e> Pump<'e> {
    pub(super) fn new(engine: &'e InferenceEngine, mut options: GenerateOptions, header: &Header) -> Self {
        options.sampling.seed = Some(header.seed);
        let request = Request { options, ..Request::default() };
        let system = header.system.as_deref().map(|content| message("system", content));
        Self { engine, request, is_chat: header.chat, system }
    }

    /// Appends the rows of all `prompts` to `journal`; returns the tokens that were generated. After Ctrl-C the rows that are
    /// done are appended.
    pub(super) fn run(&self, prompts: &mut Prompts, journal: &mut Journal) -> Result<usize, Failure> {
        // It measures bytes of the prompts, whose number is not known before.
        let bar = output::progress_bar(prompts.bytes(), "{bar:40} {msg} rows, {eta} left");
        let before = journal.rows();
        let (mut pending, mut tokens) = (VecDeque::new(), 0);
        loop {
            while pending.len() < IN_FLIGHT && !interrupt::is_pressed() {
                let Some(prompt) = prompts.next() else { break };
                pending.push_back(self.submit(journal.rows() + pending.len(), prompt?)?);
            }
            let Some(first) = pending.pop_front() else { break };
            let end = first.prompt.end;
            let row = finish(first)?.ok_or(Failure::Interrupted)?;
            journal.append(&row)?;
            tokens += row.tokens.unwrap_or_default();
            bar.set_position(end);
            bar.set_message(grouped(journal.rows()));
            if journal.rows() == before + 1 {
                // What an earlier run did took no time of this one.
                bar.reset_eta();
            }
        }
        bar.finish_and_clear();
        interrupt::check()?;
        Ok(tokens)
    }

    /// Sends a prompt to the engine. One that it refuses is answered, too.
    fn submit(&self, index: usize, prompt: Prompt) -> Result<Pending, Failure> {
        let answer = match &prompt.text {
            Err(reason) => Err(reason.clone()),
            Ok(text) => refused(self.send(index, text))?,
        };
        Ok(Pending { index, prompt, answer })
    }

    fn send(&self, index: usize, text: &str) -> Result<Handle, Error> {
        let request = self.request.sample(index);
        if !self.is_chat {
            return self.engine.submit_waiting(text, &request);
        }
        let messages: Vec<Message> = self.system.iter().cloned().chain([message("user", text)]).collect();
        let text = self.engine.model().apply_chat_template(&messages, true)?;
        self.engine.submit_waiting(text.as_str(), &request)
    }
}

/// Waits for a row; `None` when Ctrl-C comes before it.
fn finish(pending: Pending) -> Result<Option<Row>, Failure> {
    let Pending { index, prompt, answer } = pending;
    let answer = match answer {
        Err(reason) => Err(reason),
        Ok(mut handle) => match refused(wait(&mut handle))? {
            Ok(None) => return Ok(None),
            Ok(Some(generation)) => Ok(generation),
            Err(reason) => Err(reason),
        },
    };
    let mut row = Row {
        index,
        prompt: prompt.text.ok(),
        text: None,
        finish_reason: None,
        tokens: None,
        error: None,
        fields: prompt.fields,
    };
    match answer {
        Ok(generation) => {
            row.finish_reason = Some(generation.finish_reason.to_string());
            row.tokens = Some(generation.token_ids.len());
            row.text = Some(generation.text);
        }
        Err(reason) => row.error = Some(reason),
    }
    Ok(Some(row))
}

/// The text; `None` when Ctrl-C comes before its end.
fn wait(handle: &mut Handle) -> Result<Option<Generation>, Error> {
    loop {
        let is_pressed = interrupt::is_pressed();
        let timeout = if is_pressed { Duration::ZERO } else { interrupt::POLL };
        match handle.next_chunk_within(timeout)? {
            Some(None) => return Ok(handle.generation().cloned()),
            None if is_pressed => return Ok(None),
            Some(Some(_)) | None => {}
        }
    }
}

/// An error of one prompt is the content of its row; that of an engine which is gone is everybody's.
fn refused<T>(answer: Result<T, Error>) -> Result<Result<T, String>, Failure> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(error @ Error::EngineClosed) => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}
