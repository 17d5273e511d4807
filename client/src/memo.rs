//! Short-lived notes between hgbuild processes: a grid that failed a moment
//! ago is not asked again by each of a build's thousand compiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hg_proto::digest::Digest;

use crate::private;

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

/// Whether somebody is at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It failed; nobody has tried again.
    Failed,
    /// Somebody tries again.
    Tried,
}

struct Note {
    age: Duration,
    times: u32,
    standing: Standing,
    words: String,
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
        let Some(note) = self.read(subject) else {
            return Known::Nothing;
        };
        if note.age < lasts(note.times) {
            return Known::Bad(note.words);
        }
        self.write(subject, note.times, Standing::Tried, &note.words);
        Known::Retry
    }

    /// Notes `words` about `subject`, from now on. Those of one burst, who all
    /// went to try before the first of them had failed, count once.
    pub fn note(&self, subject: &[u8], words: &str) {
        let times = match self.read(subject) {
            Some(note) if note.standing == Standing::Failed => return,
            Some(note) => note.times.saturating_add(1),
            None => 1,
        };
        self.write(subject, times, Standing::Failed, words);
    }

    fn read(&self, subject: &[u8]) -> Option<Note> {
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
        let (head, words) = text.split_once(' ')?;
        let (standing, times) = match head.strip_suffix('?') {
            Some(times) => (Standing::Tried, times),
            None => (Standing::Failed, head),
        };
        Some(Note {
            age,
            times: times.parse().ok()?,
            standing,
            words: words.to_owned(),
        })
    }

    fn write(&self, subject: &[u8], times: u32, standing: Standing, words: &str) {
        let (Some(folder), Some(path)) = (&self.folder, self.path(subject)) else {
            return;
        };
        let mark = match standing {
            Standing::Failed => "",
            Standing::Tried => "?",
        };
        let cut = words.floor_char_boundary(WORDS_BYTES_MAX);
        let text = format!("{times}{mark} {}", &words[..cut]);
        // Renamed into place: whoever reads meanwhile sees the old note or the
        // new one, not an empty file, which would send it to the grid.
        let new = path.with_extension(std::process::id().to_string());
        let put = || private::write(&new, text.as_bytes()).and_then(|()| fs::rename(&new, &path));
        if put().is_err() && private::make(folder).is_ok() && put().is_err() {
            // Without a note the next process finds out by itself.
            let _ = fs::remove_file(&new);
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
        memos.note(b"a:1", "with those of its burst");
        assert_eq!(memos.recall(b"a:1", twice), Known::Bad("again".into()));
        memos.forget(b"a:1");
        assert_eq!(memos.recall(b"a:1", minute), Known::Nothing);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_note_that_is_renewed_is_never_unread() {
        let folder = std::env::temp_dir().join(format!("hg-memo-w-{}", std::process::id()));
        let memos = Memos::new(Some(&folder));
        memos.note(b"a", "refused");
        let minute = |_| Duration::from_secs(60);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for times in 0..2_000 {
                    memos.write(b"a", times, Standing::Failed, "refused");
                }
            });
            while !writer.is_finished() {
                assert_eq!(memos.recall(b"a", minute), Known::Bad("refused".into()));
            }
        });
        fs::remove_dir_all(folder).unwrap();
    }
}
