//! `bitnet chat`.

mod command;
mod lines;
mod saved;
mod settings;

use std::ops::ControlFlow;
use std::path::Path;

use bitnet_inference::conversation::Reply;
use bitnet_inference::speculation::Guesses;
use bitnet_inference::{Conversation, GenerateOptions, Message, Step};

use self::command::{Command, HELP};
use self::lines::{Line, Lines};
use self::settings::Settings;
use crate::args::ChatArgs;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, grouped, note};

/// Answers questions from a terminal, or from a pipe line by line, until they end.
pub(crate) fn chat(args: ChatArgs) -> Result<(), Failure> {
    let mut options = args.generate.options()?;
    options.check()?;
    let (model, speculation) = args.generate.speculation.load(&args.model)?;
    options.speculation = speculation;
    let summary = model.summary();
    if !summary.chat_template {
        let model = &summary.model;
        return Err(Failure::Other(format!("{model}: has no chat template; `bitnet run` continues a text")));
    }
    let mut conversation = Conversation::new(model, args.context)?;
    if let Some(system) = args.system {
        conversation.set_system(Some(&system))?;
    }
    Chat { conversation, options }.run(&mut Lines::open())
}

/// A chat.
struct Chat {
    conversation: Conversation,
    options: GenerateOptions,
}

impl Chat {
    /// Takes lines until they end. What cannot be done is said, and the chat goes on.
    fn run(&mut self, lines: &mut Lines) -> Result<(), Failure> {
        if lines.is_terminal() {
            note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D ends the chat");
        }
        loop {
            let done = match lines.next()? {
                Line::Text(line) => self.take(line.trim()),
                Line::Refused(reason) => Err(Failure::Other(reason)),
                Line::Interrupted => {
                    note("Ctrl-D or /exit ends the chat");
                    continue;
                }
                Line::End => return Ok(()),
            };
            match done {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(()),
                Err(failure @ (Failure::Output(_) | Failure::Interrupted)) => return Err(failure),
                Err(failure) => note(&format!("error: {failure}")),
            }
        }
    }

    fn take(&mut self, line: &str) -> Result<ControlFlow<()>, Failure> {
        match Command::parse(line).map_err(Failure::Other)? {
            Some(Command::Exit) => return Ok(ControlFlow::Break(())),
            Some(command) => self.obey(&command)?,
            None if line.is_empty() => {}
            None => self.answer(line)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    fn obey(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        match *command {
            Command::Help => output::text(HELP),
            Command::Clear => {
                self.conversation.clear();
                Ok(())
            }
            Command::History => self.history(),
            Command::Save(path) => Ok(saved::save(path, self.conversation.messages(), &self.settings())?),
            Command::Load(path) => self.load(path),
            Command::System(content) => Ok(self.conversation.set_system(content)?),
            Command::Show => output::table(&self.settings().rows()),
            Command::Set(name, value) => {
                let mut settings = self.settings();
                settings.set(name, value).map_err(Failure::Other)?;
                self.options = settings.applied_to(&self.options)?;
                Ok(())
            }
            Command::Stats => output::table(&self.statistics()),
            Command::Exit => Ok(()),
        }
    }

    /// Prints an answer as it comes, until it ends or Ctrl-C does it.
    fn answer(&mut self, question: &str) -> Result<(), Failure> {
        interrupt::take();
        let mut reply = self.conversation.ask(question, &self.options)?;
        let done = print(&mut reply);
        // Whatever ended the answer, what comes next starts on a line of its own.
        done.and(output::text("\n"))
    }

    fn history(&self) -> Result<(), Failure> {
        let lines = self.conversation.messages().iter();
        let lines: Vec<String> =
            lines.map(|Message { role, content }| format!("{role}: {content}\n")).collect();
        output::text(&lines.concat())
    }

    /// Goes on with a saved chat: all of it, or nothing.
    fn load(&mut self, path: &Path) -> Result<(), Failure> {
        let (messages, settings) = saved::load(path)?;
        let options = settings.applied_to(&self.options)?;
        self.conversation.set_messages(messages)?;
        self.options = options;
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings::of(&self.options)
    }

    fn statistics(&self) -> Vec<(&'static str, String)> {
        let (conversation, usage) = (&self.conversation, self.conversation.usage());
        let per_second =
            |tokens: usize, seconds: f64| if tokens == 0 { 0.0 } else { tokens as f64 / seconds };
        // The first token of an answer counts as the end of its prompt.
        let decoded = usage.answer_tokens.saturating_sub(usage.answers);
        let (read, kept) = (grouped(usage.read_tokens), grouped(usage.kept_tokens));
        let mut rows = vec![
            ("answers", format!("{}, {} tokens", usage.answers, grouped(usage.answer_tokens))),
            ("speed", format!("{:.1} tokens/s", per_second(decoded, usage.decode_s))),
            ("prompts", format!("{read} tokens read, {kept} kept from before")),
            ("reading", format!("{:.1} tokens/s", per_second(usage.read_tokens, usage.prefill_s))),
            (
                "context",
                format!("{} of {} tokens", grouped(conversation.len()), grouped(conversation.context())),
            ),
            ("left out", format!("{} messages", conversation.dropped())),
        ];
        let Guesses { proposed, accepted } = usage.guesses;
        if proposed > 0 {
            rows.push(("guesses", format!("{accepted} of {proposed} right")));
        }
        rows
    }
}

fn print(reply: &mut Reply<'_>) -> Result<(), Failure> {
    loop {
        if interrupt::take() {
            reply.cancel()?;
        }
        match reply.advance()? {
            Step::Chunk(chunk) if !chunk.text.is_empty() => output::text(&chunk.text)?,
            Step::Chunk(_) | Step::Prefill => {}
            Step::Done(_) => return Ok(()),
        }
    }
}
