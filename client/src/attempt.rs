//! Decisions about one attempt on the grid: which result may stand for the
//! local compiler's, and how long the grid is left alone after a failure.
//! Pure: no I/O, no clock.

use std::time::Duration;

use hg_proto::args::Reason;
use hg_proto::limits::COMPILE_MS_DEFAULT;
use hg_proto::toolchain::Family;
use hg_proto::v1::{Failure, TaskResult, failure::Code};

/// Connecting, which the kernel at the other end answers.
pub const CONNECT_MS_MAX: u64 = 500;
/// TLS and the HTTP/2 preface, which a busy coordinator must find time for.
pub const HANDSHAKE_MS_MAX: u64 = 2_000;
/// From the task to the coordinator's first word.
pub const ACCEPT_MS_MAX: u64 = 2_000;
/// Silence on a task's stream after which the coordinator is given up; it says
/// something every `STILL_THERE_MS`.
pub const SILENCE_MS_MAX: u64 = 6_000;

/// Beyond the wait for a worker that was asked for, until one has the task.
pub const QUEUE_GRACE_MS: u64 = 2_000;
/// From the task to its end once a worker has it, retries included, however
/// alive the coordinator says it is.
pub const RUN_MS_MAX: u64 = 2 * COMPILE_MS_DEFAULT as u64;

/// How long a grid that failed so many times in a row is not asked again.
pub fn down_memo(times: u32) -> Duration {
    Duration::from_secs(10 << times.clamp(1, 3) >> 1)
}

/// How long a toolchain that no worker has is not asked for again.
pub fn toolchain_memo(_times: u32) -> Duration {
    Duration::from_secs(5)
}

/// How long compiles run on idle cores here, all of them, when the grid was no
/// faster so many times in a row.
pub fn slow_memo(times: u32) -> Duration {
    Duration::from_secs(5 << times.clamp(1, 3) >> 1)
}

/// Why an attempt ended without a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Lost {
    /// No connection, or no coordinator behind it.
    Unreachable(String),
    /// It does not let us in.
    Refused(String),
    /// It was there and stopped making sense, or stopped altogether.
    Broken(String),
    /// It answered that there will be no result.
    Failed(Failure),
    /// An output did not arrive as announced.
    Corrupt(String),
    /// A local slot came free while the task was still waiting.
    Overtaken,
    /// A local slot came free, and the worker was slow or took too long.
    Outrun,
}

/// What to leave alone for a while after an attempt was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memo {
    /// Nothing.
    None,
    /// The coordinator.
    Coordinator,
    /// This toolchain.
    Toolchain,
    /// Nothing, but an idle core here is better.
    Slow,
}

/// What an attempt that was lost means.
pub fn after_loss(lost: &Lost) -> (Reason, Memo) {
    let reason = |code, detail: &str| Reason {
        code,
        detail: detail.to_owned(),
    };
    match lost {
        Lost::Unreachable(why) => (reason("grid-unreachable", why), Memo::Coordinator),
        Lost::Refused(why) => (reason("grid-refused", why), Memo::Coordinator),
        Lost::Broken(why) => (reason("grid-broken", why), Memo::Coordinator),
        Lost::Corrupt(why) => (reason("result-corrupt", why), Memo::None),
        Lost::Overtaken => (reason("local-slot", "free before a worker was"), Memo::None),
        Lost::Outrun => (reason("slow-worker", "a core here was idle"), Memo::Slow),
        Lost::Failed(failure) => {
            let detail = &failure.detail;
            match failure.code() {
                Code::NoToolchain => (reason("no-worker", detail), Memo::Toolchain),
                Code::Queue => (reason("queue", detail), Memo::Slow),
                Code::Refused => (reason("refused", detail), Memo::None),
                Code::Limit => (reason("limit", detail), Memo::None),
                Code::Shutdown => (reason("grid-shutdown", detail), Memo::Coordinator),
                _ => (reason("worker-failed", detail), Memo::Slow),
            }
        }
    }
}

/// Whether `result` may stand for what the local compiler would have given.
///
/// Only a compile that went well does: a failed one is repeated here, which
/// gives the diagnostics that the user would have seen.
///
/// # Errors
/// Why the compiler runs here after all.
pub fn accept(result: &TaskResult, family: Family, output: &[u8]) -> Result<(), Reason> {
    let reason = |code, detail: String| Err(Reason { code, detail });
    if result.signal != 0 {
        return reason("remote-failed", format!("signal {}", result.signal));
    }
    if result.exit_code != 0 {
        return reason("remote-failed", format!("exit code {}", result.exit_code));
    }
    if result.truncated {
        return reason("remote-diagnostics", "too long".into());
    }
    // gcc quotes source lines from files, which the worker has not got; clang
    // quotes them from the text it compiles.
    if !result.stdout.is_empty() || (family == Family::Gcc && !result.stderr.is_empty()) {
        return reason("remote-diagnostics", String::new());
    }
    if let Some(name) = result.unexpected.first() {
        let name = String::from_utf8_lossy(name).into_owned();
        return reason("extra-output", name);
    }
    if result.outputs.len() != 1 || result.outputs[0].path != output {
        return reason("missing-output", String::new());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::v1::Output;

    fn good() -> TaskResult {
        TaskResult {
            outputs: vec![Output {
                path: b"a.o".to_vec(),
                ..Output::default()
            }],
            ..TaskResult::default()
        }
    }

    #[test]
    fn only_a_whole_and_silent_success_is_taken() {
        assert!(accept(&good(), Family::Gcc, b"a.o").is_ok());
        let bad = [
            TaskResult {
                exit_code: 1,
                ..good()
            },
            TaskResult {
                signal: 9,
                ..good()
            },
            TaskResult {
                truncated: true,
                ..good()
            },
            TaskResult {
                stdout: b"x".to_vec(),
                ..good()
            },
            TaskResult {
                stderr: b"a.c:1: warning".to_vec(),
                ..good()
            },
            TaskResult {
                unexpected: vec![b"a.su".to_vec()],
                ..good()
            },
            TaskResult {
                outputs: vec![],
                ..good()
            },
        ];
        for result in bad {
            assert!(accept(&result, Family::Gcc, b"a.o").is_err(), "{result:?}");
        }
        let warned = TaskResult {
            stderr: b"w".to_vec(),
            ..good()
        };
        assert!(accept(&warned, Family::Clang, b"a.o").is_ok());
        assert!(accept(&good(), Family::Clang, b"b.o").is_err());
    }

    #[test]
    fn a_grid_that_stays_down_is_asked_less() {
        let seconds: Vec<u64> = (0..5).map(|times| down_memo(times).as_secs()).collect();
        assert_eq!(seconds, [10, 10, 20, 40, 40]);
    }

    #[test]
    fn only_a_grid_that_failed_is_left_alone() {
        assert_eq!(
            after_loss(&Lost::Unreachable(String::new())).1,
            Memo::Coordinator
        );
        assert_eq!(after_loss(&Lost::Overtaken).1, Memo::None);
        assert_eq!(after_loss(&Lost::Outrun).1, Memo::Slow);
        let failure = |code: Code| {
            Lost::Failed(Failure {
                code: code.into(),
                detail: String::new(),
            })
        };
        assert_eq!(after_loss(&failure(Code::NoToolchain)).1, Memo::Toolchain);
        assert_eq!(after_loss(&failure(Code::Queue)).1, Memo::Slow);
        assert_eq!(after_loss(&failure(Code::Refused)).1, Memo::None);
    }
}
