//! Which tokens make a sequence.

use std::ops::Range;

/// How documents become sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// Documents one behind another, cut into sequences of equal length; each begins with the last token of the one before,
    /// so that every token but the first is predicted once. What does not fill a sequence at the end is left out.
    #[default]
    Stream,
    /// As many whole documents as fit, and padding behind. A longer document has sequences of its own, cut as above.
    Documents,
}

/// How tokens are made into sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// Inputs of a sequence; it takes one token more, which only is predicted.
    pub seq_len: usize,
    /// Positions the model was built for.
    pub context_length: usize,
    /// How documents become sequences.
    pub packing: Packing,
}

/// The tokens of each sequence, of `tokens` in documents that begin at `documents`.
pub(super) fn pack(tokens: u64, documents: &[u64], seq_len: u64, packing: Packing) -> Vec<Range<u64>> {
    match packing {
        Packing::Stream => whole(0..tokens, seq_len).collect(),
        Packing::Documents => {
            let ends = documents.iter().skip(1).copied().chain([tokens]);
            let mut sequences: Vec<Range<u64>> = Vec::new();
            for document in documents.iter().zip(ends).map(|(start, end)| *start..end) {
                match sequences.last_mut() {
                    Some(last) if document.end - last.start <= seq_len + 1 => last.end = document.end,
                    _ => sequences.extend(pieces(document, seq_len)),
                }
            }
            sequences
        }
    }
}

/// Sequences of equal length.
fn whole(tokens: Range<u64>, seq_len: u64) -> impl Iterator<Item = Range<u64>> {
    let count = (tokens.end - tokens.start).saturating_sub(1) / seq_len;
    (0..count).map(move |index| {
        let start = tokens.start + index * seq_len;
        start..start + seq_len + 1
    })
}

/// The same, and what is left.
fn pieces(document: Range<u64>, seq_len: u64) -> impl Iterator<Item = Range<u64>> {
    let predicted = (document.end - document.start).saturating_sub(1);
    let rest = predicted % seq_len;
    let left = document.end - rest - 1..document.end;
    // A document of one token predicts nothing, and may yet lie in front of others.
    let has_left = rest > 0 || predicted == 0;
    whole(document, seq_len).chain(has_left.then_some(left))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stream_is_cut_into_equal_parts_that_share_a_token() {
        assert_eq!(pack(9, &[0, 2], 4, Packing::Stream), [0..5, 4..9]);
        assert_eq!(pack(12, &[0], 4, Packing::Stream), [0..5, 4..9]);
        assert_eq!(pack(4, &[0], 4, Packing::Stream), []);
    }

    #[test]
    fn documents_stay_whole_where_they_fit() {
        // Of 3, 2, 4, 10 and 1 tokens, in sequences of 5.
        let sequences = pack(20, &[0, 3, 5, 9, 19], 4, Packing::Documents);
        assert_eq!(sequences, [0..5, 5..9, 9..14, 13..18, 17..20]);
    }

    proptest! {
        #[test]
        fn every_token_is_predicted_once_but_the_first_ones(
            lens in prop::collection::vec(1_u64..30, 1..20),
            seq_len in 1_u64..12,
        ) {
            let mut tokens = 0;
            let documents: Vec<u64> = lens.iter().map(|len| { tokens += len; tokens - len }).collect();
            let predicted = |packing| -> Vec<u64> {
                let sequences = pack(tokens, &documents, seq_len, packing);
                assert!(sequences.iter().all(|range| range.end - range.start <= seq_len + 1));
                sequences.iter().flat_map(|range| range.start + 1..range.end).collect()
            };
            let stream = predicted(Packing::Stream);
            prop_assert_eq!(&stream, &(1..=stream.len() as u64).collect::<Vec<_>>());
            prop_assert!(tokens - 1 - (stream.len() as u64) < seq_len);
            let inside: Vec<u64> = (0..tokens).filter(|token| !documents.contains(token)).collect();
            let mut of_documents = predicted(Packing::Documents);
            of_documents.retain(|token| !documents.contains(token));
            prop_assert_eq!(of_documents, inside);
        }
    }
}
