//! How well a worker can stand for the compiler of this machine. Pure.

use hg_proto::compiler::toolchain::revision;
use hg_proto::v1::{Toolchain, Worker};
use hg_proto::wire::digest::Digest;

use crate::grid::equivalence::{self, Trials};

/// What a worker makes of this machine's compiles, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grade {
    /// Its own toolchain has the same content.
    Same {
        /// It takes source and headers as they are, and with them debug information.
        tree: bool,
    },
    /// A container image of its operator's has a toolchain of the same content.
    Container {
        /// As its operator calls it.
        image: String,
    },
    /// It was given this machine's own.
    Shipped,
    /// It would take this machine's own.
    Shippable,
    /// It has another one, of which trials have shown that it makes the same objects.
    Equivalent {
        /// It takes source and headers as they are, and with them debug information.
        tree: bool,
    },
    /// It has another one of the same release, which nobody has tried.
    Untried {
        /// The two differ by a stable update of their vendor's.
        updated: bool,
    },
    /// It compiles nothing of this machine's.
    None(Unfit),
}

/// Why a worker can't be given a toolchain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// Its machine can't run it: system and architecture.
    Machine(String),
    /// Its sandbox does not hold programs of others: what it has.
    Sandbox(String),
    /// Its operator does not want that.
    Unwanted,
}

impl Grade {
    /// For people and in records: `same`, `container`, `shipped`, `shippable`, `equivalent`,
    /// `untried` or `none`.
    pub fn name(&self) -> &'static str {
        match self {
            Grade::Same { .. } => "same",
            Grade::Container { .. } => "container",
            Grade::Shipped => "shipped",
            Grade::Shippable => "shippable",
            Grade::Equivalent { .. } => "equivalent",
            Grade::Untried { .. } => "untried",
            Grade::None(_) => "none",
        }
    }

    /// Why it is not a better one, and what would make it one.
    pub fn words(&self) -> String {
        match self {
            Grade::Same { tree: true } => "compiles with its own".to_owned(),
            Grade::Same { tree: false } => {
                "compiles with its own, but nothing with -g: that takes the full sandbox, and the \
                 compiler at the same place"
                    .to_owned()
            }
            Grade::Container { image } => format!("compiles with that of its image {image}"),
            Grade::Shipped => "compiles with what it was given".to_owned(),
            Grade::Shippable => {
                "has another one, or at another place, and takes this one: 'hgbuild ship'"
                    .to_owned()
            }
            Grade::Equivalent { tree: true } => {
                "compiles with its own, of another build, which makes the same objects".to_owned()
            }
            Grade::Equivalent { tree: false } => {
                "compiles with its own, of another build, which makes the same objects; nothing \
                 with -g: from preprocessed text alone"
                    .to_owned()
            }
            Grade::Untried { updated: false } => {
                "has one of another build: 'hgbuild ship' tries whether it makes the same objects"
                    .to_owned()
            }
            Grade::Untried { updated: true } => {
                "has one that differs by a stable update: 'hgbuild ship --updates' tries it all \
                 the same"
                    .to_owned()
            }
            Grade::None(Unfit::Machine(machine)) => {
                format!("is {machine}, which can't run this one")
            }
            Grade::None(Unfit::Sandbox(sandbox)) => format!(
                "has another one, and its sandbox ({sandbox}) does not hold compilers of others; \
                 its log says what it lacks"
            ),
            Grade::None(Unfit::Unwanted) => {
                "has another one, and runs none of others (--toolchains own)".to_owned()
            }
        }
    }
}

/// A toolchain of this machine, as workers may know it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its identity wherever it lies.
    pub plain: Toolchain,
    /// Its identity where it lies, for the tree form.
    pub tree: Toolchain,
    /// What stands for all its files, if it was packed.
    pub shipment: Option<Digest>,
    /// What trials have shown of others in the text form, and in the tree form.
    pub trials: [Trials; 2],
}

