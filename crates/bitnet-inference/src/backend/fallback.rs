//! A backend whose sessions go on with another one when it fails.

use std::ops::Range;
use std::sync::Arc;

use super::{Backend, Candidate, Choice, KvType, Limits, Page, Session, Traffic, Work, guard};
use crate::monitor::LayerTimes;
use crate::{Error, Result};

/// Two backends of one model. A session is one of the first; when that runs out of memory, or its device
/// fails, the second takes over with the keys and values that are there, and the caller notices nothing but
/// the time.
#[derive(Debug)]
pub struct FallbackBackend {
    first: Arc<dyn Backend>,
    second: Arc<dyn Backend>,
}

impl FallbackBackend {
    /// A backend of two, whose sessions read and write pages.
    pub fn new(first: Arc<dyn Backend>, second: Arc<dyn Backend>) -> Self {
        Self { first, second }
    }
}

impl Backend for FallbackBackend {
    fn name(&self) -> &str {
        self.first.name()
    }

    fn description(&self) -> String {
        self.first.description()
    }

    fn weight_bytes(&self) -> usize {
        self.first.weight_bytes() + self.second.weight_bytes()
    }

    fn kv_type(&self) -> KvType {
        self.first.kv_type()
    }

    fn page_bytes(&self, kv_type: KvType) -> usize {
        self.first.page_bytes(kv_type).max(self.second.page_bytes(kv_type))
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        match self.first.open(limits, kv_type) {
            Ok(session) => Ok(Box::new(FallbackSession {
                session,
                name: self.first.name().to_owned(),
                second: Some(Arc::clone(&self.second)),
                limits,
                kv_type,
                is_written: vec![false; limits.pages],
                earlier: Traffic::default(),
                layer_times: None,
            })),
            Err(error) if is_of_device(&error) => self.second.open(limits, kv_type),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug)]
struct FallbackSession {
    session: Box<dyn Session>,
    /// Of its backend.
    name: String,
    /// What is left to fall back to.
    second: Option<Arc<dyn Backend>>,
    limits: Limits,
    kv_type: KvType,
    /// Which pages have keys and values.
    is_written: Vec<bool>,
    /// Of the session before.
    earlier: Traffic,
    layer_times: Option<Arc<LayerTimes>>,
}

impl FallbackSession {
    /// Goes on with a session of the second backend, which is given all pages.
    fn take_over(&mut self, second: &dyn Backend) -> Result<()> {
        let mut session = second.open(self.limits, self.kv_type)?;
        let mut bytes = Vec::with_capacity(second.page_bytes(self.kv_type));
        for (page, _) in (0..).map(Page).zip(&self.is_written).filter(|(_, is_written)| **is_written) {
            bytes.clear();
            self.session.read_page(page, &mut bytes)?;
            session.write_page(page, &bytes)?;
        }
        if let Some(times) = &self.layer_times {
            session.set_layer_times(Arc::clone(times));
        }
        self.earlier = self.earlier + self.session.traffic();
        (self.session, self.name) = (session, second.name().to_owned());
        Ok(())
    }
}

/// Whether another device may do better.
fn is_of_device(error: &Error) -> bool {
    matches!(
        error,
        Error::OutOfMemory { .. } | Error::Metal(_) | Error::Backend { .. } | Error::Unsupported { .. }
    )
}

impl Session for FallbackSession {
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        let (name, session) = (&self.name, &mut self.session);
        let mut result = guard(|| name.clone(), || session.execute(batch));
        if let Some(second) = self.second.take_if(|_| result.as_ref().is_err_and(is_of_device)) {
            // Where that fails as well, the first failure is what there is to say.
            if self.take_over(&*second).is_ok() {
                result = self.session.execute(batch);
            }
        }
        if result.is_ok() {
            for work in batch {
                for page in &work.pages[..Page::count(work.position + work.ids.len())] {
                    self.is_written[page.0 as usize] = true;
                }
            }
        }
        result
    }

