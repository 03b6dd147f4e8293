//! Texts as vectors, many at once.
//!
//! Short texts share a batch of the backend, so that each weight is read once for all of them; a longer one is read in
//! pieces. A text's vector is the same bits alone and beside any other: a backend gives the same for a token whatever
//! shares its batch, and a mean is summed in the order of the tokens.

mod pooling;

use std::ops::Range;

pub(crate) use self::pooling::AskedPooling;
pub use self::pooling::Pooling;
use crate::backend::{Limits, Page, Session, Work};
use crate::{Error, LoadedModel, Result};

/// How texts become vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedOptions {
    /// How the vector of a text is made of those of its tokens; `None` takes what the checkpoint says, and that of the
    /// last token where it says nothing.
    pub pooling: Option<Pooling>,
    /// Divides each vector by its length.
    pub normalize: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { pooling: None, normalize: true }
    }
}

/// Tokens of a batch: enough for the unpacking of a weight to be small against its use.
const TOKENS: usize = 512;

impl LoadedModel {
    /// Texts as vectors, `[texts, hidden_size]`: `v = h_last` or `v = (h_1 + ... + h_n) / n`, with `h_i` what the last norm
    /// gives for token `i`; `v / |v|` where they are normalised.
    ///
    /// A text is encoded with the special tokens of the tokenizer, which end the texts of embedding models.
    ///
    /// Errors: [`Error::Config`] for a checkpoint that asks for another pooling where `options` ask for none,
    /// [`Error::Tokenizer`], [`Error::EmptyPrompt`], [`Error::ContextLength`], [`Error::NotFinite`].
    pub fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Vec<f32>> {
        self.embed_checked(texts, options, || Ok(()))
    }

    /// [`Self::embed`], where `check` is called between the batches and may end it.
    pub fn embed_checked<E: From<Error>>(
        &self,
        texts: &[&str],
        options: &EmbedOptions,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Vec<f32>, E> {
        let tokenizer = self.tokenizer()?;
        let encode = |text: &&str| tokenizer.encode(text, true);
        let texts: Vec<Vec<u32>> = texts.iter().map(encode).collect::<Result<_>>()?;
        self.embed_ids(&texts, options, check)
    }

    /// [`Self::embed_checked`] of token ids.
    pub fn embed_ids<E: From<Error>>(
        &self,
        texts: &[Vec<u32>],
        options: &EmbedOptions,
        mut check: impl FnMut() -> Result<(), E>,
    ) -> Result<Vec<f32>, E> {
        let pooling = options.pooling.map_or_else(|| self.pooling().known(), Ok)?;
        let context_length = self.config().context_length;
        for ids in texts {
            self.check_ids(ids)?;
            if ids.len() > context_length {
                return Err(Error::ContextLength { prompt_tokens: ids.len(), context_length }.into());
            }
        }
        let width = self.config().hidden_size;
        let mut vectors = Vec::with_capacity(texts.len() * width);
        let groups = groups(texts);
        let mut session = self.backend().open(limits(texts, &groups), self.backend().kv_type())?;
        for group in groups {
            let texts = &texts[group];
            let mut sums = vec![Sum { pooling, vector: vec![0.0; width] }; texts.len()];
            read(&mut *session, texts, &mut sums, &mut check)?;
            for (sum, ids) in sums.iter().zip(texts) {
                vectors.extend(sum.finish(ids.len(), options.normalize)?);
            }
        }
        Ok(vectors)
    }
}

/// Neighbouring texts that fit in a batch together; one that is longer is alone.
fn groups(texts: &[Vec<u32>]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (index, ids) in texts.iter().enumerate() {
        tokens += ids.len();
        match groups.last_mut() {
            Some(group) if tokens <= TOKENS => group.end = index + 1,
            _ => {
                groups.push(index..index + 1);
                tokens = ids.len();
            }
        }
    }
    groups
}

/// Room for the largest group.
fn limits(texts: &[Vec<u32>], groups: &[Range<usize>]) -> Limits {
    let largest = |size: &dyn Fn(&[Vec<u32>]) -> usize| {
        groups.iter().map(|group| size(&texts[group.clone()])).max().unwrap_or(1)
    };
    let tokens = largest(&|texts| texts.iter().map(Vec::len).sum());
    Limits {
        pages: largest(&|texts| texts.iter().map(|ids| Page::count(ids.len())).sum()),
        positions: largest(&|texts| texts.iter().map(Vec::len).max().unwrap_or(1)),
        tokens: tokens.min(TOKENS),
    }
}

/// Reads the texts of a group side by side, and adds what the last norm gives to their sums.
fn read<E: From<Error>>(
    session: &mut dyn Session,
    texts: &[Vec<u32>],
    sums: &mut [Sum],
    check: &mut impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut pages = (0..).map(Page);
    let pages: Vec<Vec<Page>> =
        texts.iter().map(|ids| pages.by_ref().take(Page::count(ids.len())).collect()).collect();
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    // Texts of a group of several are in one piece.
    for position in (0..longest).step_by(TOKENS) {
        check()?;
        let piece = |ids: &[u32]| position..ids.len().min(position + TOKENS);
        let batch: Vec<Work<'_>> = texts
            .iter()
            .zip(&pages)
            .zip(&*sums)
            .map(|((ids, pages), sum)| {
                let outputs = sum.outputs(piece(ids), ids.len());
                Work { ids: &ids[piece(ids)], position, pages, outputs }
            })
            .collect();
        session.execute(&batch)?;
        let mut first = 0;
        let outputs: Vec<usize> = batch.iter().map(|work| work.outputs).collect();
        for (sum, outputs) in sums.iter_mut().zip(outputs) {
            sum.add(session.hidden(first..first + outputs)?);
            first += outputs;
        }
    }
    Ok(())
}

/// A vector on its way.
#[derive(Debug, Clone)]
struct Sum {
    pooling: Pooling,
    vector: Vec<f64>,
}

impl Sum {
    /// Outputs that it needs of some tokens of a text.
    fn outputs(&self, tokens: Range<usize>, len: usize) -> usize {
        match self.pooling {
            Pooling::Mean => tokens.len(),
            Pooling::Last => usize::from(tokens.end == len),
        }
    }

