//! Wall clock and CPU of one command, and what to make of many.

use std::process::Command;
use std::time::Instant;

use crate::cpu::Meter;

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Milliseconds from start to end.
    pub wall_ms: f64,
    /// Milliseconds of user and system, with children.
    pub cpu_ms: f64,
}

/// Runs it to its end.
///
/// # Panics
/// It can't be started, or fails.
pub fn take(mut command: Command) -> Taken {
    let meter = Meter::start(&[]);
    let began = Instant::now();
    let status = command.status();
    let wall = began.elapsed();
    let cpu = meter.used();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("{command:?}: {other:?}"),
    }
    Taken {
        wall_ms: wall.as_secs_f64() * 1e3,
        cpu_ms: cpu.as_secs_f64() * 1e3,
    }
}

/// The middle one; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The median, and the range in brackets.
pub fn spread(values: &[f64]) -> String {
    let ends = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
    format!("{:.3} [{:.3} .. {:.3}]", median(values), ends.0, ends.1)
}
