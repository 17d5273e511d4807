//! The file with the key that coordinators of one backend share.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hg_proto::secure::credentials::write_private;
use hg_proto::secure::private;
use ring::rand::{SecureRandom, SystemRandom};

use crate::backend::sealed::Secret;
use crate::bounds::BACKEND_KEY_FILE_BYTES_MAX;

/// Its name in the state folder, where the operator names no other.
pub const FILE: &str = "cache-backend.key";
/// What the line begins with, so that another file is not taken for it.
const LABEL: &str = "hybridgrid-cache-key-1 ";

/// The key in the file at `path`; made there if `may_make` and there is none. The second:
/// whether it was.
///
/// # Errors
/// In words: it can't be read or made, it is no key, or others may read it.
pub fn load(path: &Path, may_make: bool) -> Result<(Secret, bool), String> {
    let shown = path.display();
    let mut options = OpenOptions::new();
    let file = match private::open_plain(options.read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => {
            return make(path).map(|secret| (secret, true));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "{shown}: there is no such file; copy {FILE} from the state folder of a \
                 coordinator that uses the backend"
            ));
        }
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    let told = |error: io::Error| format!("{shown}: {error}");
    private::check_file(path, &file.metadata().map_err(told)?)?;
    let mut text = String::new();
    let mut file = file.take(BACKEND_KEY_FILE_BYTES_MAX);
    file.read_to_string(&mut text).map_err(told)?;
    let secret = parse(&text).ok_or_else(|| {
        format!(
            "{shown}: no key of a cache backend; copy {FILE} from the state folder of another \
             coordinator, or remove it to have one made"
        )
    })?;
    Ok((secret, false))
}

fn parse(text: &str) -> Option<Secret> {
    let key = STANDARD.decode(text.trim().strip_prefix(LABEL)?).ok()?;
    key.try_into().ok().map(Secret::new)
}

fn make(path: &Path) -> Result<Secret, String> {
    let mut key = [0; 32];
    let random = SystemRandom::new().fill(&mut key);
    random.map_err(|_| "the system gives no random numbers".to_owned())?;
    let line = format!("{LABEL}{}\n", STANDARD.encode(key));
    let written = write_private(path, line.as_bytes());
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_and_is_its_user_s_alone() {
        let folder = std::env::temp_dir().join(format!("hg-backend-key-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let path = folder.join(FILE);
        assert!(load(&path, false).unwrap_err().contains("no such file"));
        let (made, is_new) = load(&path, true).unwrap();
        assert!(is_new);
        let (read, is_new) = load(&path, true).unwrap();
        assert!(!is_new && read.name() == made.name());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(load(&path, true).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for wrong in ["", "hybridgrid-cache-key-1 AAAA\n", "a token"] {
            fs::write(&path, wrong).unwrap();
            assert!(load(&path, true).unwrap_err().contains("no key"));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
