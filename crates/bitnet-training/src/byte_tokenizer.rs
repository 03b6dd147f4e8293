//! A tokenizer that needs no training: a token for each byte.

use std::collections::BTreeMap;

use bitnet_core::Buffer;
use serde_json::{Map, Value, json};

/// The tokenizer whose ids 0 to 255 are the bytes of UTF-8, with three special tokens behind them.
///
/// It is written in the parts of `tokenizer.json` that every reader of the format has: byte-pair encoding without merges,
/// over the alphabet in which GPT-2 writes bytes.
#[derive(Debug, Clone, Copy)]
pub struct ByteTokenizer;

impl ByteTokenizer {
    /// First token of a text, `<|begin_of_text|>`.
    pub const BEGIN: u32 = 256;
    /// Token that ends a text, `<|end_of_text|>`.
    pub const END: u32 = 257;
    /// Token that ends a message, `<|eot_id|>`.
    pub const END_OF_TURN: u32 = 258;
    /// Number of tokens.
    pub const VOCAB_SIZE: usize = 259;

    const SPECIAL: [(u32, &str); 3] = [
        (Self::BEGIN, "<|begin_of_text|>"),
        (Self::END, "<|end_of_text|>"),
        (Self::END_OF_TURN, "<|eot_id|>"),
    ];

    /// Files of a checkpoint, by their names: `tokenizer.json`, `tokenizer_config.json` with a chat template.
    pub fn files() -> BTreeMap<String, Buffer> {
        let file = |name: &str, content: &Value| {
            (name.to_owned(), Buffer::from(format!("{content:#}\n").into_bytes()))
        };
        [file("tokenizer.json", &Self::tokenizer()), file("tokenizer_config.json", &Self::config())].into()
    }

    fn tokenizer() -> Value {
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        });
        let vocab: Map<String, Value> = alphabet().enumerate().map(|(id, c)| (c.into(), id.into())).collect();
        let added = Self::SPECIAL.map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        });
        let (begin, text) = Self::SPECIAL[0];
        let marked = |sequence: &str, type_id: u32| {
            [
                json!({"SpecialToken": {"id": text, "type_id": type_id}}),
                json!({"Sequence": {"id": sequence, "type_id": type_id}}),
            ]
        };
        let pair = [marked("A", 0), marked("B", 1)].concat();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": byte_level,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": marked("A", 0),
                "pair": pair,
                "special_tokens": {text: {"id": text, "ids": [begin], "tokens": [text]}},
            },
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": [],
            },
        })
    }

    fn config() -> Value {
        let [(_, begin), (_, end), (_, end_of_turn)] = Self::SPECIAL;
        let template = format!(
            "{{% for message in messages %}}{{% if loop.first %}}{{{{ bos_token }}}}{{% endif %}}\
             {{{{ message['role'] | capitalize + ': ' + message['content'] | trim + '{end_of_turn}' }}}}{{% endfor %}}\
             {{% if add_generation_prompt %}}{{{{ 'Assistant: ' }}}}{{% endif %}}"
        );
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": begin, "eos_token": end,
            "clean_up_tokenization_spaces": false, "chat_template": template,
            "model_input_names": ["input_ids", "attention_mask"],
        })
    }
}

/// The characters that GPT-2 writes bytes as, byte by byte: visible ones of Latin-1 as themselves, the others as the
/// characters from U+0100 in their order.
fn alphabet() -> impl Iterator<Item = char> {
    let mut others = '\u{100}'..;
    (0..=u8::MAX)
        .map(move |byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => Some(char::from(byte)),
            _ => others.next(),
        })
        .map_while(|c| c)
}

#[cfg(test)]
mod tests {
    use bitnet_inference::{ChatTemplate, Checkpoint, Message, Tokenizer};
    use proptest::prelude::*;

    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint::from_memory("bytes", ByteTokenizer::files(), BTreeMap::new())
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::read(&checkpoint()).unwrap().unwrap()
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let mut characters: Vec<char> = alphabet().collect();
        assert_eq!(characters.len(), 256);
        assert_eq!((characters[0], characters[usize::from(b' ')], characters[0xAD]), ('Ā', 'Ġ', 'Ń'));
        characters.sort_unstable();
        characters.dedup();
        assert_eq!(characters.len(), 256);
    }

    #[test]
    fn special_tokens_are_tokens() {
        let tokenizer = tokenizer();
        assert_eq!(tokenizer.vocab_size(), ByteTokenizer::VOCAB_SIZE);
        for (id, text) in ByteTokenizer::SPECIAL {
            assert_eq!(tokenizer.encode(text, false).unwrap(), [id]);
            assert_eq!(tokenizer.token(id).as_deref(), Some(text));
        }
        assert_eq!(tokenizer.encode("a", true).unwrap(), [ByteTokenizer::BEGIN, 97]);
    }

    #[test]
    fn conversations_are_written_with_their_ends() {
        let template = ChatTemplate::read(&checkpoint()).unwrap();
        let say = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let text = template.render(&[say("user", " Hi "), say("assistant", "Ho")], true).unwrap();
        assert_eq!(text, "<|begin_of_text|>User: Hi<|eot_id|>Assistant: Ho<|eot_id|>Assistant: ");
    }

    proptest! {
        #[test]
        fn ids_are_the_bytes(text in "\\PC*|[ \t\r\n'a-c\u{0}\u{7f}\u{a0}\u{ad}]*") {
            let tokenizer = tokenizer();
            let ids = tokenizer.encode(&text, false).unwrap();
            prop_assert_eq!(&ids, &text.bytes().map(u32::from).collect::<Vec<_>>());
            prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
    }
}
