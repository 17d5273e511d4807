//! Decisions about one attempt on the grid: which result may stand for the
//! local compiler's, and how long the grid is left alone after a failure.
//! Pure: no I/O, no clock.

use std::time::Duration;

use hg_proto::options::args::Reason;
use hg_proto::v1::{Failure, TaskResult, Usage, failure::Code};
use hg_proto::wire::limits::COMPILE_MS_DEFAULT;

use crate::local::escape_sequences;

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
pub fn grid_backoff(times: u32) -> Duration {
    Duration::from_secs(10 << times.clamp(1, 3) >> 1)
}

/// How long the coordinator is not looked for by mDNS where that was in vain so many times
/// in a row.
pub fn look_backoff(times: u32) -> Duration {
    Duration::from_secs(2 << times.clamp(1, 5))
}

/// How long a coordinator is not asked for results of before, where so many in a row were not
/// there.
pub fn vain_backoff(times: u32) -> Duration {
    Duration::from_millis(500 << times.clamp(1, 7))
}

/// Milliseconds after which a result of before has come, or the compile runs here.
pub const KEPT_MS_MAX: u64 = 100;

/// So many times in a row a connection that broke off is dialled again at once, as after
/// a restart. Then it is no restart.
pub const CUTS_MAX: u32 = 3;
/// So many times in a row workers are expected back.
pub const WORKERS_AWAITED_MAX: u32 = 4;

/// How long a toolchain that no worker has is not asked for again.
pub fn toolchain_backoff(_times: u32) -> Duration {
    Duration::from_secs(5)
}

/// Sources that fail in the tree form, one after another, and compile here: then it is
/// not they who are odd.
pub const TREES_LOST_MAX: u32 = 8;

/// How long the tree form is left alone on a grid where no worker takes it.
pub fn tree_backoff(times: u32) -> Duration {
    Duration::from_secs(10 << times.clamp(1, 3) >> 1)
}

/// How long a source that was refused, or failed on a worker alone, is not looked at
/// again while it is the same: a header that was edited since may have changed that.
pub fn source_memo_lasts(_times: u32) -> Duration {
    Duration::from_secs(600)
}

/// Reasons that come after work, and come again for the same source: found in the files
/// or in the preprocessed text, or in what a worker's compiler said.
const LASTING: [&str; 29] = [
    "asm-file-directive",
    "base-file-macro",
    "builtin-question",
    "computed-include",
    "computed-question",
    "counter-in-condition",
    "double-header",
    "embed",
    "empty-body",
    "fall-through",
    "indentation",
    "linked-header",
    "lost-pragma",
    "mixed-newlines",
    "module",
    "nullability",
    "odd-path",
    "open-end",
    "pragma-dependency",
    "pragma-file",
    "pragma-once",
    "pragma-pack",
    "pragma-target",
    "preprocessor-diagnostics",
    REMOTE_DIAGNOSTICS,
    "time-macro",
    "too-large",
    "too-many-inputs",
    "working-directory",
];

/// Whether a compile that stays here for `reason` is remembered.
pub fn lasts(reason: &Reason) -> bool {
    LASTING.contains(&reason.code)
}

/// Whether `reason` was found in a preprocessed text, or on the way to it.
pub fn is_of_text(reason: &Reason) -> bool {
    lasts(reason) && reason.code != REMOTE_DIAGNOSTICS
}

/// The reason that was remembered as `words`.
pub fn remembered(words: &str) -> Option<Reason> {
    let (code, detail) = words.split_once(": ").unwrap_or((words, ""));
    let code = LASTING.into_iter().find(|lasting| *lasting == code)?;
    Some(Reason {
        code,
        detail: detail.to_owned(),
    })
}

/// How long compiles run on idle cores here, all of them, when the grid was no
/// faster so many times in a row.
pub fn slow_grid_backoff(times: u32) -> Duration {
    Duration::from_secs(5 << times.clamp(1, 3) >> 1)
}

