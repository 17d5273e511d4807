//! Short-lived notes between hgbuild processes: a grid that failed a moment
//! ago is not asked again by each of a build's thousand compiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hg_proto::secure::atomic_file::TEMPORARY_SUFFIX;
use hg_proto::wire::digest::Digest;

use crate::private;

/// Bytes of words in a note.
const WORDS_BYTES_MAX: usize = 4096;
/// Age at which a note says nothing any more.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Notes in a folder before those that say nothing any more are removed.
const NOTES_MAX: usize = 256;
/// How the name of a note begins.
const NAME: &str = "memo-";
/// How long a brief note counts: of what will be back soon, and to ask costs little.
const BRIEF: Duration = Duration::from_millis(500);

/// Notes in a folder; without one, nothing is remembered.
#[derive(Debug, Clone)]
pub struct Memos {
    folder: Option<PathBuf>,
}

/// What is known under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: go and try.
    Nothing,
    /// The subject was bad lately: these words say how.
    Bad(String),
    /// The subject was bad a while ago. The caller tries; others keep away meanwhile.
    Retry,
    /// The subject was bad, and somebody had an answer since: who finds it good says so, by
    /// [`Memos::forget`].
    Answered,
}

/// Whether somebody is at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The last attempt failed; nobody has tried again.
    Failed,
    /// A process tries again.
    Tried,
    /// There was an answer again; whether all is good again will show.
    Answered,
}

struct Note {
    age: Duration,
    times: u32,
    standing: Standing,
    brief: bool,
    words: String,
}

impl Memos {
    /// In `folder`.
    pub fn new(folder: Option<&Path>) -> Self {
        Memos {
            folder: folder.map(Path::to_path_buf),
        }
    }

    /// What was noted about `key`. `lasts` says how long a note counts that
    /// was renewed so many times.
    pub fn recall(&self, key: &[u8], lasts: impl Fn(u32) -> Duration) -> Known {
        let Some(note) = self.read(key) else {
            return Known::Nothing;
        };
        let lasts = match note.brief {
            true => BRIEF,
            false => lasts(note.times),
        };
        if note.standing == Standing::Answered {
            return Known::Answered;
        }
        if note.age < lasts {
            return Known::Bad(note.words);
        }
        let standing = Standing::Tried;
        self.write(key, &Note { standing, ..note });
        Known::Retry
    }

    /// Whether anything is noted about `key`, however old: somebody else tries it again.
    pub fn has_note(&self, key: &[u8]) -> bool {
        self.read(key).is_some()
    }

    /// Notes `words` about `key`, from now on. Those of one burst, who all
    /// went to try before the first of them had failed, count once.
    pub fn note(&self, key: &[u8], words: &str) {
        self.note_briefly(key, words, 0);
    }

    /// The same, but it counts for half a second alone, the first `times_max` times that
    /// this happens in a row: of what is expected back.
    pub fn note_briefly(&self, key: &[u8], words: &str, times_max: u32) {
        self.renew(key, words, |times_before| {
            let times = times_before.saturating_add(1);
            (times, times <= times_max)
        });
    }

    /// Notes that what `key` stands for is away, for half a second: of what will be back, however long
    /// that takes. What went wrong before that is another story.
    pub fn note_absence(&self, key: &[u8], words: &str) {
        self.renew(key, words, |_| (0, true));
    }

    /// Writes a note whose times and brevity are those that `count` makes of the times so
    /// far.
    fn renew(&self, key: &[u8], words: &str, count: impl Fn(u32) -> (u32, bool)) {
        let times_before = match self.read(key) {
            Some(note) if note.standing == Standing::Failed => return,
            Some(note) => note.times,
            None => {
                self.remove_forgotten();
                0
            }
        };
        let (times, brief) = count(times_before);
        let note = Note {
            age: Duration::ZERO,
            times,
            standing: Standing::Failed,
            brief,
            words: words.to_owned(),
        };
        self.write(key, &note);
    }

    /// What was noted briefly answers: nobody needs to keep away from it. How often that
    /// was is kept until [`Memos::forget`].
    pub fn answered(&self, key: &[u8]) {
        if let Some(note) = self.read(key).filter(|note| note.brief) {
            let standing = Standing::Answered;
            self.write(key, &Note { standing, ..note });
        }
    }

    fn read(&self, key: &[u8]) -> Option<Note> {
        let path = self.path(key)?;
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
        let (brief, head) = match head.strip_suffix('!') {
            Some(head) => (true, head),
            None => (false, head),
        };
        let (standing, times) = match (head.strip_suffix('?'), head.strip_suffix('+')) {
            (Some(times), _) => (Standing::Tried, times),
            (_, Some(times)) => (Standing::Answered, times),
            (None, None) => (Standing::Failed, head),
        };
        Some(Note {
            age,
            times: times.parse().ok()?,
            standing,
            brief,
            words: words.to_owned(),
        })
    }

