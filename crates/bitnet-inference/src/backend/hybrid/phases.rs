//! Prompts on one backend, single tokens on another.

use std::ops::Range;
use std::sync::Arc;

use super::failed;
use crate::backend::{Backend, Candidate, Choice, KvType, Limits, PAGE, Page, Session, Traffic, Work, guard};
use crate::monitor::LayerTimes;
use crate::{Error, Result};

/// Tokens of one sequence in a batch that are a piece of a prompt: from here on many tokens share each weight, and fast
/// arithmetic counts more than fast memory.
pub const PREFILL_TOKENS: usize = 16;

/// Sends pieces of at least [`PREFILL_TOKENS`] to one backend, and the rest to another. Both hold the whole model, and
/// room for all keys and values, of which each page is moved when the other one last wrote it.
#[derive(Debug)]
pub struct PhasedBackend {
    prefill: Arc<dyn Backend>,
    decode: Arc<dyn Backend>,
}

impl PhasedBackend {
    /// A backend of two of the same model, whose sessions read and write pages.
    pub fn new(prefill: Arc<dyn Backend>, decode: Arc<dyn Backend>) -> Self {
        Self { prefill, decode }
    }
}

impl Backend for PhasedBackend {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn description(&self) -> String {
        let [prefill, decode] = [&self.prefill, &self.decode]
            .map(|backend| format!("{} ({})", backend.name(), backend.description()));
        format!("prompts on {prefill}, single tokens on {decode}")
    }

    fn weight_bytes(&self) -> usize {
        self.prefill.weight_bytes() + self.decode.weight_bytes()
    }

    fn kv_type(&self) -> KvType {
        self.decode.kv_type()
    }

    fn page_bytes(&self, kv_type: KvType) -> usize {
        self.prefill.page_bytes(kv_type) + self.decode.page_bytes(kv_type)
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        let [one, other] = [&self.prefill, &self.decode].map(|backend| backend.page_bytes(kv_type));
        if one != other {
            let reason = format!("a page has {one} bytes for prompts, {other} for single tokens");
            return Err(Error::Backend { name: "hybrid".to_owned(), reason });
        }
        let open = |phase: &str, backend: &dyn Backend| {
            let name = format!("{phase} on {}", backend.name());
            let session = backend.open(limits, kv_type).map_err(|error| failed(&name, error))?;
            Ok::<_, Error>(Side { name, session })
        };
        Ok(Box::new(PhasedSession {
            sides: [open("prompts", &*self.prefill)?, open("single tokens", &*self.decode)?],
            newest: vec![None; limits.pages],
            outputs: Vec::new(),
            choices: Vec::new(),
            gathered: Vec::new(),
            moved: Vec::with_capacity(one),
            page_bytes: one,
        }))
    }
}

/// One of the two: 0 takes prompts, 1 single tokens.
type SideIndex = usize;

#[derive(Debug)]
struct PhasedSession {
    sides: [Side; 2],
    /// Of each page, the side that alone has its newest keys and values.
    newest: Vec<Option<SideIndex>>,
    /// Of each output of the last batch, its side and its number there.
    outputs: Vec<(SideIndex, usize)>,
    /// Of each of the last choices, the same.
    choices: Vec<(SideIndex, usize)>,
    /// Outputs of both sides.
    gathered: Vec<f32>,
    /// A page on its way.
    moved: Vec<u8>,
    page_bytes: usize,
}

#[derive(Debug)]
struct Side {
    /// For errors.
    name: String,
    session: Box<dyn Session>,
}

impl Side {
    /// Calls the session. A failure says which side it is of.
    fn call<'s, T>(&'s mut self, job: impl FnOnce(&'s mut dyn Session) -> Result<T>) -> Result<T> {
        let Self { name, session } = self;
        guard(|| name.clone(), move || job(&mut **session)).map_err(|error| failed(name, error))
    }
}

fn side_of(work: &Work<'_>) -> SideIndex {
    usize::from(work.ids.len() < PREFILL_TOKENS)
}

