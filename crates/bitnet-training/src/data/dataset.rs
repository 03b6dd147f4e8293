//! The sequences of several files.

use std::ops::Range;

use super::batch::Batch;
use super::packing::{PackOptions, pack};
use super::token_file::TokenFile;
use crate::{Error, Result};

/// Files of tokens, one behind another, cut into sequences.
#[derive(Debug)]
pub struct Dataset {
    files: Vec<TokenFile>,
    /// The first token of each file, and the number of all.
    starts: Vec<u64>,
    /// The first token of each document.
    documents: Vec<u64>,
    sequences: Vec<Range<u64>>,
    seq_len: usize,
}

impl Dataset {
    /// The sequences of `files`; those with nothing to learn are left out.
    ///
    /// Errors: [`Error::SequenceLength`], [`Error::TooLittleData`]; `InvalidOption` for sequences of no tokens.
    pub fn new(files: Vec<TokenFile>, options: &PackOptions) -> Result<Self> {
        let PackOptions { seq_len, context_length, packing } = *options;
        if seq_len == 0 {
            let (name, expected, got) = ("seq_len", "at least 1", "0".to_owned());
            return Err(bitnet_inference::Error::InvalidOption { name, expected, got }.into());
        }
        if seq_len > context_length {
            return Err(Error::SequenceLength { seq_len, context_length });
        }
        let (mut starts, mut documents) = (vec![0], Vec::new());
        let mut tokens = 0;
        for file in &files {
            documents.extend(file.documents().iter().map(|&start| tokens + start as u64));
            tokens += file.ids().len() as u64;
            starts.push(tokens);
        }
        let sequences = pack(tokens, &documents, seq_len as u64, packing);
        let mut dataset = Self { files, starts, documents, sequences: Vec::new(), seq_len };
        dataset.sequences = sequences.into_iter().filter(|tokens| dataset.has_learnt(tokens)).collect();
        if dataset.sequences.is_empty() {
            return Err(Error::TooLittleData { tokens, seq_len });
        }
        Ok(dataset)
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Never: data without a sequence is an error.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Inputs of a sequence.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Tokens of all files.
    pub fn tokens(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// The files.
    pub fn files(&self) -> &[TokenFile] {
        &self.files
    }

    /// All sequences in the order of the files, `rows` at a time, the last ones fewer: for evaluation.
    pub fn batches(&self, rows: usize) -> impl Iterator<Item = Batch> {
        let rows = rows.max(1);
        (0..self.len()).step_by(rows).map(move |first| {
            let sequences = first..self.len().min(first + rows);
            let mut batch = Batch::with_rows(sequences.len(), self.seq_len);
            sequences.for_each(|sequence| self.add(sequence, &mut batch));
            batch
        })
    }

    /// Adds a sequence to a batch.
    pub(super) fn add(&self, sequence: usize, batch: &mut Batch) {
        let tokens = self.sequences[sequence].clone();
        let mut ids: Vec<u32> = Vec::with_capacity(self.seq_len + 1);
        let mut is_learnt: Vec<bool> = Vec::with_capacity(self.seq_len + 1);
        for (file, part) in self.parts(&tokens) {
            ids.extend(file.ids()[part.clone()].iter().map(|&id| id as u32));
            match file.loss() {
                Some(loss) => is_learnt.extend(loss[part].iter().map(|&loss| loss == 1)),
                None => is_learnt.resize(ids.len(), true),
            }
        }
        let mut begins = self.begins(&tokens);
        // Padding is a document of its own, which is not learnt.
        begins.push(ids.len());
        for begin in &begins {
            if let Some(is_learnt) = is_learnt.get_mut(*begin) {
                *is_learnt = false;
            }
        }
        ids.resize(self.seq_len + 1, 0);
        is_learnt.resize(self.seq_len + 1, false);
        batch.rows += 1;
        batch.ids.extend(&ids[..self.seq_len]);
        batch.targets.extend(&ids[1..]);
        batch.is_learnt.extend(&is_learnt[1..]);
        let mut begins = begins.into_iter().peekable();
        let mut begin = 0;
        batch.positions.extend((0..self.seq_len).map(|at| {
            begin = begins.next_if_eq(&at).unwrap_or(begin);
            (at - begin) as u32
        }));
    }

    /// Where documents begin in a sequence.
    fn begins(&self, tokens: &Range<u64>) -> Vec<usize> {
        let from = self.documents.partition_point(|&start| start < tokens.start);
        let inside = self.documents[from..].iter().take_while(|&&start| start < tokens.end);
        inside.map(|start| (start - tokens.start) as usize).collect()
    }

    /// The parts of files that a sequence is made of.
    fn parts(&self, tokens: &Range<u64>) -> impl Iterator<Item = (&TokenFile, Range<usize>)> {
        let first = self.starts.partition_point(|&start| start <= tokens.start) - 1;
        let Range { start, end } = *tokens;
        let files = self.files[first..].iter().zip(self.starts[first..].windows(2));
        files.take_while(move |(_, bounds)| bounds[0] < end).map(move |(file, bounds)| {
            let part = start.max(bounds[0])..end.min(bounds[1]);
            (file, (part.start - bounds[0]) as usize..(part.end - bounds[0]) as usize)
        })
    }

    /// Whether a token of a sequence is to be predicted.
    fn has_learnt(&self, tokens: &Range<u64>) -> bool {
        let begins = self.begins(tokens);
        let mut at = 0;
        self.parts(tokens).any(|(file, part)| {
            let first = at;
            at += part.len();
            let mut tokens = part.enumerate().map(|(offset, token)| (first + offset, token));
            tokens.any(|(place, token)| {
                place > 0
                    && begins.binary_search(&place).is_err()
                    && file.loss().is_none_or(|loss| loss[token] == 1)
            })
        })
    }
}
