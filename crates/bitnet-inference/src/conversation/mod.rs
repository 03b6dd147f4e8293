//! A chat that reads only what is new.
//!
//! One KV cache holds the conversation over all turns: of the text that the template makes of it, what the cache begins
//! with is not read again. When it outgrows the context its oldest turns are left out, and the cache forgets them in its
//! middle where the device can do that. What was computed with them in view stays as it was, so that from then on a text is
//! not the one that a fresh reading of the same messages would give (llama.cpp calls this a context shift).

mod reply;
mod roll;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Serialize;

pub use self::reply::Reply;
use self::roll::{common, gap};
use crate::backend::Sequence;
use crate::chat::Message;
use crate::generate::{Continuation, Decoding, GenerateOptions, Prompt};
use crate::loaded_model::LoadedModel;
use crate::speculation::{Guesser, Guesses, Speculation};
use crate::{Error, Result};

/// A conversation with a model.
///
/// ```
/// use bitnet_inference::{Conversation, GenerateOptions, LoadOptions, LoadedModel};
///
/// let model = LoadedModel::embedded(&LoadOptions::default())?;
/// let mut conversation = Conversation::new(model, None)?;
/// let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
/// let answer = conversation.ask("Who are you?", &options)?.run()?;
/// assert_eq!(conversation.messages()[1].content, answer.text);
/// # Ok::<(), bitnet_inference::Error>(())
/// ```
#[derive(Debug)]
pub struct Conversation {
    model: Arc<LoadedModel>,
    sequence: Sequence,
    /// The tokens that the sequence holds.
    held: Vec<u32>,
    messages: Vec<Message>,
    /// Messages behind that of the system that are left out.
    dropped: usize,
    /// Positions of the sequence.
    context: usize,
    /// Of the last answer: its draft has read the conversation so far.
    guesser: Option<Guesser>,
    usage: Usage,
}

/// What a conversation has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Answers.
    pub answers: usize,
    /// Tokens of all prompts that did not have to be read: their keys and values were there.
    pub kept_tokens: usize,
    /// Tokens of all prompts that were read.
    pub read_tokens: usize,
    /// Tokens of all answers.
    pub answer_tokens: usize,
    /// Guesses of their tokens.
    pub guesses: Guesses,
    /// Seconds until the first tokens.
    pub prefill_s: f64,
    /// Seconds from there to the last ones.
    pub decode_s: f64,
}

impl Conversation {
    /// An empty conversation of at most `context` tokens; `None` takes the context of the model.
    ///
    /// Errors: [`Error::ChatTemplate`] where the checkpoint has none, [`Error::Tokenizer`], [`Error::InvalidOption`],
    /// [`Error::OutOfMemory`].
    pub fn new(model: Arc<LoadedModel>, context: Option<usize>) -> Result<Self> {
        let most = model.config().context_length;
        let context = context.unwrap_or(most);
        if !(2..=most).contains(&context) {
            let expected = "between 2 and the context of the model";
            return Err(Error::InvalidOption { name: "context", expected, got: context.to_string() });
        }
        let sequence = model.backend().start(context)?;
        Self::in_sequence(model, sequence, context)
    }

    fn in_sequence(model: Arc<LoadedModel>, sequence: Sequence, context: usize) -> Result<Self> {
        model.tokenizer()?;
        model.check_chat_template()?;
        let (held, messages, usage) = (Vec::new(), Vec::new(), Usage::default());
        Ok(Self { model, sequence, held, messages, dropped: 0, context, guesser: None, usage })
    }

    /// The model.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }

    /// Everything that was said, also what is left out by now.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Goes on from other messages.
    ///
    /// Errors: [`Error::ChatTemplate`] when the template refuses them, and then nothing has changed.
    pub fn set_messages(&mut self, messages: Vec<Message>) -> Result<()> {
        self.model.apply_chat_template(&messages, false)?;
        (self.messages, self.dropped) = (messages, 0);
        Ok(())
    }

    /// What the system says, if it does.
    pub fn system(&self) -> Option<&str> {
        self.messages[..self.system_len()].first().map(|message| &*message.content)
    }

    /// Has the system say something else, or nothing. It is read again with the next question, and all behind it.
    ///
    /// Errors: as [`Self::set_messages`].
    pub fn set_system(&mut self, content: Option<&str>) -> Result<()> {
        let dropped = self.dropped;
        let system = content.map(|content| message("system", content));
        let rest = &self.messages[self.system_len()..];
        let messages: Vec<Message> = system.into_iter().chain(rest.iter().cloned()).collect();
        // A template may refuse a conversation without a question.
        if rest.is_empty() {
            self.messages = messages;
        } else {
            self.set_messages(messages)?;
        }
        self.dropped = dropped;
        Ok(())
    }