impl PhasedSession {
    /// Numbers the outputs of a batch, each on its side.
    fn number_outputs(&mut self, batch: &[Work<'_>]) {
        self.outputs.clear();
        let mut counts = [0; 2];
        for work in batch {
            let side = side_of(work);
            let outputs = work.outputs.min(work.ids.len());
            self.outputs.extend((counts[side]..counts[side] + outputs).map(|output| (side, output)));
            counts[side] += outputs;
        }
    }

    /// Gives a side the pages in front of what it is to compute, and takes note of those it is about to write.
    fn prepare_pages(&mut self, side: SideIndex, work: &Work<'_>) -> Result<()> {
        for page in &work.pages[..Page::count(work.position)] {
            self.move_page(*page, side)?;
        }
        let written = work.position / PAGE..Page::count(work.position + work.ids.len());
        for page in &work.pages[written] {
            self.newest[page.0 as usize] = Some(side);
        }
        Ok(())
    }

    /// Moves a page to a side that does not have it.
    fn move_page(&mut self, page: Page, to: SideIndex) -> Result<()> {
        let newest = &mut self.newest[page.0 as usize];
        let Some(from) = newest.filter(|from| *from != to) else { return Ok(()) };
        let bytes = &mut self.moved;
        bytes.clear();
        self.sides[from].call(|session| session.read_page(page, bytes))?;
        if bytes.len() != self.page_bytes {
            let reason = format!("a page of {} bytes, where {} are right", bytes.len(), self.page_bytes);
            return Err(Error::Backend { name: self.sides[from].name.clone(), reason });
        }
        self.sides[to].call(|session| session.write_page(page, bytes))?;
        *newest = None;
        Ok(())
    }

    /// What `get` gives for some outputs, one side after another.
    fn gather(
        &mut self,
        outputs: Range<usize>,
        get: fn(&mut dyn Session, Range<usize>) -> Result<&[f32]>,
    ) -> Result<&[f32]> {
        self.gathered.clear();
        for run in self.outputs[outputs].chunk_by(|a, b| a.0 == b.0) {
            let (side, first) = run[0];
            let values = self.sides[side].call(|session| get(session, first..first + run.len()))?;
            self.gathered.extend_from_slice(values);
        }
        Ok(&self.gathered)
    }
}

impl Session for PhasedSession {
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        self.number_outputs(batch);
        for side in 0..2 {
            let own: Vec<Work<'_>> = batch.iter().filter(|work| side_of(work) == side).copied().collect();
            if own.is_empty() {
                continue;
            }
            own.iter().try_for_each(|work| self.prepare_pages(side, work))?;
            self.sides[side].call(|session| session.execute(&own))?;
        }
        Ok(())
    }

    fn hidden(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.gather(outputs, |session, outputs| session.hidden(outputs))
    }

    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.gather(outputs, |session, outputs| session.logits(outputs))
    }

    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        let mut asked = [Vec::new(), Vec::new()];
        self.choices.clear();
        for choice in choices {
            let (side, output) = self.outputs[choice.output];
            self.choices.push((side, asked[side].len()));
            asked[side].push(Choice { output, ..*choice });
        }
        for (side, asked) in self.sides.iter_mut().zip(&asked).filter(|(_, asked)| !asked.is_empty()) {
            side.call(|session| session.choose(asked))?;
        }
        Ok(())
    }

    fn candidates(&self, choice: usize) -> Result<&[Candidate]> {
        let (side, choice) = self.choices[choice];
        let side = &self.sides[side];
        side.session.candidates(choice).map_err(|error| failed(&side.name, error))
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        let newest = self.newest[from.0 as usize];
        self.newest[to.0 as usize] = newest;
        for (index, side) in self.sides.iter_mut().enumerate() {
            if newest.is_none_or(|newest| newest == index) {
                side.session.copy_page(from, to);
            }
        }
    }

    fn traffic(&self) -> Traffic {
        self.sides[0].session.traffic() + self.sides[1].session.traffic()
    }

    fn set_layer_times(&mut self, times: Arc<LayerTimes>) {
        self.sides.iter_mut().for_each(|side| side.session.set_layer_times(Arc::clone(&times)));
    }
}