    fn hidden(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.session.hidden(outputs)
    }

    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.session.logits(outputs)
    }

    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        self.session.choose(choices)
    }

    fn candidates(&self, choice: usize) -> Result<&[Candidate]> {
        self.session.candidates(choice)
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        self.is_written[to.0 as usize] = self.is_written[from.0 as usize];
        self.session.copy_page(from, to);
    }

    fn forget(&mut self, pages: &[Page], range: Range<usize>, len: usize) -> Result<()> {
        self.session.forget(pages, range, len)
    }

    fn traffic(&self) -> Traffic {
        self.earlier + self.session.traffic()
    }

    fn set_layer_times(&mut self, times: Arc<LayerTimes>) {
        self.session.set_layer_times(Arc::clone(&times));
        self.layer_times = Some(times);
    }

    fn read_page(&self, page: Page, bytes: &mut Vec<u8>) -> Result<()> {
        self.session.read_page(page, bytes)
    }

    fn write_page(&mut self, page: Page, bytes: &[u8]) -> Result<()> {
        self.session.write_page(page, bytes)?;
        self.is_written[page.0 as usize] = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cut;
    use crate::backend::conformance::{Subject, check};
    use crate::backend::delegate::{delegate_backend, delegate_session};
    use crate::{GenerateOptions, LoadOptions, LoadedModel, Prompt};

    type Fault = fn() -> Result<()>;

    /// The CPU, which does no more from some batch on.
    #[derive(Debug)]
    struct Failing {
        inner: Arc<dyn Backend>,
        from: usize,
        fault: Fault,
    }

    #[derive(Debug)]
    struct FailingSession {
        inner: Box<dyn Session>,
        left: usize,
        fault: Fault,
    }

    impl Backend for Failing {
        delegate_backend!("failing", inner);

        fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
            if self.from == 0 {
                (self.fault)()?;
            }
            let inner = self.inner.open(limits, kv_type)?;
            Ok(Box::new(FailingSession { inner, left: self.from, fault: self.fault }))
        }
    }

    impl Session for FailingSession {
        delegate_session!(inner: hidden logits choose candidates copy_page traffic);

        fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
            if self.left == 0 {
                (self.fault)()?;
            }
            self.left = self.left.saturating_sub(1);
            self.inner.execute(batch)
        }

        fn read_page(&self, page: Page, bytes: &mut Vec<u8>) -> Result<()> {
            self.inner.read_page(page, bytes)
        }

        fn write_page(&mut self, page: Page, bytes: &[u8]) -> Result<()> {
            self.inner.write_page(page, bytes)
        }
    }

    fn out_of_memory() -> Result<()> {
        Err(Error::OutOfMemory { tokens: 1 })
    }

    fn lost() -> Result<()> {
        Err(bitnet_metal::Error::DeviceLost { reason: "unplugged".to_owned() }.into())
    }

    fn panics() -> Result<()> {
        panic!("a wire is loose")
    }

    fn with_fault(model: &LoadedModel, from: usize, fault: Fault) -> FallbackBackend {
        let failing = Failing { inner: model.shared_backend(), from, fault };
        FallbackBackend::new(Arc::new(failing), model.shared_backend())
    }

    #[test]
    fn a_text_goes_on_where_the_first_backend_fails() {
        let model = LoadedModel::embedded(&LoadOptions::default()).unwrap();
        let prompt: Vec<u32> = (0..70).map(|i| i * 29 % 2000).collect();
        let options = GenerateOptions { max_tokens: 12, ..GenerateOptions::default() };
        let expected = model.generate(Prompt::Ids(&prompt), &options).unwrap().token_ids;
        let faults = [
            (out_of_memory as Fault, &[0, 1, 2, 7][..]),
            (lost, &[0, 1, 2, 7]),
            // A backend that panics when a session opens is not guarded.
            (panics, &[1, 2, 7]),
        ];
        for (fault, batches) in faults {
            for &from in batches {
                let mut sequence = with_fault(&model, from, fault).start(100).unwrap();
                let (mut ids, mut next) = (Vec::new(), prompt.clone());
                while ids.len() < expected.len() {
                    sequence.feed(&next, 1).unwrap();
                    next = vec![sequence.candidates(&Cut::GREEDY).unwrap()[0].id];
                    ids.extend_from_slice(&next);
                }
                assert_eq!(ids, expected, "from batch {from}");
                assert!(sequence.traffic().weight_bytes > 0);
            }
        }
    }

    #[test]
    fn what_is_nobodys_fault_is_no_reason_to_fall_back() {
        let model = LoadedModel::embedded(&LoadOptions::default()).unwrap();
        let mut sequence = with_fault(&model, 1, lost).start(8).unwrap();
        assert!(matches!(sequence.feed(&[9999], 1), Err(Error::TokenOutOfRange { .. })));
    }

    #[test]
    fn the_contract_is_kept_before_and_behind_a_failure() {
        let model = LoadedModel::embedded(&LoadOptions::default()).unwrap();
        for from in [1, 3] {
            check(&with_fault(&model, from, lost), &Subject::exact(2048)).assert_passed();
        }
    }
}