/// Why an attempt ended without a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Lost {
    /// No connection, or no coordinator behind it.
    Unreachable(String),
    /// The coordinator's machine says that nobody listens there.
    Gone(String),
    /// The connection broke off.
    Cut(String),
    /// The coordinator does not let us in.
    Refused(String),
    /// The coordinator was there and stopped making sense, or stopped altogether.
    Broken(String),
    /// The coordinator answered that there will be no result.
    Failed(Failure),
    /// An output did not arrive as announced.
    Corrupt(String),
    /// An input is not what it was when the task was made.
    Changed(String),
    /// A local slot came free while the task was still waiting.
    Overtaken,
    /// A local slot came free, and the worker was slow or took too long.
    Outrun,
}

impl Lost {
    /// Whether another connection to the same coordinator may do better.
    pub fn is_of_connection(&self) -> bool {
        use Lost::{Broken, Cut, Gone, Refused, Unreachable};
        matches!(
            self,
            Unreachable(_) | Gone(_) | Cut(_) | Refused(_) | Broken(_)
        )
    }
}

/// What to leave alone for a while after an attempt was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Nothing.
    None,
    /// The coordinator.
    Coordinator,
    /// The coordinator, until it answers: it broke off, as in a restart. After
    /// [`CUTS_MAX`] times in a row it is none.
    Cut,
    /// The coordinator, until it is back with workers.
    Absence,
    /// This toolchain.
    Toolchain,
    /// Nothing, but an idle core here is better.
    Slow,
}

/// The reason that was noted as `words` because no worker had a toolchain; `None`: it was
/// noted for something else.
pub fn no_worker(words: &str) -> Option<Reason> {
    let detail = words.strip_prefix("no-worker: ")?;
    Some(Reason::with("no-worker", detail))
}

/// What an attempt that was lost means.
pub fn after_loss(lost: &Lost) -> (Reason, Backoff) {
    let reason = |code, detail: &str| Reason {
        code,
        detail: detail.to_owned(),
    };
    match lost {
        Lost::Unreachable(why) => (reason("grid-unreachable", why), Backoff::Coordinator),
        Lost::Gone(why) => (reason("grid-unreachable", why), Backoff::Absence),
        Lost::Cut(why) => (reason("grid-broken", why), Backoff::Cut),
        Lost::Refused(why) => (reason("grid-refused", why), Backoff::Coordinator),
        Lost::Broken(why) => (reason("grid-broken", why), Backoff::Coordinator),
        Lost::Corrupt(why) => (reason("result-corrupt", why), Backoff::None),
        Lost::Changed(why) => (reason("input-changed", why), Backoff::None),
        Lost::Overtaken => (
            reason("local-slot", "free before a worker was"),
            Backoff::None,
        ),
        Lost::Outrun => (reason("slow-worker", "a core here was idle"), Backoff::Slow),
        Lost::Failed(failure) => {
            let detail = &failure.detail;
            match failure.code() {
                Code::NoToolchain => (reason("no-worker", detail), Backoff::Toolchain),
                Code::Queue => (reason("queue", detail), Backoff::Slow),
                Code::Refused => (reason("refused", detail), Backoff::None),
                Code::Limit | Code::Disk => (reason("limit", detail), Backoff::None),
                Code::Shutdown => (reason("grid-shutdown", detail), Backoff::Absence),
                _ => (reason("worker-failed", detail), Backoff::Slow),
            }
        }
    }
}

/// A compile that took so many times its processor time had to wait for it.
const STARVED_FACTOR: u64 = 3;
/// Microseconds of waiting that do not count yet.
const STARVED_US_MIN: u64 = 200_000;

/// Whether a worker had so little of a processor for a compile that an idle core
/// here is better: it is throttled, or others use it. One that is slow by itself
/// says so.
pub fn was_starved(usage: &Usage) -> bool {
    let cpu_us = usage.user_us.saturating_add(usage.system_us);
    let waited_us = usage.wall_us.saturating_sub(cpu_us);
    cpu_us > 0
        && waited_us >= STARVED_US_MIN
        && usage.wall_us >= cpu_us.saturating_mul(STARVED_FACTOR)
}

/// The reason of a compile whose words may not stand for the local compiler's.
const REMOTE_DIAGNOSTICS: &str = "remote-diagnostics";

/// The reason of a compile that failed on a worker.
pub const REMOTE_FAILED: &str = "remote-failed";

/// Which diagnostics of a worker's compiler may stand for those of the local one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedDiagnostics {
    /// Nothing.
    Nothing,
    /// Those about a preprocessed text, which it quotes, but for words that the files do
    /// not earn.
    OfText,
    /// Those about the files; the driver and the assembler have other names there.
    OfFiles,
    /// Those about the files, in a locale that not every worker has.
    OfFilesInUtf8,
}

