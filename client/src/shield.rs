//! A bug of ours, or a thread that can't be had, costs no compile: the step ends
//! there, and the user's own compiler runs.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use hg_proto::options::args::Reason;

static SHIELDED: AtomicBool = AtomicBool::new(false);
static WORDS: Mutex<String> = Mutex::new(String::new());

/// Runs `step`. A panic meanwhile, on whatever thread, writes nothing to stderr:
/// who asks a compiler whether it knows an option may look whether that is empty.
///
/// # Errors
/// `internal`: what panicked, and where.
pub fn shielded<T>(step: impl FnOnce() -> T) -> Result<T, Reason> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            match SHIELDED.load(Ordering::SeqCst) {
                true => *words() = text(info),
                false => loud(info),
            };
        }));
    });
    SHIELDED.store(true, Ordering::SeqCst);
    let ended = panic::catch_unwind(AssertUnwindSafe(step));
    SHIELDED.store(false, Ordering::SeqCst);
    ended.map_err(|_| Reason {
        code: "internal",
        detail: std::mem::take(&mut words()),
    })
}

/// What a thread of a shielded step gave; its panic is the step's.
pub fn joined<T>(ended: std::thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

fn words() -> std::sync::MutexGuard<'static, String> {
    WORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("a panic");
    match info.location() {
        Some(at) => format!("{what} ({}:{})", file_name(at.file()), at.line()),
        None => what.to_owned(),
    }
}

/// Where a dependency was built is nobody's business.
fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_step_alone() {
        let dropped = Mutex::new(false);
        struct OnDrop<'a>(&'a Mutex<bool>);
        impl Drop for OnDrop<'_> {
            fn drop(&mut self) {
                *self.0.lock().unwrap() = true;
            }
        }
        let ended: Result<(), Reason> = shielded(|| {
            let _held = OnDrop(&dropped);
            panic!("one is not {}", 2);
        });
        let reason = ended.unwrap_err();
        assert_eq!(reason.code, "internal");
        assert!(
            reason.detail.starts_with("one is not 2 (shield.rs:"),
            "{reason}"
        );
        assert!(*dropped.lock().unwrap());
        assert_eq!(shielded(|| 3).unwrap(), 3);
        // On a thread of the step.
        let ended: Result<(), Reason> = shielded(|| {
            let thread = std::thread::spawn(|| panic!("two is not {}", 3));
            joined(thread.join())
        });
        let reason = ended.unwrap_err();
        assert!(reason.detail.starts_with("two is not 3 ("), "{reason}");
    }
}
