//! An answer as it comes.

use super::{Conversation, message};
use crate::Result;
use crate::chat::Message;
use crate::generate::{Decoding, FinishReason, Generation, Step};

/// An answer in progress. Each [`Self::advance`] does a bounded piece of work, so that a caller can stop between any two.
#[derive(Debug)]
pub struct Reply<'c> {
    conversation: &'c mut Conversation,
    decoding: Decoding,
    /// Until it is part of the conversation.
    question: Option<Message>,
    /// Tokens of the prompt that did not have to be read.
    kept: usize,
}

impl<'c> Reply<'c> {
    /// An answer to `question`; the sequence of `conversation` holds the beginning of the prompt.
    pub(super) fn new(conversation: &'c mut Conversation, decoding: Decoding, question: Message) -> Self {
        let kept = conversation.sequence.len();
        Self { conversation, decoding, question: Some(question), kept }
    }

    /// Does the next piece of work: a chunk of the prompt, or one token.
    pub fn advance(&mut self) -> Result<Step> {
        let step = self.decoding.advance(&mut self.conversation.sequence)?;
        if let Step::Done(reason) = step {
            self.commit(reason);
        }
        Ok(step)
    }

    /// Ends the answer. What it has so far belongs to the conversation, once [`Self::advance`] has given out the rest.
    pub fn cancel(&mut self) -> Result<()> {
        self.decoding.cancel()
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Generation> {
        while !matches!(self.advance()?, Step::Done(_)) {}
        Ok(self.generation())
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.decoding.prompt_tokens()
    }

    /// Tokens of the prompt whose keys and values were there already.
    pub fn kept_tokens(&self) -> usize {
        self.kept
    }

    /// What was generated so far.
    pub fn generation(&self) -> Generation {
        self.decoding.generation()
    }

    /// Makes question and answer a part of the conversation, once. An answer that was stopped before its first word is
    /// none.
    fn commit(&mut self, reason: FinishReason) {
        let generation = self.decoding.generation();
        if reason == FinishReason::Cancelled && generation.text.is_empty() {
            self.question = None;
        }
        let Some(question) = self.question.take() else { return };
        let Conversation { messages, usage, .. } = &mut *self.conversation;
        messages.extend([question, message("assistant", &generation.text)]);
        usage.answers += 1;
        usage.kept_tokens += self.kept;
        usage.read_tokens += generation.prompt_tokens - self.kept;
        usage.answer_tokens += generation.token_ids.len();
        usage.guesses.proposed += generation.guesses.proposed;
        usage.guesses.accepted += generation.guesses.accepted;
        usage.prefill_s += generation.timings.prefill_s;
        usage.decode_s += generation.timings.decode_s;
    }
}

impl Drop for Reply<'_> {
    /// What was read is there for the next question, whatever became of this one.
    fn drop(&mut self) {
        let Conversation { sequence, held, guesser, .. } = &mut *self.conversation;
        *guesser = self.decoding.take_guesser();
        held.clear();
        held.extend_from_slice(self.decoding.held(sequence));
        sequence.truncate(held.len());
    }
}