/// Whether `result` may stand for what the local compiler would have given.
///
/// Only a compile that went well does: a failed one is repeated here, which
/// gives the diagnostics that the user would have seen. Words for a terminal have to be
/// said to one: `on_terminal`.
///
/// # Errors
/// Why the compiler runs here after all.
pub fn accept(
    result: &TaskResult,
    allowed: AllowedDiagnostics,
    on_terminal: bool,
    outputs: &[Vec<u8>],
) -> Result<(), Reason> {
    let reason = |code, detail: String| Err(Reason { code, detail });
    if result.signal != 0 {
        return reason(REMOTE_FAILED, format!("signal {}", result.signal));
    }
    if result.exit_code != 0 {
        return reason(REMOTE_FAILED, format!("exit code {}", result.exit_code));
    }
    if result.truncated {
        return reason(REMOTE_DIAGNOSTICS, "too long".into());
    }
    if on_terminal && !result.on_terminal && !result.stderr.is_empty() {
        return reason(REMOTE_DIAGNOSTICS, "no terminal there".into());
    }
    let words = escape_sequences::strip(&result.stderr);
    let said = match allowed {
        AllowedDiagnostics::Nothing => result.stderr.is_empty(),
        AllowedDiagnostics::OfText => !only_of_text(&words),
        AllowedDiagnostics::OfFiles => is_of_files(&words),
        AllowedDiagnostics::OfFilesInUtf8 => is_of_files(&words) && is_in_utf8(&words),
    };
    if !result.stdout.is_empty() || !said {
        return reason(REMOTE_DIAGNOSTICS, String::new());
    }
    if let Some(name) = result.unexpected.first() {
        let name = String::from_utf8_lossy(name).into_owned();
        return reason("extra-output", name);
    }
    if !result.outputs.iter().map(|output| &output.path).eq(outputs) {
        return reason("missing-output", String::new());
    }
    Ok(())
}

/// Whether clang says something that it would not of the files: conditions, which use
/// macros, stand in the text as what they came to, and a `#pragma` may want words about
/// line markers.
fn only_of_text(stderr: &[u8]) -> bool {
    let words = [
        "-Wunused-macros",
        "macro is not used",
        "-Wgnu-line-marker",
        "line directive is a GNU extension",
    ];
    words
        .iter()
        .any(|words| memchr::memmem::find(stderr, words.as_bytes()).is_some())
}

/// Whether nothing is quoted as where there is no UTF-8, but for lines of files, which
/// gcc puts after a blank.
fn is_in_utf8(stderr: &[u8]) -> bool {
    let own = |line: &&[u8]| !line.starts_with(b" ");
    let mut lines = stderr.split(|byte| *byte == b'\n').filter(own);
    lines.all(|line| !line.contains(&b'\''))
}

