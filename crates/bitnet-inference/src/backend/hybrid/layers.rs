//! The layers of a model on several backends, one after another.

use std::ops::Range;
use std::sync::Arc;

use super::failed;
use crate::backend::{Backend, Candidate, Choice, KvType, Limits, Page, Session, Traffic, Work, guard};
use crate::monitor::LayerTimes;
use crate::{Error, Result};

/// Some layers of a model, and the backend that holds them.
#[derive(Debug, Clone)]
pub struct Part {
    /// Their numbers in the model.
    pub layers: Range<usize>,
    /// Made of the [`crate::model::ModelPart`] with these layers.
    pub backend: Arc<dyn Backend>,
}

/// Runs each part of a model on a backend of its own. A token goes through them in order, so its time is the sum of
/// theirs.
#[derive(Debug)]
pub struct HybridBackend {
    parts: Vec<Part>,
    description: String,
}

impl HybridBackend {
    /// A backend of `parts` that [`crate::Model::split`] made of one model.
    ///
    /// Errors: [`Error::InvalidOption`] for layers that do not follow each other from 0 on.
    pub fn new(parts: Vec<Part>) -> Result<Self> {
        let ends = parts.iter().map(|part| part.layers.end);
        let starts = parts.iter().map(|part| part.layers.start);
        let follow = starts.eq(std::iter::once(0).chain(ends).take(parts.len()));
        if parts.is_empty() || !follow {
            let got = format!("{:?}", parts.iter().map(|part| &part.layers).collect::<Vec<_>>());
            let expected = "layers that follow each other from 0 on";
            return Err(Error::InvalidOption { name: "parts", expected, got });
        }
        let described = parts.iter().enumerate().map(|(index, part)| {
            let (word, backend) = (if index == 0 { "layers " } else { "" }, &part.backend);
            format!("{word}{} on {} ({})", numbers(&part.layers), backend.name(), backend.description())
        });
        let description = described.collect::<Vec<_>>().join(", ");
        Ok(Self { parts, description })
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// "0-19".
pub(super) fn numbers(layers: &Range<usize>) -> String {
    match layers.len() {
        1 => layers.start.to_string(),
        _ => format!("{}-{}", layers.start, layers.end - 1),
    }
}

impl Backend for HybridBackend {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn weight_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.backend.weight_bytes()).sum()
    }

    fn kv_type(&self) -> KvType {
        self.parts[0].backend.kv_type()
    }

    fn page_bytes(&self, kv_type: KvType) -> usize {
        self.parts.iter().map(|part| part.backend.page_bytes(kv_type)).sum()
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        let open = |part: &Part| {
            let name = format!("layers {} on {}", numbers(&part.layers), part.backend.name());
            let session = part.backend.open(limits, kv_type).map_err(|error| failed(&name, error))?;
            Ok(PartSession { name, session, page_bytes: part.backend.page_bytes(kv_type) })
        };
        Ok(Box::new(HybridSession { parts: self.parts.iter().map(open).collect::<Result<_>>()? }))
    }
}

#[derive(Debug)]
struct HybridSession {
    parts: Vec<PartSession>,
}

#[derive(Debug)]
struct PartSession {
    /// For errors.
    name: String,
    session: Box<dyn Session>,
    page_bytes: usize,
}

impl PartSession {
    /// Calls the session. A failure says which part it is of.
    fn call<'s, T>(&'s mut self, job: impl FnOnce(&'s mut dyn Session) -> Result<T>) -> Result<T> {
        let Self { name, session, .. } = self;
        guard(|| name.clone(), move || job(&mut **session)).map_err(|error| failed(name, error))
    }

    fn stream(&self) -> Result<&[f32]> {
        self.session.stream().map_err(|error| failed(&self.name, error))
    }
}

impl HybridSession {
    fn last(&self) -> &PartSession {
        &self.parts[self.parts.len() - 1]
    }

    fn last_mut(&mut self) -> &mut PartSession {
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    /// Runs a batch, which `begin` starts in the first part.
    fn run(&mut self, batch: &[Work<'_>], begin: impl FnOnce(&mut dyn Session) -> Result<()>) -> Result<()> {
        self.parts[0].call(begin)?;
        for next in 1..self.parts.len() {
            let (before, part) = self.parts.split_at_mut(next);
            let stream = before[next - 1].stream()?;
            part[0].call(|session| session.execute_from(batch, stream))?;
        }
        Ok(())
    }
}

impl Session for HybridSession {
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        self.run(batch, |first| first.execute(batch))
    }

    fn hidden(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.last_mut().call(|session| session.hidden(outputs))
    }

    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.last_mut().call(|session| session.logits(outputs))
    }

    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        self.last_mut().call(|session| session.choose(choices))
    }

    fn candidates(&self, choice: usize) -> Result<&[Candidate]> {
        let last = self.last();
        last.session.candidates(choice).map_err(|error| failed(&last.name, error))
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        self.parts.iter_mut().for_each(|part| part.session.copy_page(from, to));
    }

    fn traffic(&self) -> Traffic {
        self.parts.iter().fold(Traffic::default(), |sum, part| sum + part.session.traffic())
    }

    fn set_layer_times(&mut self, times: Arc<LayerTimes>) {
        self.parts.iter_mut().for_each(|part| part.session.set_layer_times(Arc::clone(&times)));
    }

    fn read_page(&self, page: Page, bytes: &mut Vec<u8>) -> Result<()> {
        self.parts.iter().try_for_each(|part| {
            part.session.read_page(page, bytes).map_err(|error| failed(&part.name, error))
        })
    }

    fn write_page(&mut self, page: Page, mut bytes: &[u8]) -> Result<()> {
        for part in &mut self.parts {
            let (own, rest) = bytes.split_at(part.page_bytes);
            part.call(|session| session.write_page(page, own))?;
            bytes = rest;
        }
        Ok(())
    }

    fn execute_from(&mut self, batch: &[Work<'_>], stream: &[f32]) -> Result<()> {
        self.run(batch, |first| first.execute_from(batch, stream))
    }

    fn stream(&self) -> Result<&[f32]> {
        self.last().stream()
    }
}
