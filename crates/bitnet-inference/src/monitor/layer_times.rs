//! Where the time of a forward pass goes, layer by layer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A half of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Up to the residual stream behind the output projection.
    Attention,
    /// From there to the end of the block.
    FeedForward,
}

/// Times of all layers, which a backend adds to while it runs. Off at first: then a lap is one branch.
#[derive(Debug)]
pub struct LayerTimes {
    is_on: AtomicBool,
    /// Of each layer, by [`Half`].
    ns: Box<[[AtomicU64; 2]]>,
}

/// Time of one layer since the monitor was made.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LayerSeconds {
    /// In the attention half.
    pub attention_s: f64,
    /// In the feed-forward half.
    pub feed_forward_s: f64,
}

impl LayerTimes {
    /// Times of `layers` layers, all 0, and off.
    pub fn new(layers: usize) -> Self {
        let ns = (0..layers).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect();
        Self { is_on: AtomicBool::new(false), ns }
    }

    /// Starts or stops measuring. Forward passes that have begun end as they began.
    pub fn set_on(&self, is_on: bool) {
        self.is_on.store(is_on, Relaxed);
    }

    /// Whether it measures.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Adds what a device measured by its own clock to a half of `layer`, which there must be.
    pub fn add(&self, layer: usize, half: Half, time: Duration) {
        self.ns[layer][half as usize].fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// A clock for one forward pass, which starts in front of the first layer.
    pub fn clock(&self) -> LayerClock<'_> {
        LayerClock(self.is_on().then(|| (self, Instant::now())))
    }

    pub(super) fn read(&self) -> Vec<LayerSeconds> {
        let seconds = |half: &AtomicU64| half.load(Relaxed) as f64 / 1e9;
        let layers = self.ns.iter();
        layers.map(|[a, f]| LayerSeconds { attention_s: seconds(a), feed_forward_s: seconds(f) }).collect()
    }
}

/// A stopwatch that is read once behind every half of a layer; by default one that measures nothing.
#[derive(Debug, Default)]
pub struct LayerClock<'a>(Option<(&'a LayerTimes, Instant)>);

impl LayerClock<'_> {
    /// Adds the time since the last lap to a half of `layer`, which there must be.
    pub fn lap(&mut self, layer: usize, half: Half) {
        if let Some((times, last)) = &mut self.0 {
            let now = Instant::now();
            times.add(layer, half, now - *last);
            *last = now;
        }
    }
}