/// Whether nobody speaks in its own name: `gcc: warning: ...` is `cc: ...` where it was
/// called that, and the assembler names a file that is never called the same twice.
fn is_of_files(stderr: &[u8]) -> bool {
    let of_files = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let Some((speaker, words)) = line.split_once(": ") else {
            return true;
        };
        let kinds = [
            "warning: ",
            "error: ",
            "note: ",
            "fatal error: ",
            "Assembler",
        ];
        let itself = !speaker.contains([':', ' ', '/']) || words.starts_with("Assembler");
        let proper = matches!(speaker, "cc1" | "cc1plus");
        proper || !(itself && kinds.iter().any(|kind| words.starts_with(kind)))
    };
    stderr.split(|byte| *byte == b'\n').all(of_files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::v1::Output;

    fn object() -> Vec<Vec<u8>> {
        vec![b"a.o".to_vec()]
    }

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
        assert!(accept(&good(), AllowedDiagnostics::Nothing, false, &object()).is_ok());
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
            assert!(
                accept(&result, AllowedDiagnostics::Nothing, false, &object()).is_err(),
                "{result:?}"
            );
        }
        let warned = TaskResult {
            stderr: b"w".to_vec(),
            ..good()
        };
        assert!(accept(&warned, AllowedDiagnostics::OfText, false, &object()).is_ok());
        assert!(
            accept(
                &good(),
                AllowedDiagnostics::OfText,
                false,
                &[b"b.o".to_vec()]
            )
            .is_err()
        );
        let both = [b"a.o".to_vec(), b"a.d".to_vec()];
        assert!(accept(&good(), AllowedDiagnostics::OfText, false, &both).is_err());
    }

    #[test]
    fn only_what_is_said_of_files_is_the_same_elsewhere() {
        let taken = |stderr: &str| {
            let result = TaskResult {
                stderr: stderr.into(),
                ..good()
            };
            accept(&result, AllowedDiagnostics::OfFiles, false, &object()).is_ok()
        };
        for same in [
            "",
            "a.c: In function 'f':\na.c:1:2: warning: x [-Wx]\n    1 | warning: x\n",
            "In file included from a.c:1:\nb.h:1:1: note: y\n1 warning generated.\n",
            "cc1: warning: x\ncc1plus: warning: y\n",
        ] {
            assert!(taken(same), "{same}");
        }
        for other in [
            "gcc: warning: x\n",
            "a.c:1:2: warning: x\nclang: warning: argument unused\n",
            "/tmp/ccXb12.s: Assembler messages:\n/tmp/ccXb12.s:1: Warning: x\n",
            "{standard input}: Assembler messages:\n",
        ] {
            assert!(!taken(other), "{other}");
        }
    }

    #[test]
    fn quotes_of_a_worker_without_the_locale_are_not_taken() {
        let taken = |stderr: &str| {
            let result = TaskResult {
                stderr: stderr.into(),
                ..good()
            };
            accept(&result, AllowedDiagnostics::OfFilesInUtf8, false, &object()).is_ok()
        };
        assert!(taken("") && taken("a.c:1:1: warning: no quotes\n"));
        assert!(taken(
            "a.c:1:1: warning: unused \u{2018}x\u{2019}\n 1 | 'x'\n"
        ));
        assert!(!taken("a.c:1:1: warning: unused 'x'\n"));
        assert!(!taken(
            "a.c:1:1: warning: unused 'x'\n 1 | // \u{2018}x\u{2019}\n"
        ));
        assert!(!taken("gcc: warning: \u{2018}x\u{2019}\n"));
    }

    #[test]
    fn a_grid_that_stays_down_is_asked_less() {
        let seconds: Vec<u64> = (0..5).map(|times| grid_backoff(times).as_secs()).collect();
        assert_eq!(seconds, [10, 10, 20, 40, 40]);
    }

    #[test]
    fn only_a_grid_that_failed_is_left_alone() {
        assert_eq!(
            after_loss(&Lost::Unreachable(String::new())).1,
            Backoff::Coordinator
        );
        assert_eq!(after_loss(&Lost::Overtaken).1, Backoff::None);
        assert_eq!(after_loss(&Lost::Outrun).1, Backoff::Slow);
        let failure = |code: Code| {
            Lost::Failed(Failure {
                code: code.into(),
                ..Failure::default()
            })
        };
        assert_eq!(
            after_loss(&failure(Code::NoToolchain)).1,
            Backoff::Toolchain
        );
        assert_eq!(after_loss(&failure(Code::Queue)).1, Backoff::Slow);
        let goodbye = after_loss(&failure(Code::Shutdown)).1;
        assert_eq!(goodbye, Backoff::Absence);
        assert_eq!(after_loss(&failure(Code::Refused)).1, Backoff::None);
    }

    #[test]
    fn a_worker_with_little_time_for_a_compile() {
        let usage = |wall_ms: u64, user_ms: u64, system_ms: u64| Usage {
            wall_us: wall_ms * 1_000,
            user_us: user_ms * 1_000,
            system_us: system_ms * 1_000,
            ..Usage::default()
        };
        assert!(was_starved(&usage(1_000, 90, 10)));
        assert!(was_starved(&usage(300, 90, 10)));
        // Two at once on one core; a short one that waited for the disk; one whose
        // time nobody measured; one that says nonsense.
        assert!(!was_starved(&usage(1_000, 490, 10)));
        assert!(!was_starved(&usage(200, 10, 10)));
        assert!(!was_starved(&usage(1_000, 0, 0)));
        assert!(!was_starved(&usage(u64::MAX / 1_000, u64::MAX / 2_000, 0)));
    }
}
