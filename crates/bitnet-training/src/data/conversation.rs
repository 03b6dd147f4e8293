//! Which part of a conversation's text its answers are.

use bitnet_inference::{ChatTemplate, Message};

/// The one whose messages are learnt.
const ASSISTANT: &str = "assistant";

/// A piece of the text that a template makes of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Whether the assistant says it.
    pub(super) is_answer: bool,
}

/// Cuts the text of a conversation where its answers begin and end.
///
/// An answer begins where the text ends that the template makes of the messages before it when the assistant is next: what
/// inference gives the model to answer. It ends where the text of the messages up to it ends, behind what the template
/// closes a message with, so that the model learns to stop.
///
/// Errors: one line when the template refuses the messages, when it writes earlier ones otherwise where later ones follow,
/// and when there is no answer.
pub(super) fn pieces(template: &ChatTemplate, messages: &[Message]) -> Result<Vec<Piece>, String> {
    let render = |messages: &[Message], add_generation_prompt| {
        template.render(messages, add_generation_prompt).map_err(|error| error.to_string())
    };
    let whole = render(messages, false)?;
    let mut pieces = Vec::new();
    let mut at = 0;
    for index in (0..messages.len()).filter(|&index| messages[index].role == ASSISTANT) {
        let asked = render(&messages[..index], true)?;
        let answered = render(&messages[..=index], false)?;
        let is_cut = whole.starts_with(&answered) && answered.starts_with(&asked) && at <= asked.len();
        if !is_cut {
            let number = index + 1;
            return Err(format!(
                "the chat template does not say where the answer in message {number} begins and ends"
            ));
        }
        pieces.push(Piece { text: whole[at..asked.len()].to_owned(), is_answer: false });
        pieces.push(Piece { text: whole[asked.len()..answered.len()].to_owned(), is_answer: true });
        at = answered.len();
    }
    if pieces.is_empty() {
        return Err(format!("has no message of the role {ASSISTANT:?}: there is nothing to learn"));
    }
    pieces.push(Piece { text: whole[at..].to_owned(), is_answer: false });
    pieces.retain(|piece| !piece.text.is_empty());
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bitnet_core::Buffer;
    use bitnet_inference::Checkpoint;

    use super::*;

    fn template(source: &str) -> ChatTemplate {
        let config = serde_json::json!({"chat_template": source, "bos_token": "<s>"}).to_string();
        let files = [("tokenizer_config.json".to_owned(), Buffer::from(config.into_bytes()))];
        let checkpoint = Checkpoint::from_memory("test", BTreeMap::from(files), BTreeMap::new());
        ChatTemplate::read(&checkpoint).unwrap()
    }

    fn messages(said: &[(&str, &str)]) -> Vec<Message> {
        let message = |(role, content): &(&str, &str)| Message {
            role: (*role).to_owned(),
            content: (*content).to_owned(),
        };
        said.iter().map(message).collect()
    }

    fn cut(template: &ChatTemplate, said: &[(&str, &str)]) -> Result<Vec<(String, bool)>, String> {
        let pieces = pieces(template, &messages(said))?;
        Ok(pieces.into_iter().map(|piece| (piece.text, piece.is_answer)).collect())
    }

    const SAID: [(&str, &str); 5] = [
        ("system", "Be brief."),
        ("user", " 1+1? "),
        ("assistant", " 2 "),
        ("user", "so?"),
        ("assistant", "yes"),
    ];

    #[test]
    fn answers_reach_from_the_prompt_to_what_closes_them() {
        let template = ChatTemplate::read(&Checkpoint::embedded().unwrap()).unwrap();
        let own = |text: &str, is_answer| (text.to_owned(), is_answer);
        let expected = [
            own("<|begin_of_text|>System: Be brief.<|eot_id|>User: 1+1?<|eot_id|>Assistant: ", false),
            own("2<|eot_id|>", true),
            own("User: so?<|eot_id|>Assistant: ", false),
            own("yes<|eot_id|>", true),
        ];
        assert_eq!(cut(&template, &SAID).unwrap(), expected);
        let asked_again = [&SAID[..], &[("user", "why?")]].concat();
        let last = own("User: why?<|eot_id|>", false);
        assert_eq!(cut(&template, &asked_again).unwrap(), [&expected[..], &[last]].concat());
    }

    #[test]
    fn the_answer_is_not_looked_for_by_its_text() {
        let chatml = template(
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
             {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        );
        // What is asked is also what is answered, and the name of the role.
        let pieces = cut(&chatml, &[("user", "assistant\n"), ("assistant", "assistant\n")]).unwrap();
        assert_eq!(pieces[1], ("assistant\n<|im_end|>\n".to_owned(), true));
        assert!(pieces[0].0.ends_with("<|im_start|>assistant\n"));
        assert_eq!(pieces.len(), 2);
    }

    #[test]
    fn a_template_that_hides_the_border_is_refused() {
        let forgetful = template(
            "{% for m in messages %}{% if loop.last or m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}\
             {% if add_generation_prompt %}>{% endif %}",
        );
        let refused = cut(&forgetful, &SAID).unwrap_err();
        assert_eq!(refused, "the chat template does not say where the answer in message 3 begins and ends");
    }

    #[test]
    fn a_conversation_without_an_answer_is_refused() {
        let template = ChatTemplate::read(&Checkpoint::embedded().unwrap()).unwrap();
        let refused = cut(&template, &[("user", "hi"), ("bot", "ho")]).unwrap_err();
        assert_eq!(refused, "has no message of the role \"assistant\": there is nothing to learn");
    }
}
