//! Short-lived notes between hgbuild processes: a grid that failed a moment
//! ago is not asked again by each of a build's thousand compiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hg_proto::digest::Digest;

/// Bytes of words in a note.
const WORDS_BYTES_MAX: usize = 4096;
/// Age at which a note says nothing any more.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Notes in a folder; without one, nothing is remembered.
#[derive(Debug, Clone)]
pub struct Memos {
    folder: Option<PathBuf>,
}

/// What is known of a subject.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: go and try.
    Nothing,
    /// It was bad lately: these words say how.
    Bad(String),
    /// It was bad a while ago. The caller tries; others keep away meanwhile.
    Retry,
}

impl Memos {
    /// In `folder`.
    pub fn new(folder: Option<&Path>) -> Self {
        Memos {
            folder: folder.map(Path::to_path_buf),
        }
    }

    /// What was noted about `subject`. `lasts` says how long a note counts that
    /// was renewed so many times.
    pub fn recall(&self, subject: &[u8], lasts: impl Fn(u32) -> Duration) -> Known {
        let Some((age, times, words)) = self.read(subject) else {
            return Known::Nothing;
        };
        if age < lasts(times) {
            return Known::Bad(words);
        }
        self.write(subject, times, &words);
        Known::Retry
    }

    /// Notes `words` about `subject`, from now on.
    pub fn note(&self, subject: &[u8], words: &str) {
        let times = self.read(subject).map_or(0, |(_, times, _)| times);
        self.write(subject, times.saturating_add(1), words);
    }

    fn read(&self, subject: &[u8]) -> Option<(Duration, u32, String)> {
        let path = self.path(subject)?;
        let meta = fs::metadata(&path).ok()?;
        // A note from the future is as good as none.
        let age = SystemTime::now()
            .duration_since(meta.modified().ok()?)
            .ok()?;
        if age > FORGOTTEN || meta.len() > 2 * WORDS_BYTES_MAX as u64 {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        let (times, words) = text.split_once(' ')?;
        Some((age, times.parse().ok()?, words.to_owned()))
    }

    fn write(&self, subject: &[u8], times: u32, words: &str) {
        let Some(path) = self.path(subject) else {
            return;
        };
        let cut = words.floor_char_boundary(WORDS_BYTES_MAX);
        let text = format!("{times} {}", &words[..cut]);
        if fs::write(&path, &text).is_err()
            && let Some(folder) = &self.folder
            && fs::create_dir_all(folder).is_ok()
        {
            // Without a note the next process finds out by itself.
            let _ = fs::write(&path, &text);
        }
    }

    /// Takes a note back.
    pub fn forget(&self, subject: &[u8]) {
        if let Some(path) = self.path(subject) {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, subject: &[u8]) -> Option<PathBuf> {
        let name = &Digest::of(subject).to_hex()[..24];
        Some(self.folder.as_ref()?.join(format!("memo-{name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_age() {
        let folder = std::env::temp_dir().join(format!("hg-memo-{}", std::process::id()));
        let memos = Memos::new(Some(&folder));
        let minute = |_| Duration::from_secs(60);
        assert_eq!(memos.recall(b"a:1", minute), Known::Nothing);
        memos.note(b"a:1", "refused");
        assert_eq!(memos.recall(b"a:1", minute), Known::Bad("refused".into()));
        assert_eq!(memos.recall(b"b:1", minute), Known::Nothing);
        assert_eq!(memos.recall(b"a:1", |_| Duration::ZERO), Known::Retry);
        memos.note(b"a:1", "again");
        let twice = |times| Duration::from_secs(if times == 2 { 60 } else { 0 });
        assert_eq!(memos.recall(b"a:1", twice), Known::Bad("again".into()));
        memos.forget(b"a:1");
        assert_eq!(memos.recall(b"a:1", minute), Known::Nothing);
        fs::remove_dir_all(folder).unwrap();
    }
}
