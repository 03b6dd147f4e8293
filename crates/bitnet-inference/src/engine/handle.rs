//! A text that an engine generates.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::{Cancellation, Event, Sink};
use crate::generate::{Chunk, Generation};
use crate::{Error, Result};

/// A text that an engine generates: its chunks as they come, then all of it. Dropping it ends the text.
#[derive(Debug)]
pub struct Handle {
    events: Receiver<Event>,
    cancellation: Cancellation,
    generation: Option<Box<Generation>>,
    is_over: bool,
}

impl Handle {
    /// A handle whose request is sent with a sink.
    pub(super) fn new(send: impl FnOnce(Sink) -> Result<Cancellation>) -> Result<Self> {
        let (sender, events) = channel();
        // Nobody listens to a handle that was dropped.
        let cancellation = send(Box::new(move |event| drop(sender.send(event))))?;
        Ok(Self { events, cancellation, generation: None, is_over: false })
    }

    /// Ends the text at the next step.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }

    /// The next chunk; `None` behind the last one.
    ///
    /// Errors: why the request failed, once; [`Error::EngineClosed`] when the engine is gone.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.is_over {
            return Ok(None);
        }
        let event = self.events.recv();
        self.take(event.map_err(|_| Error::EngineClosed))
    }

    /// [`Self::next_chunk`], which gives up after `timeout` with `None` inside.
    pub fn next_chunk_within(&mut self, timeout: Duration) -> Result<Option<Option<Chunk>>> {
        if self.is_over {
            return Ok(Some(None));
        }
        match self.events.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => self.take(Err(Error::EngineClosed)).map(Some),
            Ok(event) => self.take(Ok(event)).map(Some),
        }
    }

    /// Waits for the end of the text.
    ///
    /// Errors: as [`Self::next_chunk`].
    pub fn wait(mut self) -> Result<Generation> {
        while self.next_chunk()?.is_some() {}
        self.generation().cloned().ok_or(Error::EngineClosed)
    }

    /// All of it, once it is over and did not fail.
    pub fn generation(&self) -> Option<&Generation> {
        self.generation.as_deref()
    }

    fn take(&mut self, event: Result<Event>) -> Result<Option<Chunk>> {
        match event {
            Ok(Event::Chunk(chunk)) => Ok(Some(chunk)),
            Ok(Event::Done(generation)) => {
                self.is_over = true;
                self.generation = Some(generation);
                Ok(None)
            }
            Ok(Event::Failed(error)) | Err(error) => {
                self.is_over = true;
                Err(error)
            }
        }
    }
}

impl Iterator for Handle {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_chunk().transpose()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.cancel();
    }
}