/// What `worker` makes of compiles with `toolchain` for a client on `machine`: its system
/// and architecture.
pub fn grade(worker: &Worker, toolchain: &Known, machine: (&str, &str)) -> Grade {
    let own = worker
        .toolchains
        .iter()
        .filter(|known| known.shipment.is_empty() && known.digest == toolchain.plain.digest);
    // At another place it finds other headers beside itself.
    let own = own.map(|known| (known.tree_digests.contains(&toolchain.tree.digest), known));
    let own = own.max_by_key(|(tree, known)| (*tree, known.image.is_empty()));
    let image = own.map_or("", |(_, known)| &known.image);
    let own = own.map(|(tree, _)| tree);
    let is_shipped = toolchain.shipment.is_some_and(|digest| {
        let mut given = worker.toolchains.iter();
        given.any(|known| known.shipment == digest.as_bytes())
    });
    let other = another(worker, toolchain);
    let is_like_here = (&*worker.os, &*worker.architecture) == machine;
    match own {
        Some(true) if !image.is_empty() => Grade::Container {
            image: image.to_owned(),
        },
        Some(true) => Grade::Same { tree: true },
        _ if is_shipped => Grade::Shipped,
        Some(false) if worker.shipping.is_empty() => match other {
            Some(Grade::Equivalent { tree: true }) => Grade::Same { tree: true },
            _ => Grade::Same { tree: false },
        },
        Some(false) => Grade::Shippable,
        None if let Some(Grade::Equivalent { tree: true }) = other => {
            Grade::Equivalent { tree: true }
        }
        None if is_like_here && !worker.shipping.is_empty() => Grade::Shippable,
        None if let Some(grade) = other => grade,
        None if !is_like_here => {
            let machine = format!("{} {}", worker.os, worker.architecture);
            Grade::None(Unfit::Machine(machine))
        }
        None if worker.sandbox != "full" => Grade::None(Unfit::Sandbox(worker.sandbox.clone())),
        None => Grade::None(Unfit::Unwanted),
    }
}

/// In what the compiler of `worker` that is most like `toolchain` differs from it, as far as
/// the two say so. `None`: it has none of that version.
pub fn difference(worker: &Worker, toolchain: &Known) -> Option<String> {
    let own = &toolchain.plain;
    let is_alike = |other: &&Toolchain| {
        other.shipment.is_empty()
            && (other.family, other.language) == (own.family, own.language)
            && other.version == own.version
            && other.digest != own.digest
    };
    let alike = worker.toolchains.iter().filter(is_alike);
    let other = alike.max_by_key(|other| other.target == own.target)?;
    let (theirs, ours) = (revision(&other.release), revision(&own.release));
    Some(match (other.target == own.target, theirs == ours) {
        (false, _) => format!("its own is for {}", other.target),
        (true, false) => format!("its own is {theirs}, this one {ours}"),
        (true, true) => {
            format!("its own is {theirs} too, with another assembler or another library")
        }
    })
}