    /// Forgets what was said, except by the system.
    pub fn clear(&mut self) {
        self.messages.truncate(self.system_len());
        self.dropped = 0;
    }

    /// Positions in use, of [`Self::context`].
    pub fn len(&self) -> usize {
        self.sequence.len()
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.sequence.is_empty()
    }

    /// The most tokens of the conversation that the model sees.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Messages that are left out because the context is full.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// What it has cost so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Asks something. Question and answer belong to the conversation once the reply is done; a reply that is dropped
    /// before leaves no trace.
    ///
    /// As many of the oldest turns are left out as the prompt and `max_tokens` need, the latter as far as a quarter of the
    /// context.
    ///
    /// Errors: [`Error::ContextLength`] when the question alone does not fit, [`Error::ChatTemplate`],
    /// [`Error::InvalidOption`].
    pub fn ask(&mut self, question: &str, options: &GenerateOptions) -> Result<Reply<'_>> {
        options.check()?;
        let ids = self.prepare(question, options.max_tokens.min(self.context / 4))?;
        let model = Arc::clone(&self.model);
        let continuation = Continuation::new(Arc::clone(&model), Prompt::Ids(&ids), options, self.context)?;
        let guesser = match &options.speculation {
            Some(speculation) => Some(self.guesser_for(speculation, &ids)?),
            None => None,
        };
        let decoding = Decoding::new(&model, continuation, guesser);
        // The last token is read in any case: its output is asked for.
        let kept = common(&self.held, &ids[..ids.len() - 1]);
        self.sequence.truncate(kept);
        Ok(Reply::new(self, decoding, message("user", question)))
    }

    /// The guesser of the last answer, if it is what is asked for now.
    fn guesser_for(&mut self, speculation: &Speculation, prompt: &[u32]) -> Result<Guesser> {
        match self.guesser.take().filter(|guesser| guesser.is_of(speculation)) {
            Some(mut guesser) => {
                guesser.begin(prompt);
                Ok(guesser)
            }
            None => Guesser::new(speculation, &self.model, prompt, self.context),
        }
    }

    /// The prompt of a question with `room` behind it, where that is possible; what had to be left out is forgotten.
    fn prepare(&mut self, question: &str, room: usize) -> Result<Vec<u32>> {
        let mut ids = self.render(self.dropped, question)?;
        let valid = common(&self.held, &ids);
        let mut dropped = self.dropped;
        while ids.len() + room > self.context {
            let Some(next) = self.next_turn(dropped) else { break };
            dropped = next;
            ids = self.render(dropped, question)?;
        }
        if ids.len() < self.context && dropped > self.dropped {
            self.dropped = dropped;
            self.forget(valid, &ids)?;
        }
        Ok(ids)
    }

    /// Brings the first `valid` tokens of the cache closer to `ids`, which leave out some from their middle.
    fn forget(&mut self, valid: usize, ids: &[u32]) -> Result<()> {
        self.held.truncate(valid);
        self.sequence.truncate(valid);
        let Some(gap) = gap(&self.held, ids) else { return Ok(()) };
        match self.sequence.forget(gap.clone()) {
            Ok(()) => drop(self.held.drain(gap)),
            // What does not match is read again.
            Err(Error::Unsupported { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Ids of the conversation without the first `dropped` messages of its turns, and of a question.
    fn render(&self, dropped: usize, question: &str) -> Result<Vec<u32>> {
        let (system, turns) = self.messages.split_at(self.system_len());
        let seen = system.iter().chain(&turns[dropped..]).cloned();
        let messages: Vec<Message> = seen.chain([message("user", question)]).collect();
        let text = self.model.apply_chat_template(&messages, true)?;
        self.model.prompt_ids(Prompt::Text(&text))
    }

    /// Messages to leave out so that one turn more than behind `dropped` is: up to the next question, or to the end.
    fn next_turn(&self, dropped: usize) -> Option<usize> {
        let turns = &self.messages[self.system_len()..];
        let left = turns.get(dropped + 1..)?;
        let next = left.iter().position(|message| message.role == "user");
        Some(next.map_or(turns.len(), |next| dropped + 1 + next))
    }

    fn system_len(&self) -> usize {
        usize::from(self.messages.first().is_some_and(|message| message.role == "system"))
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}
