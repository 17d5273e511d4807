//! A toolchain that travels: the list of all its files, what is well formed about it, and
//! the digest that stands for it. Pure. Whoever asks for a toolchain by that digest gets
//! these very files at these very paths, whoever brought them: nobody else's list has it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::compiler::toolchain::{Family, Language};
use crate::v1::{Shipment, ShippedFile, shipped_file::Kind};
use crate::wire::digest::Digest;
use crate::wire::limits::{
    FILE_NAME_BYTES_MAX, INPUT_BYTES_MAX, PATH_BYTES_MAX, SHIPMENT_BYTES_MAX, SHIPMENT_FILES_MAX,
};
use crate::wire::plain_path::{above, collision, is_plain};

/// Where nothing of a toolchain's may be: a sandbox has something of its own there.
const RESERVED: [&[u8]; 4] = [b"/task", b"/dev", b"/proc", b"/sys"];

/// Folders that one path may go through.
const DEPTH_MAX: usize = 64;
/// Folders of one shipment, with those that lead to them.
const FOLDERS_MAX: usize = 4096;
/// Bytes of a version, a triple, an architecture: they stand in each Hello of a worker.
const TEXT_BYTES_MAX: usize = 64;

/// The digest that stands for `shipment`.
pub fn digest(shipment: &Shipment) -> Digest {
    Digest::of(&shipment.encode_to_vec())
}

/// The contents of a shipment's files: bytes by digest. One content may have several
/// paths, and travels once.
pub fn contents(shipment: &Shipment) -> BTreeMap<Digest, u64> {
    let content = |file: &ShippedFile| match &file.kind {
        Some(Kind::Digest(digest)) => Some((Digest::try_from(&digest[..]).ok()?, file.size)),
        _ => None,
    };
    shipment.files.iter().filter_map(content).collect()
}

/// Checks what anybody can check of a shipment.
///
/// # Errors
/// What is wrong, for whoever sent it.
pub fn check(shipment: &Shipment) -> Result<(), String> {
    let ensure = |holds: bool, why: &str| match holds {
        true => Ok(()),
        false => Err(format!("shipment: {why}")),
    };
    ensure(
        Family::from_wire(shipment.family()).is_some(),
        "unknown family",
    )?;
    ensure(
        Language::from_wire(shipment.language()).is_some(),
        "unknown language",
    )?;
    let texts = [
        &shipment.version,
        &shipment.target,
        &shipment.architecture,
        &shipment.mathematics,
        &shipment.os,
    ];
    ensure(
        texts.iter().all(|text| text.len() <= TEXT_BYTES_MAX),
        "a name too long",
    )?;
    let files = &shipment.files;
    ensure(files.len() <= SHIPMENT_FILES_MAX, "too many files")?;
    ensure(
        files.is_sorted_by(|a, b| a.path < b.path),
        "not sorted by path",
    )?;
    for file in files {
        check_file(file).map_err(|why| {
            let path = String::from_utf8_lossy(&file.path);
            format!("shipment: {path:.128}: {why}")
        })?;
    }
    let is_driver = |file: &ShippedFile| {
        file.path == shipment.driver && matches!(file.kind, Some(Kind::Digest(_) | Kind::Link(_)))
    };
    ensure(files.iter().any(is_driver), "without its driver")?;
    let above = files.iter().flat_map(|file| above(&file.path));
    ensure(
        above.collect::<BTreeSet<_>>().len() <= FOLDERS_MAX,
        "too many folders",
    )?;
    let (folders, leaves): (Vec<_>, Vec<_>) = files
        .iter()
        .partition(|file| matches!(file.kind, Some(Kind::Folder(_))));
    fn path(file: &ShippedFile) -> &[u8] {
        &file.path
    }
    let collides = collision(leaves.into_iter().map(path), folders.into_iter().map(path));
    ensure(collides.is_none(), "a file in place of a folder")?;
    let mut sizes = BTreeMap::new();
    let mut bytes = 0_u64;
    for file in files {
        let Some(Kind::Digest(digest)) = &file.kind else {
            continue;
        };
        match sizes.insert(digest, file.size) {
            None => bytes += file.size,
            Some(other) => ensure(other == file.size, "one content of two sizes")?,
        }
    }
    ensure(bytes <= SHIPMENT_BYTES_MAX, "too large")
}