    /// Adds outputs, `[tokens, hidden_size]`.
    fn add(&mut self, hidden: &[f32]) {
        for token in hidden.chunks_exact(self.vector.len()) {
            self.vector.iter_mut().zip(token).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }

    /// The vector of a text of `len` tokens.
    fn finish(&self, len: usize, normalize: bool) -> Result<Vec<f32>> {
        let square: f64 = self.vector.iter().map(|x| x * x).sum();
        if !square.is_finite() {
            return Err(Error::NotFinite { what: "an embedding".to_owned() });
        }
        let divisor = match (normalize, self.pooling) {
            (true, _) => square.sqrt().max(1e-12),
            (false, Pooling::Mean) => len as f64,
            (false, Pooling::Last) => 1.0,
        };
        Ok(self.vector.iter().map(|x| (x / divisor) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoadOptions;

    #[test]
    fn texts_share_batches_and_long_ones_are_alone() {
        let texts = [300, 200, 12, 1, 600, 3].map(|len| vec![0; len]);
        assert_eq!(groups(&texts), [0..3, 3..4, 4..5, 5..6]);
        assert_eq!(limits(&texts, &groups(&texts)), Limits { pages: 5 + 4 + 1, positions: 600, tokens: 512 });
        assert!(groups(&[]).is_empty());
    }

    #[test]
    fn a_vector_is_the_same_alone_and_is_what_its_tokens_say() {
        let model = LoadedModel::embedded(&LoadOptions::default()).unwrap();
        let texts: Vec<Vec<u32>> = [3, 1, 90, 700, 2]
            .iter()
            .map(|&len| (0..len).map(|i| ((i * 7919 + len * 31) % 2000) as u32).collect())
            .collect();
        let width = model.config().hidden_size;
        for pooling in [Pooling::Last, Pooling::Mean] {
            for normalize in [false, true] {
                let options = EmbedOptions { pooling: Some(pooling), normalize };
                let embed = |texts: &[Vec<u32>]| model.embed_ids(texts, &options, || Ok::<_, Error>(()));
                let all = embed(&texts).unwrap();
                for (ids, vector) in texts.iter().zip(all.chunks_exact(width)) {
                    assert_eq!(embed(std::slice::from_ref(ids)).unwrap(), vector);
                    let expected = by_hand(&model, ids, options);
                    for (got, expected) in vector.iter().zip(expected) {
                        assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} {expected}");
                    }
                }
            }
        }
    }

    /// Token by token, in a sequence of its own.
    fn by_hand(model: &LoadedModel, ids: &[u32], options: EmbedOptions) -> Vec<f64> {
        let mut sequence = model.backend().start(ids.len()).unwrap();
        let tokens: Vec<Vec<f64>> = ids
            .iter()
            .map(|id| {
                sequence.feed(&[*id], 1).unwrap();
                sequence.hidden(1).unwrap().iter().map(|x| f64::from(*x)).collect()
            })
            .collect();
        let counted =
            if options.pooling == Some(Pooling::Mean) { &tokens[..] } else { &tokens[ids.len() - 1..] };
        let mean: Vec<f64> = (0..tokens[0].len())
            .map(|i| counted.iter().map(|token| token[i]).sum::<f64>() / counted.len() as f64)
            .collect();
        let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        mean.iter().map(|x| if options.normalize { x / length } else { *x }).collect()
    }
}
