//! Answers that cost running a compiler, remembered on disk: a file for each question, in
//! a folder of this user's alone. Each carries its digest; a damaged one is no answer.
//! Not to remember costs time, nothing else. With I/O.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::secure::{atomic_file, private};
use crate::wire::digest::Digest;

/// Bytes of one answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The answer in `file`, if there is one and it is whole.
pub fn recall(file: &Path) -> Option<Vec<u8>> {
    let file = private::open_plain(File::options().read(true), file).ok()?;
    let mut bytes = Vec::with_capacity(file.metadata().ok()?.len().min(ANSWER_BYTES_MAX) as usize);
    file.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let (digest, answer) = bytes.split_first_chunk::<{ Digest::LEN }>()?;
    let is_whole = Digest::of(answer).as_bytes() == digest;
    is_whole.then(|| answer.to_vec())
}

/// Keeps `answer` in `file`, whose folder is made if need be, and emptied before if it has
/// `files_max` files.
///
/// # Errors
/// As the file system says.
pub fn remember(file: &Path, answer: &[u8], files_max: usize) -> io::Result<()> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    private::make_folder(folder)?;
    if fs::read_dir(folder)?.count() >= files_max {
        for entry in fs::read_dir(folder)? {
            fs::remove_file(entry?.path())?;
        }
    }
    atomic_file::replace_with(file, 0o600, |file| {
        file.write_all(Digest::of(answer).as_bytes())?;
        file.write_all(answer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_come_back() {
        let folder = std::env::temp_dir().join(format!("hg-memos-{}", std::process::id()));
        let file = folder.join("a/question");
        assert_eq!(recall(&file), None);
        for answer in [&b"answer"[..], b""] {
            remember(&file, answer, 4).unwrap();
            assert_eq!(recall(&file).as_deref(), Some(answer));
        }
        remember(&file, b"answer", 4).unwrap();
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).unwrap();
            assert_eq!(recall(&file), None, "byte {at}");
            fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(recall(&file), None, "cut at {at}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_folder_is_emptied() {
        let folder = std::env::temp_dir().join(format!("hg-memos-full-{}", std::process::id()));
        let file = |number: usize| folder.join(number.to_string());
        for number in 0..5 {
            remember(&file(number), b"answer", 4).unwrap();
            assert!(recall(&file(number)).is_some());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_pipe_or_a_link_in_its_place_is_no_answer() {
        let folder = std::env::temp_dir().join(format!("hg-memos-pipe-{}", std::process::id()));
        remember(&folder.join("answer"), b"answer", 4).unwrap();
        nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("answer", folder.join("link")).unwrap();
        assert_eq!(recall(&folder.join("pipe")), None);
        assert_eq!(recall(&folder.join("link")), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
