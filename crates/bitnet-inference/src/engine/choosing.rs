//! From the outputs of a step to the next tokens of its sequences.

use super::device::Device;
use super::task::Task;
use crate::Result;
use crate::backend::Choice;
use crate::monitor::PerformanceMonitor;

/// Chooses the next tokens of the tasks whose input was computed.
///
/// Behind guesses there are several outputs; the next one counts only when the token chosen before it is the guess that
/// was computed. Where penalties may change from token to token they are asked one after another.
///
/// Errors: those of the device, and then nothing was chosen.
pub(super) fn choose(device: &mut Device, tasks: &mut [Task], monitor: &PerformanceMonitor) -> Result<()> {
    let mut output = 0;
    for task in tasks.iter_mut() {
        output = task.expect_outputs(output);
    }
    let mut is_first = true;
    loop {
        let open = tasks.iter().enumerate();
        let asked: Vec<(usize, usize)> =
            open.flat_map(|(index, task)| task.next_outputs().map(move |output| (index, output))).collect();
        let choices: Vec<Choice<'_>> = asked
            .iter()
            .map(|&(index, output)| Choice { output, cut: tasks[index].continuation.cut() })
            .collect();
        let session = device.session();
        match session.choose(&choices) {
            Err(error) if is_first => return Err(error),
            // What was chosen so far is right; the rest is computed again.
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
        if is_first {
            for task in tasks.iter_mut() {
                task.take_computed(monitor);
            }
            is_first = false;
        }
        if asked.is_empty() {
            return Ok(());
        }
        for (choice, (index, output)) in asked.into_iter().enumerate() {
            tasks[index].take(output, session.candidates(choice), monitor);
        }
    }
}
