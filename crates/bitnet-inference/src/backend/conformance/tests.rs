//! The check itself: it passes what is right, and names what is not.

use std::sync::Arc;

use super::*;
use crate::backend::cpu::CpuOptions;
use crate::backend::delegate::delegate_session;
use crate::backend::{Candidate, Choice, Cut, Limits, Page, Session, Work};
use crate::{LoadOptions, LoadedModel};

fn model() -> Arc<LoadedModel> {
    let cpu = CpuOptions { kv_cache: KvType::F16, ..CpuOptions::default() };
    LoadedModel::embedded(&LoadOptions { cpu, ..LoadOptions::default() }).unwrap()
}

/// A backend with one mistake.
#[derive(Debug)]
struct Mistaken {
    model: Arc<LoadedModel>,
    mistake: Mistake,
}

#[derive(Debug, Clone, Copy)]
enum Mistake {
    /// Pages are not copied.
    ForgetsCopies,
    /// The first candidate is lost.
    LosesCandidates,
    /// A batch of several is taken for one of the last of them.
    RunsOne,
    /// The first logit is a little larger.
    ChangesLogits,
    /// Tokens that are not allowed are candidates.
    IgnoresAllowed,
    /// Nothing is added to logits.
    IgnoresOffsets,
    /// What was there counts as new.
    IgnoresCounts,
    /// A token that is none ends the program.
    Panics,
}

#[derive(Debug)]
struct MistakenSession {
    inner: Box<dyn Session>,
    mistake: Mistake,
    logits: Vec<f32>,
}

impl Backend for Mistaken {
    fn name(&self) -> &'static str {
        "mistaken"
    }

    fn description(&self) -> String {
        format!("{:?}", self.mistake)
    }

    fn weight_bytes(&self) -> usize {
        self.model.backend().weight_bytes()
    }

    fn kv_type(&self) -> KvType {
        KvType::F16
    }

    fn page_bytes(&self, kv_type: KvType) -> usize {
        self.model.backend().page_bytes(kv_type)
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        if kv_type != KvType::F16 {
            return Err(Error::Unsupported { what: "store this type" });
        }
        let inner = self.model.backend().open(limits, kv_type)?;
        Ok(Box::new(MistakenSession { inner, mistake: self.mistake, logits: Vec::new() }))
    }
}

impl Session for MistakenSession {
    delegate_session!(inner: hidden traffic);

    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        match self.mistake {
            Mistake::Panics => {
                assert!(batch.iter().all(|work| work.ids.iter().all(|id| *id < 2048)), "no token");
            }
            Mistake::RunsOne if batch.len() == 2 => return self.inner.execute(&[batch[1], batch[1]]),
            _ => {}
        }
        self.inner.execute(batch)
    }

    fn logits(&mut self, outputs: std::ops::Range<usize>) -> Result<&[f32]> {
        self.logits = self.inner.logits(outputs)?.to_vec();
        if matches!(self.mistake, Mistake::ChangesLogits) {
            self.logits.chunks_exact_mut(2048).for_each(|logits| logits[0] += 0.01);
        }
        Ok(&self.logits)
    }

    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        let mut choices = choices.to_vec();
        for Choice { cut: Cut { adjustment, .. }, .. } in &mut choices {
            match self.mistake {
                Mistake::IgnoresAllowed => adjustment.allowed = None,
                Mistake::IgnoresOffsets => adjustment.offsets = &[],
                Mistake::IgnoresCounts => adjustment.counts = &[],
                _ => {}
            }
        }
        self.inner.choose(&choices)
    }

    fn candidates(&self, choice: usize) -> Result<&[Candidate]> {
        let skipped = usize::from(matches!(self.mistake, Mistake::LosesCandidates));
        Ok(&self.inner.candidates(choice)?[skipped..])
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        if !matches!(self.mistake, Mistake::ForgetsCopies) {
            self.inner.copy_page(from, to);
        }
    }
}

fn broken_rules(mistake: Mistake) -> Vec<(&'static str, String)> {
    let model = model();
    let backend = Mistaken { model: Arc::clone(&model), mistake };
    let subject = Subject { reference: Some(model.backend()), ..Subject::exact(2048) };
    let report = check(&backend, &subject);
    assert!(report.outcomes.iter().all(|outcome| outcome.kv_type == KvType::F16));
    report.violations().map(|outcome| (outcome.rule, outcome.violation.clone().unwrap())).collect()
}

#[test]
fn each_mistake_breaks_the_rules_it_should() {
    let [copies, candidates, one, panics] =
        [Mistake::ForgetsCopies, Mistake::LosesCandidates, Mistake::RunsOne, Mistake::Panics]
            .map(broken_rules);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(copies[0].0, "a copied page is as good as the first");
    assert!(candidates.iter().any(|(_, why)| why.contains("is missing under")), "{candidates:?}");
    assert!(
        one.iter().any(|(rule, _)| *rule == "a sequence gives the same alone and among others"),
        "{one:?}"
    );
    let [(rule, why)] = &panics[..] else { panic!("{panics:?}") };
    assert_eq!(*rule, "a batch that failed leaves the others as they were");
    assert!(why.contains("mistaken: it panicked: no token"), "{why}");
}

#[test]
fn adjustments_that_are_ignored_are_found() {
    for mistake in [Mistake::IgnoresAllowed, Mistake::IgnoresOffsets, Mistake::IgnoresCounts] {
        let rule = "candidates are those that a cut keeps of adjusted logits";
        let broken = broken_rules(mistake);
        let why = broken.iter().find(|(broken, _)| *broken == rule).map(|(_, why)| why);
        assert!(why.is_some_and(|why| why.contains("is missing under")), "{mistake:?}: {broken:?}");
        // All other rules ask for a part of the counts at most.
        assert!(matches!(mistake, Mistake::IgnoresCounts) || broken.len() == 1, "{mistake:?}: {broken:?}");
    }
}

#[test]
fn a_tolerance_allows_what_exactness_does_not() {
    let model = model();
    let backend = Mistaken { model: Arc::clone(&model), mistake: Mistake::ChangesLogits };
    let exact = Subject { reference: Some(model.backend()), ..Subject::exact(2048) };
    assert!(check(&backend, &exact).violations().count() > 0);
    check(&backend, &Subject { tolerance: 0.02, ..exact }).assert_passed();
}
