//! What is read of a conversation, and what comes of it.

use std::sync::LazyLock;

use super::*;
use crate::LoadOptions;
use crate::backend::delegate::delegate_session;
use crate::backend::{KvType, Limits, Session};
use crate::speculation::Source;

static MODEL: LazyLock<Arc<LoadedModel>> =
    LazyLock::new(|| LoadedModel::embedded(&LoadOptions::default()).unwrap());

const QUESTIONS: [&str; 3] = ["Who are you?", "What is a democracy, and who made it?", "Go on."];

fn options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ..GenerateOptions::default() }
}

fn conversation(context: Option<usize>) -> Conversation {
    Conversation::new(Arc::clone(&MODEL), context).unwrap()
}

/// Asks, and returns the answer, tokens of the prompt and those that were read.
fn ask(conversation: &mut Conversation, question: &str, max_tokens: usize) -> (Vec<u32>, usize, usize) {
    let mut reply = conversation.ask(question, &options(max_tokens)).unwrap();
    let (prompt, kept) = (reply.prompt_tokens(), reply.kept_tokens());
    while !matches!(reply.advance().unwrap(), crate::Step::Done(_)) {}
    (reply.generation().token_ids, prompt, prompt - kept)
}

#[test]
fn answers_are_those_to_the_rendered_conversation() {
    let mut conversation = conversation(None);
    conversation.set_system(Some("You answer in one word.")).unwrap();
    for question in QUESTIONS {
        let messages = [conversation.messages(), &[message("user", question)]].concat();
        let text = MODEL.apply_chat_template(&messages, true).unwrap();
        let expected = MODEL.generate(text.as_str(), &options(20)).unwrap();
        let (ids, prompt, _) = ask(&mut conversation, question, 20);
        assert_eq!((ids, prompt), (expected.token_ids, expected.prompt_tokens));
        assert_eq!(conversation.messages().last().unwrap().content, expected.text);
    }
    assert_eq!((conversation.messages().len(), conversation.dropped()), (7, 0));
}

#[test]
fn guesses_change_nothing_of_a_conversation() {
    let speculation = Speculation { source: Source::Draft(Arc::clone(&MODEL)), guesses: Some(4) };
    let guessing = GenerateOptions { speculation: Some(speculation), ..options(20) };
    let (mut plain, mut guessed) = (conversation(None), conversation(None));
    for question in QUESTIONS {
        let expected = plain.ask(question, &options(20)).unwrap().run().unwrap();
        let got = guessed.ask(question, &guessing).unwrap().run().unwrap();
        assert_eq!(got.token_ids, expected.token_ids);
        assert!(got.guesses.accepted > 0);
    }
    assert_eq!(guessed.messages(), plain.messages());
}

#[test]
fn a_turn_reads_what_is_new_and_a_new_system_message_all() {
    let mut conversation = conversation(None);
    let mut before = 0;
    for question in QUESTIONS {
        let (_, prompt, read) = ask(&mut conversation, question, 30);
        // The answer is read as text, which may be other tokens than those that were generated.
        assert!(read < prompt - before + 40 && prompt > before, "{read} of {prompt}");
        assert!(before == 0 || prompt - read >= before, "{read} of {prompt}, {before} before");
        before = prompt;
    }
    let usage = conversation.usage();
    assert_eq!((usage.answers, usage.answer_tokens), (3, 90));
    assert!(usage.kept_tokens > usage.read_tokens, "{usage:?}");
    conversation.set_system(Some("Be brief.")).unwrap();
    let (_, prompt, read) = ask(&mut conversation, "And now?", 4);
    assert!(prompt - read < 4, "only the first token is the same: {read} of {prompt}");
    conversation.clear();
    assert_eq!((conversation.messages().len(), conversation.system()), (1, Some("Be brief.")));
}

#[test]
fn a_reply_that_is_dropped_leaves_no_trace_and_one_that_is_stopped_does() {
    let mut conversation = conversation(None);
    let mut reply = conversation.ask(QUESTIONS[1], &options(50)).unwrap();
    for _ in 0..4 {
        reply.advance().unwrap();
    }
    drop(reply);
    assert_eq!(conversation.messages(), []);
    let (ids, _, read) = ask(&mut conversation, QUESTIONS[1], 12);
    assert_eq!(read, 1, "the prompt was read before");
    assert_eq!(ids, ask(&mut self::conversation(None), QUESTIONS[1], 12).0);
    let mut reply = conversation.ask(QUESTIONS[2], &options(50)).unwrap();
    for _ in 0..6 {
        reply.advance().unwrap();
    }
    reply.cancel().unwrap();
    let text = reply.run().unwrap().text;
    assert_eq!(conversation.messages()[3].content, text);
}

/// Asks until turns are left out, and returns the tokens read by each turn from then on.
fn read_while_rolling(conversation: &mut Conversation) -> Vec<usize> {
    let mut reads = Vec::new();
    for turn in 0..14 {
        let question = format!("{turn}: {}", QUESTIONS[1]);
        let (_, prompt, read) = ask(conversation, &question, 16);
        assert!(prompt + 16 <= conversation.context());
        if conversation.dropped() > 0 {
            reads.push(read);
        }
    }
    assert!(reads.len() > 4 && conversation.messages().len() == 29, "{reads:?}");
    assert_eq!(conversation.system(), Some("You are a patient teacher of history and of law."));
    reads
}

#[test]
fn a_rolling_conversation_reads_no_more_than_a_turn() {
    let mut rolling = conversation(Some(200));
    rolling.set_system(Some("You are a patient teacher of history and of law.")).unwrap();
    let reads = read_while_rolling(&mut rolling);
    let question = MODEL.prompt_ids(Prompt::Text(QUESTIONS[1])).unwrap().len();
    assert!(reads.iter().all(|read| *read < question + 16 + 24), "{reads:?}");

    let limits = Limits::sequence(200);
    let session = Plain(MODEL.backend().open(limits, KvType::F32).unwrap());
    let sequence: Sequence = Sequence::new(Box::new(session), limits);
    let mut plain = Conversation::in_sequence(Arc::clone(&MODEL), sequence, 200).unwrap();
    plain.set_system(Some("You are a patient teacher of history and of law.")).unwrap();
    let again = read_while_rolling(&mut plain);
    assert!(again.iter().sum::<usize>() > 2 * reads.iter().sum::<usize>(), "{again:?} {reads:?}");
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let mut conversation = conversation(Some(100));
    ask(&mut conversation, QUESTIONS[0], 8);
    let long = "word ".repeat(200);
    let refused = conversation.ask(&long, &options(8)).map(drop);
    assert!(matches!(refused, Err(Error::ContextLength { context_length: 100, .. })));
    assert_eq!((conversation.messages().len(), conversation.dropped()), (2, 0));
    for context in [0, 1, 4096] {
        let refused = Conversation::new(Arc::clone(&MODEL), Some(context)).map(drop);
        assert!(matches!(refused, Err(Error::InvalidOption { name: "context", .. })), "{context}");
    }
}

/// A session that cannot forget.
#[derive(Debug)]
struct Plain(Box<dyn Session>);

impl Session for Plain {
    delegate_session!(0: execute hidden logits choose candidates copy_page traffic);
}