fn check_file(file: &ShippedFile) -> Result<(), String> {
    let path = &file.path[..];
    if path.len() > PATH_BYTES_MAX || !is_plain(path) {
        return Err("not an absolute, plain path".into());
    }
    let names = || path.split(|byte| *byte == b'/');
    if names().any(|name| name.len() > FILE_NAME_BYTES_MAX) {
        return Err("a name too long".into());
    }
    if names().count() > DEPTH_MAX {
        return Err("too deep".into());
    }
    let is_reserved = |folder: &&[u8]| {
        let rest = path.strip_prefix(*folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if RESERVED.iter().any(is_reserved) {
        return Err("a place of the sandbox's own".into());
    }
    match &file.kind {
        Some(Kind::Digest(digest)) => {
            Digest::try_from(&digest[..]).map_err(|error| error.to_string())?;
            match file.size <= INPUT_BYTES_MAX {
                true => Ok(()),
                false => Err("too large".into()),
            }
        }
        Some(Kind::Link(target)) => {
            let fits = !target.is_empty() && target.len() <= PATH_BYTES_MAX;
            match fits && !target.contains(&0) {
                true => Ok(()),
                false => Err("a link that leads nowhere".into()),
            }
        }
        Some(Kind::Folder(_) | Kind::Mark(_)) => Ok(()),
        None => Err("of no known kind".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    fn file(path: &str, kind: Kind) -> ShippedFile {
        ShippedFile {
            path: path.into(),
            size: u64::from(matches!(kind, Kind::Digest(_))),
            kind: Some(kind),
        }
    }

    fn content(text: &str) -> Kind {
        Kind::Digest(Digest::of(text.as_bytes()).as_bytes().to_vec())
    }

    fn good() -> Shipment {
        Shipment {
            family: v1::Family::Gcc.into(),
            language: v1::Language::C.into(),
            driver: b"/usr/bin/gcc".into(),
            files: vec![
                file("/lib", Kind::Link(b"usr/lib".into())),
                file("/usr/bin/gcc", Kind::Link(b"gcc-12".into())),
                file("/usr/bin/gcc-12", content("driver")),
                file("/usr/lib/cc1", content("cc1")),
                file("/usr/lib/same", content("cc1")),
                file("/usr/lib/gcc/12", Kind::Folder(true)),
            ]
            .into_iter()
            .collect::<Vec<_>>(),
            ..Shipment::default()
        }
        .sorted()
    }

    impl Shipment {
        fn sorted(mut self) -> Self {
            self.files.sort_by(|a, b| a.path.cmp(&b.path));
            self
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let shipment = good();
        assert_eq!(check(&shipment), Ok(()));
        assert_eq!(contents(&shipment).len(), 2);
        type Spoil = fn(&mut Shipment);
        let spoils: [(&str, Spoil); 14] = [
            ("unknown family", |s| s.family = 7),
            ("unknown language", |s| s.language = 0),
            ("a name too long", |s| s.target = "x".repeat(65)),
            ("too deep", |s| {
                s.files[0].path = "/a".repeat(65).into();
            }),
            ("not sorted", |s| s.files.swap(0, 1)),
            ("not sorted", |s| s.files[1] = s.files[0].clone()),
            ("without its driver", |s| s.driver = b"/usr/bin/cc".into()),
            ("plain path", |s| s.files[0].path = b"/../lib".into()),
            ("of the sandbox's own", |s| {
                s.files.insert(0, file("/dev/null", content("x")));
            }),
            ("of no known kind", |s| s.files[0].kind = None),
            ("32 bytes", |s| {
                s.files[2].kind = Some(Kind::Digest(vec![1; 31]));
            }),
            ("leads nowhere", |s| {
                s.files[0].kind = Some(Kind::Link(vec![]))
            }),
            ("in place of a folder", |s| {
                s.files.insert(1, file("/lib/cc1", content("cc1")));
            }),
            ("of two sizes", |s| s.files[5].size = 2),
        ];
        for (why, spoil) in spoils {
            let mut shipment = good();
            spoil(&mut shipment);
            let said = check(&shipment).expect_err(why);
            assert!(said.contains(why), "{said}, not {why}");
        }
        let mut large = good();
        for file in large.files.iter_mut().filter(|file| file.size > 0) {
            file.size = INPUT_BYTES_MAX;
        }
        assert_eq!(check(&large), Ok(()));
        for at in 0..3 {
            let mut more = file(&format!("/z{at}"), content(&at.to_string()));
            more.size = INPUT_BYTES_MAX;
            large.files.push(more);
        }
        assert_eq!(check(&large), Err("shipment: too large".to_owned()));
    }

    #[test]
    fn another_place_or_kind_is_another_digest() {
        let known = digest(&good());
        let mut moved = good();
        moved.files[5].path.push(b'x');
        assert_ne!(digest(&moved), known);
        let mut linked = good();
        linked.files[0].kind = Some(Kind::Link(b"usr/lib64".into()));
        assert_ne!(digest(&linked), known);
    }
}