/// What `worker` makes of compiles by another toolchain that is as good, or may be.
fn another(worker: &Worker, toolchain: &Known) -> Option<Grade> {
    let own = worker.toolchains.iter();
    let others = own.filter(|other| {
        other.shipment.is_empty() && equivalence::may_be_equal(&toolchain.plain, other, true)
    });
    let [text, tree] = &toolchain.trials;
    let mut best = None;
    for other in others {
        let in_tree = other.tree_digests.iter().map(|digest| tree.verdict(digest));
        let in_tree: Vec<Option<bool>> = in_tree.collect();
        let in_text = text.verdict(&other.digest);
        if in_tree.contains(&Some(true)) {
            return Some(Grade::Equivalent { tree: true });
        }
        if in_text == Some(true) {
            best = Some(Grade::Equivalent { tree: false });
        } else if in_text.is_none() || in_tree.contains(&None) {
            let updated = !equivalence::may_be_equal(&toolchain.plain, other, false);
            best = best.or(Some(Grade::Untried { updated }));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_the_packages() {
        let gcc = |digest: u8, target: &str, revision: &str| Toolchain {
            version: "12.2.0".into(),
            target: target.into(),
            release: format!("gcc version 12.2.0 ({revision})"),
            digest: vec![digest; 32],
            ..Toolchain::default()
        };
        let own = gcc(1, "x86_64-linux-gnu", "Debian 12.2.0-14+deb12u1");
        let known = Known {
            tree: own.clone(),
            plain: own,
            shipment: None,
            trials: Default::default(),
        };
        let of = |toolchains: &[Toolchain]| {
            let worker = Worker {
                toolchains: toolchains.to_vec(),
                ..Worker::default()
            };
            difference(&worker, &known).unwrap_or_default()
        };
        let cross = gcc(2, "aarch64-linux-gnu", "Debian 12.2.0-14");
        assert_eq!(
            of(std::slice::from_ref(&cross)),
            "its own is for aarch64-linux-gnu"
        );
        assert_eq!(
            of(&[cross, gcc(3, "x86_64-linux-gnu", "Debian 12.2.0-14")]),
            "its own is Debian 12.2.0-14, this one Debian 12.2.0-14+deb12u1"
        );
        let same = gcc(4, "x86_64-linux-gnu", "Debian 12.2.0-14+deb12u1");
        assert!(of(&[same]).contains("another assembler"));
        let mut newer = gcc(5, "x86_64-linux-gnu", "Debian 14.2.0-19");
        newer.version = "14.2.0".into();
        assert_eq!(of(&[newer, gcc(1, "x86_64-linux-gnu", "")]), "");
    }

    #[test]
    fn grades() {
        let machine = ("linux", "x86_64");
        let toolchain = |digest: u8, tree: bool, shipment: &[u8]| Toolchain {
            digest: vec![digest; 32],
            tree,
            shipment: shipment.to_vec(),
            tree_digests: Vec::from_iter(tree.then(|| vec![digest + 100; 32])),
            ..Toolchain::default()
        };
        let shipment = Digest::of(b"shipment");
        let known = Known {
            plain: toolchain(1, false, &[]),
            tree: toolchain(101, true, &[]),
            shipment: Some(shipment),
            trials: Default::default(),
        };
        let with = |toolchains: &[Toolchain]| Worker {
            os: "linux".into(),
            architecture: "x86_64".into(),
            sandbox: "full".into(),
            shipping: vec![9; 32],
            toolchains: toolchains.to_vec(),
            ..Worker::default()
        };
        let of = |worker: &Worker| grade(worker, &known, machine);
        let other = toolchain(2, true, &[]);
        assert_eq!(of(&with(std::slice::from_ref(&other))), Grade::Shippable);
        let own = with(&[other.clone(), toolchain(1, true, &[])]);
        assert_eq!(of(&own), Grade::Same { tree: true });
        let mut text = with(&[toolchain(1, false, &[])]);
        assert_eq!(of(&text), Grade::Shippable);
        text.shipping.clear();
        assert_eq!(of(&text), Grade::Same { tree: false });
        let mut elsewhere = toolchain(1, true, &[]);
        elsewhere.tree_digests = vec![vec![7; 32]];
        assert_eq!(of(&with(&[elsewhere])), Grade::Shippable);
        let mut contained = toolchain(1, true, &[]);
        contained.image = "cross:1".to_owned();
        let image = "cross:1".to_owned();
        let both = with(&[contained.clone(), toolchain(1, true, &[])]);
        assert_eq!(of(&with(&[contained])), Grade::Container { image });
        assert_eq!(of(&both), Grade::Same { tree: true });
        let given = toolchain(3, true, shipment.as_bytes());
        assert_eq!(of(&with(&[given])), Grade::Shipped);
        let anothers = toolchain(1, true, Digest::of(b"another's").as_bytes());
        assert_eq!(of(&with(&[anothers])), Grade::Shippable);
        let mut far = with(&[other]);
        far.architecture = "aarch64".into();
        let said = of(&far).words();
        assert_eq!(said, "is linux aarch64, which can't run this one");
        let mut closed = with(&[]);
        closed.shipping.clear();
        assert_eq!(of(&closed), Grade::None(Unfit::Unwanted));
        closed.sandbox = "folder".into();
        assert_eq!(of(&closed), Grade::None(Unfit::Sandbox("folder".into())));
    }
}
