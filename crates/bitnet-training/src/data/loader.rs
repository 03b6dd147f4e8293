//! Batches without end, in the order of a seed.

use std::sync::Arc;

use super::batch::Batch;
use super::dataset::Dataset;
use super::order::{Order, Position};

/// Gives the sequences of a data set in batches, epoch after epoch, each in an order of its own.
///
/// A batch may hold the last sequences of an epoch and the first of the next. A loader at the position of another gives
/// the batches that the other would have given.
#[derive(Debug, Clone)]
pub struct Loader {
    data: Arc<Dataset>,
    rows: usize,
    seed: u64,
    order: Order,
    /// Sequences of the order that were given.
    given: usize,
}

impl Loader {
    /// Batches of `rows` sequences of `data`, at least one.
    pub fn new(data: Arc<Dataset>, rows: usize, seed: u64) -> Self {
        let order = Order::new(seed, 0, data.len());
        Self { data, rows: rows.max(1), seed, order, given: 0 }
    }

    /// Goes to a position, without reading what is before it.
    pub fn seek(&mut self, position: Position) {
        if position.epoch != self.order.epoch() {
            self.begin(position.epoch);
        }
        self.given = position.sequence as usize;
    }

    /// How far it is.
    pub fn position(&self) -> Position {
        Position { epoch: self.order.epoch(), sequence: self.given as u64 }
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The next sequences.
    pub fn next_batch(&mut self) -> Batch {
        let mut batch = Batch::with_rows(self.rows, self.data.seq_len());
        while batch.rows < self.rows {
            match self.order.sequences().get(self.given) {
                Some(&sequence) => {
                    self.data.add(sequence, &mut batch);
                    self.given += 1;
                }
                None => self.begin(self.order.epoch() + 1),
            }
        }
        batch
    }

    fn begin(&mut self, epoch: u64) {
        self.order = Order::new(self.seed, epoch, self.data.len());
        self.given = 0;
    }
}
