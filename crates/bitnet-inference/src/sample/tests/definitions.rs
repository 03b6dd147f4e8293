//! What each filter says, in the plainest way: probabilities of all tokens, sorted.

/// Tokens that are left, with their logits.
pub(super) type Tokens = Vec<(u32, f32)>;

pub(super) fn probabilities(tokens: &Tokens, temperature: f32) -> Vec<f64> {
    let exps: Vec<f64> =
        tokens.iter().map(|&(_, logit)| (f64::from(logit) / f64::from(temperature)).exp()).collect();
    let total: f64 = exps.iter().sum();
    exps.into_iter().map(|exp| exp / total).collect()
}

/// Keeps the tokens at the first places of an order until their probabilities reach `p`.
fn up_to(tokens: &Tokens, probabilities: &[f64], mut order: Vec<usize>, p: f32) -> Tokens {
    let mut sum = 0.0;
    let last = order.iter().position(|&at| {
        sum += probabilities[at];
        sum >= f64::from(p)
    });
    order.truncate(last.map_or(tokens.len(), |last| last + 1));
    order.sort_unstable();
    order.into_iter().map(|at| tokens[at]).collect()
}

fn sorted_by(tokens: &Tokens, key: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
    order
}

pub(super) fn top_k(tokens: &Tokens, k: usize) -> Tokens {
    let mut order = sorted_by(tokens, |at| -f64::from(tokens[at].1));
    order.truncate(k);
    order.sort_unstable();
    order.into_iter().map(|at| tokens[at]).collect()
}

pub(super) fn top_p(tokens: &Tokens, temperature: f32, p: f32) -> Tokens {
    let probabilities = probabilities(tokens, temperature);
    let order = sorted_by(tokens, |at| -f64::from(tokens[at].1));
    up_to(tokens, &probabilities, order, p)
}

pub(super) fn typical(tokens: &Tokens, temperature: f32, p: f32) -> Tokens {
    let probabilities = probabilities(tokens, temperature);
    let entropy: f64 = probabilities.iter().map(|p| -p * p.ln()).sum();
    let order = sorted_by(tokens, |at| (-probabilities[at].ln() - entropy).abs());
    up_to(tokens, &probabilities, order, p)
}

pub(super) fn min_p(tokens: &Tokens, temperature: f32, p: f32) -> Tokens {
    let probabilities = probabilities(tokens, temperature);
    let max = probabilities.iter().copied().fold(0.0, f64::max);
    let kept = tokens.iter().zip(&probabilities).filter(|(_, share)| **share >= f64::from(p) * max);
    kept.map(|(token, _)| *token).collect()
}

pub(super) fn top_n_sigma(tokens: &Tokens, n: f32) -> Tokens {
    let count = tokens.len() as f64;
    let mean = tokens.iter().map(|token| f64::from(token.1)).sum::<f64>() / count;
    let variance = tokens.iter().map(|token| (f64::from(token.1) - mean).powi(2)).sum::<f64>() / count;
    let max = tokens.iter().map(|token| f64::from(token.1)).fold(f64::MIN, f64::max);
    let kept = |token: &&(u32, f32)| f64::from(token.1) >= max - f64::from(n) * variance.sqrt();
    tokens.iter().filter(kept).copied().collect()
}

pub(super) fn xtc(tokens: &Tokens, temperature: f32, threshold: f32) -> Tokens {
    let probabilities = probabilities(tokens, temperature);
    let mut order = sorted_by(tokens, |at| -f64::from(tokens[at].1));
    let top = order.iter().take_while(|&&at| probabilities[at] >= f64::from(threshold)).count();
    order.drain(..top.saturating_sub(1));
    order.sort_unstable();
    order.into_iter().map(|at| tokens[at]).collect()
}
