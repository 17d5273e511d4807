//! An entry's file while it is written: it appears under its name only when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::secure::atomic_file::temporary_name;

use crate::disk::team_folder;
use crate::disk::{own_device, unnamed_file};

/// An entry that no other process sees yet.
#[derive(Debug)]
pub struct Draft {
    file: File,
    dir: PathBuf,
    /// The temporary file's path; `None`: the file has no name, and vanishes with this
    /// process.
    temporary: Option<PathBuf>,
}

impl Draft {
    /// Starts one in folder `dir`, which is made if need be.
    pub fn new(dir: &Path) -> io::Result<Draft> {
        match Self::start(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                team_folder::make_within(dir)?;
                Self::start(dir)
            }
            other => other,
        }
    }

    fn start(dir: &Path) -> io::Result<Draft> {
        // To name it later takes /proc.
        if Path::new("/proc/self/fd").exists()
            && let Ok(file) = unnamed_file::create(dir, team_folder::file_mode(dir))
        {
            return Ok(Draft {
                file,
                dir: dir.to_path_buf(),
                temporary: None,
            });
        }
        let path = dir.join(temporary_name());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(team_folder::file_mode(dir))
            .open(&path)?;
        Ok(Draft {
            file,
            dir: dir.to_path_buf(),
            temporary: Some(path),
        })
    }

    /// The file to write into.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the file at `path`, in the place of an older one.
    pub fn place(&mut self, path: &Path) -> io::Result<()> {
        own_device::arrived(&self.file)?;
        if self.temporary.is_none() {
            match unnamed_file::name(&self.file, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
            // No call both names a file and takes another's place.
            let temporary = self.dir.join(temporary_name());
            unnamed_file::name(&self.file, &temporary)?;
            self.temporary = Some(temporary);
        }
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, path)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // An old one is found by its age.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn seen_when_whole_and_takes_a_place() {
        let dir = std::env::temp_dir().join(format!("hg-draft-{}", std::process::id()));
        let names = || fs::read_dir(&dir).unwrap().count();
        let path = dir.join("entry");
        for (round, nameless) in [true, false, true, false].into_iter().enumerate() {
            let mut draft = Draft::new(&dir).unwrap();
            if !nameless && draft.temporary.is_none() {
                let temporary = dir.join(temporary_name());
                draft.file = File::create(&temporary).unwrap();
                draft.temporary = Some(temporary);
            }
            write!(draft.file(), "{round}").unwrap();
            draft.place(&path).unwrap();
            drop(draft);
            assert_eq!(fs::read_to_string(&path).unwrap(), round.to_string());
            assert_eq!(names(), 1);
        }
        drop(Draft::new(&dir).unwrap());
        assert_eq!(names(), 1, "what is not placed vanishes");
        fs::remove_dir_all(dir).unwrap();
    }
}
