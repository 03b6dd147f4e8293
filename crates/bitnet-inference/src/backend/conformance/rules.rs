//! The rules of the contract.

use super::adjustments::Adjustments;
use super::bench::{Answer, Bench, LIMITS, Violation, ensure, work};
use crate::backend::{Choice, Cut, Page, Session, Work};
use crate::{Error, Result};

type Verdict = Result<(), Violation>;
type Check = fn(&Bench<'_>) -> Verdict;

/// Every rule with its check.
pub(super) const ALL: [(&str, Check); 13] = [
    ("a sequence gives the same alone and among others", among_others),
    ("a prompt gives the same in pieces and at once", pieces),
    ("pages may lie in any order", pages_in_any_order),
    ("a copied page is as good as the first", copied_page),
    ("candidates are those that a cut keeps of adjusted logits", adjusted_logits),
    ("fewer outputs are those of the last tokens", fewer_outputs),
    ("a batch that failed leaves the others as they were", failed_batch),
    ("what was written behind a position does not count", written_again),
    ("sessions know nothing of each other", sessions),
    ("there is room for all that the limits say", room),
    ("traffic never becomes less", traffic),
    ("a page moves to another session", moved_page),
    ("logits are those of the reference", reference),
];

/// Pages of three sequences: in no order, and never neighbours.
static PAGES: [[Page; 4]; 3] = [
    [Page(9), Page(4), Page(1), Page(12)],
    [Page(15), Page(2), Page(8), Page(5)],
    [Page(0), Page(11), Page(7), Page(3)],
];

fn among_others(bench: &Bench<'_>) -> Verdict {
    // Tokens of each sequence in each step, and how many of their outputs are asked for.
    let steps = [[(70, 0), (3, 3), (0, 0)], [(1, 1), (1, 1), (130, 2)], [(60, 1), (1, 1), (1, 1)]];
    let mut alone = [bench.open()?, bench.open()?, bench.open()?];
    let mut together = bench.open()?;
    let mut len = [0; 3];
    let texts = [0, 1, 2].map(|sequence| bench.text(sequence, LIMITS.positions));
    for (number, step) in steps.into_iter().enumerate() {
        let mut order: Vec<usize> = (0..3).filter(|index| step[*index].0 > 0).collect();
        if number == 1 {
            order.reverse();
        }
        let entry = |index: usize| {
            let (tokens, outputs) = step[index];
            work(&texts[index], len[index]..len[index] + tokens, &PAGES[index], outputs)
        };
        let batch: Vec<Work<'_>> = order.iter().map(|index| entry(*index)).collect();
        let mut expected = Vec::new();
        for index in order {
            expected.extend(bench.run(&mut *alone[index], &[entry(index)])?);
        }
        let got = bench.run(&mut *together, &batch)?;
        bench.same(&got, &expected).map_err(|Violation(what)| Violation(format!("step {number}: {what}")))?;
        (0..3).for_each(|index| len[index] += step[index].0);
    }
    Ok(())
}

/// Runs pieces of a text one after another, and gives the last outputs of the last one.
fn in_pieces(
    bench: &Bench<'_>,
    session: &mut dyn Session,
    text: &[u32],
    pages: &[Page],
    pieces: &[usize],
) -> Result<Vec<Answer>, Violation> {
    let (mut position, mut answers) = (0, Vec::new());
    for piece in pieces {
        answers = bench.run(session, &[work(text, position..position + piece, pages, 1)])?;
        position += piece;
    }
    Ok(answers)
}

/// The last output of a text that is read at once.
fn at_once(bench: &Bench<'_>, text: &[u32], pages: &[Page]) -> Result<Vec<Answer>, Violation> {
    bench.run(&mut *bench.open()?, &[work(text, 0..text.len(), pages, 1)])
}

fn pieces(bench: &Bench<'_>) -> Verdict {
    let text = bench.text(0, 140);
    let expected = at_once(bench, &text, &PAGES[0])?;
    for pieces in [[64, 64, 12], [1, 138, 1], [63, 2, 75]] {
        let got = in_pieces(bench, &mut *bench.open()?, &text, &PAGES[0], &pieces)?;
        bench.same(&got, &expected).map_err(|Violation(what)| Violation(format!("{pieces:?}: {what}")))?;
    }
    Ok(())
}

fn pages_in_any_order(bench: &Bench<'_>) -> Verdict {
    let text = bench.text(1, 130);
    let expected = at_once(bench, &text, &[Page(0), Page(1), Page(2)])?;
    bench.same(&at_once(bench, &text, &[Page(14), Page(3), Page(6)])?, &expected)
}

fn copied_page(bench: &Bench<'_>) -> Verdict {
    let text = bench.text(0, 80);
    let mut session = bench.open()?;
    let expected = bench.run(&mut *session, &[work(&text, 0..80, &[Page(0), Page(1)], 1)])?;
    session.copy_page(Page(0), Page(2));
    // The first is not looked at any more.
    session.execute(&[work(&bench.text(1, 64), 0..64, &[Page(0)], 0)])?;
    let got = bench.run(&mut *session, &[work(&text, 64..80, &[Page(2), Page(1)], 1)])?;
    bench.same(&got, &expected)
}

fn adjusted_logits(bench: &Bench<'_>) -> Verdict {
    const OUTPUTS: usize = 3;
    let text = bench.text(2, 70);
    let mut session = bench.open()?;
    session.execute(&[work(&text, 0..70, &PAGES[2], OUTPUTS)])?;
    let logits = session.logits(0..OUTPUTS)?.to_vec();
    let rows = logits.chunks_exact(bench.subject.vocab_size);
    let adjustments: Vec<Adjustments> = rows.map(Adjustments::new).collect();
    let choices: Vec<Choice<'_>> = (adjustments.iter().enumerate())
        .flat_map(|(output, of_output)| of_output.cuts().into_iter().map(move |cut| Choice { output, cut }))
        .collect();
    bench.check_choices(&mut *session, &choices, &logits)?;
    // One by one as well, and then as if nothing had been adjusted before.
    choices.iter().try_for_each(|choice| bench.check_choices(&mut *session, &[*choice], &logits))?;
    bench.check_choices(&mut *session, &[Choice { output: 0, cut: Cut::GREEDY }], &logits)
}

fn fewer_outputs(bench: &Bench<'_>) -> Verdict {
    let text = bench.text(2, 7);
    let expected = bench.run(&mut *bench.open()?, &[work(&text, 0..7, &PAGES[2], 7)])?;
    for outputs in 1..7 {
        let got = bench.run(&mut *bench.open()?, &[work(&text, 0..7, &PAGES[2], outputs)])?;
        bench.same(&got, &expected[7 - outputs..])?;
    }
    // More than there are is all of them.
    let got = bench.run(&mut *bench.open()?, &[work(&text, 0..7, &PAGES[2], 9)])?;
    bench.same(&got, &expected)
}

fn failed_batch(bench: &Bench<'_>) -> Verdict {
    let (text, beside) = (bench.text(0, 20), bench.text(1, 20));
    let expected = at_once(bench, &text, &PAGES[0])?;
    let mut session = bench.open()?;
    session.execute(&[work(&text, 0..19, &PAGES[0], 0), work(&beside, 0..19, &PAGES[1], 0)])?;
    let bad = [bench.subject.vocab_size as u32];
    let next = work(&text, 19..20, &PAGES[0], 1);
    let failed = session.execute(&[next, Work { ids: &bad, ..work(&beside, 19..20, &PAGES[1], 1) }]);
    ensure(matches!(failed, Err(Error::TokenOutOfRange { .. })), || {
        format!("a token beyond the vocabulary gives {failed:?}, not TokenOutOfRange")
    })?;
    bench.same(&bench.run(&mut *session, &[next])?, &expected)?;
    // It may be run again even when it did not fail.
    bench.same(&bench.run(&mut *session, &[next])?, &expected)
}

fn written_again(bench: &Bench<'_>) -> Verdict {
    let (text, other) = (bench.text(0, 75), bench.text(2, 90));
    let expected = at_once(bench, &text, &PAGES[0])?;
    let mut session = bench.open()?;
    session.execute(&[work(&text, 0..60, &PAGES[0], 0)])?;
    session.execute(&[work(&other, 60..90, &PAGES[0], 1)])?;
    bench.same(&bench.run(&mut *session, &[work(&text, 60..75, &PAGES[0], 1)])?, &expected)
}

fn sessions(bench: &Bench<'_>) -> Verdict {
    let (text, other) = (bench.text(0, 20), bench.text(1, 20));
    let expected = at_once(bench, &text, &PAGES[0])?;
    let [mut session, mut beside] = [bench.open()?, bench.open()?];
    session.execute(&[work(&text, 0..19, &PAGES[0], 0)])?;
    beside.execute(&[work(&other, 0..20, &PAGES[0], 1)])?;
    bench.same(&bench.run(&mut *session, &[work(&text, 19..20, &PAGES[0], 1)])?, &expected)
}

fn room(bench: &Bench<'_>) -> Verdict {
    let pages: Vec<Page> = (0..LIMITS.pages as u32).rev().map(Page).collect();
    let texts: Vec<Vec<u32>> = (0..4).map(|index| bench.text(index, LIMITS.positions)).collect();
    let mut session = bench.open()?;
    let mut last = Vec::new();
    for tokens in [0..64, 64..128, 128..192, 192..200_usize] {
        let entry = |(text, pages)| work(text, tokens.clone(), pages, 1);
        let batch: Vec<Work<'_>> =
            texts.iter().map(|text| &text[..]).zip(pages.chunks(4)).map(entry).collect();
        last = bench.run(&mut *session, &batch)?;
    }
    let expected = at_once(bench, &texts[3], &PAGES[0])?;
    bench.same(&last[3..], &expected)
}

fn traffic(bench: &Bench<'_>) -> Verdict {
    let text = bench.text(0, 70);
    let mut session = bench.open()?;
    let mut before = session.traffic();
    for tokens in [0..65, 65..66, 66..70] {
        bench.run(&mut *session, &[work(&text, tokens, &PAGES[0], 1)])?;
        let now = session.traffic();
        let counts = [
            (now.weight_bytes, before.weight_bytes),
            (now.kv_bytes, before.kv_bytes),
            (now.neurons, before.neurons),
            (now.active_neurons, before.active_neurons),
            (now.down_columns, before.down_columns),
            (now.scored_rows, before.scored_rows),
            (now.rescored_rows, before.rescored_rows),
            (now.device_ns, before.device_ns),
        ];
        ensure(counts.iter().all(|(now, before)| now >= before), || format!("{now:?} after {before:?}"))?;
        before = now;
    }
    Ok(())
}

fn moved_page(bench: &Bench<'_>) -> Verdict {
    let text = bench.text(1, 80);
    let [mut session, mut other] = [bench.open()?, bench.open()?];
    let expected = bench.run(&mut *session, &[work(&text, 0..80, &PAGES[1], 1)])?;
    session.execute(&[work(&text, 0..79, &PAGES[1], 0)])?;
    for page in &PAGES[1][..2] {
        let mut bytes = Vec::new();
        match session.read_page(*page, &mut bytes) {
            Err(Error::Unsupported { .. }) => return Ok(()),
            read => read?,
        }
        let page_bytes = bench.backend.page_bytes(bench.kv_type);
        ensure(bytes.len() == page_bytes, || format!("{} bytes of a page, not {page_bytes}", bytes.len()))?;
        other.write_page(*page, &bytes)?;
    }
    bench.same(&bench.run(&mut *other, &[work(&text, 79..80, &PAGES[1], 1)])?, &expected)
}

fn reference(bench: &Bench<'_>) -> Verdict {
    let Some(backend) = bench.subject.reference else { return Ok(()) };
    let reference = Bench { backend, ..*bench };
    let text = bench.text(0, 100);
    let [mut session, mut right] = [bench.open()?, reference.open()?];
    for tokens in [0..64, 64..95, 95..96, 96..100] {
        let batch = [work(&text, tokens, &PAGES[0], 4)];
        let expected = reference.run(&mut *right, &batch)?;
        bench.same(&bench.run(&mut *session, &batch)?, &expected)?;
    }
    Ok(())
}