    fn write(&self, key: &[u8], note: &Note) {
        let (Some(folder), Some(path)) = (&self.folder, self.path(key)) else {
            return;
        };
        let mark = match note.standing {
            Standing::Failed => "",
            Standing::Tried => "?",
            Standing::Answered => "+",
        };
        let brief = if note.brief { "!" } else { "" };
        let cut = note.words.floor_char_boundary(WORDS_BYTES_MAX);
        let text = format!("{}{mark}{brief} {}", note.times, &note.words[..cut]);
        // Renamed into place: whoever reads meanwhile sees the old note or the
        // new one, not an empty file, which would send it to the grid.
        let put = || private::replace(&path, text.as_bytes());
        if put().is_err() && private::make(folder).is_ok() {
            // Without a note the next process finds out by itself.
            let _ = put();
        }
    }

    /// Where there are many notes, removes the forgotten ones, and what killed processes left
    /// of theirs: each source that is once refused has a note, and may never have another.
    fn remove_forgotten(&self) {
        let folder = self.folder.as_ref();
        let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
        let is_note = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            name.starts_with(NAME.as_bytes()) || name.ends_with(TEMPORARY_SUFFIX.as_bytes())
        };
        let notes = entries.into_iter().flatten().flatten().filter(is_note);
        let notes: Vec<fs::DirEntry> = notes.collect();
        if notes.len() < NOTES_MAX {
            return;
        }
        for note in notes {
            let modified = note.metadata().and_then(|meta| meta.modified());
            if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FORGOTTEN)) {
                let _ = fs::remove_file(note.path());
            }
        }
    }

    /// Takes a note back.
    pub fn forget(&self, key: &[u8]) {
        if let Some(path) = self.path(key) {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, key: &[u8]) -> Option<PathBuf> {
        let name = &Digest::of(key).to_hex()[..24];
        Some(self.folder.as_ref()?.join(format!("{NAME}{name}")))
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
    fn what_is_noted_briefly_is_tried_soon_and_by_one() {
        let folder = std::env::temp_dir().join(format!("hg-memo-b-{}", std::process::id()));
        let memos = Memos::new(Some(&folder));
        let minute = |_| Duration::from_secs(60);
        let age = |by: Duration| {
            let path = memos.path(b"a").unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - by).unwrap();
        };
        for times in 1..=3 {
            memos.note_briefly(b"a", "gone", 2);
            assert_eq!(memos.recall(b"a", minute), Known::Bad("gone".into()));
            age(BRIEF);
            if times > 2 {
                assert_eq!(memos.recall(b"a", minute), Known::Bad("gone".into()));
                continue;
            }
            assert_eq!(memos.recall(b"a", minute), Known::Retry);
            // Who comes while it is tried keeps away.
            assert_eq!(memos.recall(b"a", minute), Known::Bad("gone".into()));
            memos.answered(b"a");
            assert_eq!(memos.recall(b"a", minute), Known::Answered);
        }
        // Who went away and came back is not on the way to a long one.
        age(Duration::from_secs(61));
        assert_eq!(memos.recall(b"a", minute), Known::Retry);
        memos.note_absence(b"a", "nobody listens");
        age(BRIEF);
        assert_eq!(memos.recall(b"a", minute), Known::Retry);
        memos.note_briefly(b"a", "gone", 1);
        age(BRIEF);
        assert_eq!(memos.recall(b"a", minute), Known::Retry);
        memos.note_briefly(b"a", "gone", 1);
        // A long one is not taken back by an answer.
        memos.answered(b"a");
        assert_eq!(memos.recall(b"a", minute), Known::Bad("gone".into()));
        memos.forget(b"a");
        assert_eq!(memos.recall(b"a", minute), Known::Nothing);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn forgotten_notes_go_where_there_are_many() {
        let folder = std::env::temp_dir().join(format!("hg-memo-m-{}", std::process::id()));
        let memos = Memos::new(Some(&folder));
        let count = || fs::read_dir(&folder).unwrap().count();
        let subject = |number: usize| number.to_be_bytes();
        private::make(&folder).unwrap();
        fs::write(folder.join("headers"), "").unwrap();
        let old = SystemTime::now() - FORGOTTEN - Duration::from_secs(1);
        for number in 0..NOTES_MAX {
            let file = fs::File::create(memos.path(&subject(number)).unwrap()).unwrap();
            if number > 1 {
                file.set_modified(old).unwrap();
            }
        }
        assert_eq!(count(), NOTES_MAX + 1);
        memos.note(&subject(NOTES_MAX), "refused");
        assert_eq!(
            count(),
            4,
            "the young notes, the new one, and what is no note"
        );
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
                    let note = Note {
                        age: Duration::ZERO,
                        times,
                        standing: Standing::Failed,
                        brief: false,
                        words: "refused".into(),
                    };
                    memos.write(b"a", &note);
                }
            });
            while !writer.is_finished() {
                assert_eq!(memos.recall(b"a", minute), Known::Bad("refused".into()));
            }
        });
        fs::remove_dir_all(folder).unwrap();
    }
}
